// No #pragma once: instantiate_train.hpp declares what is listed here, train_definitions.hpp defines it.
// For each compute type: the backward pass of a MoELayer, and what it is made of.

namespace moe::inline MOE_ABI {

#define MOE_INSTANTIATE_TRAIN(T)                                                                                       \
    MOE_INSTANTIATE void add_outer<T>(const OuterRows<T>&, const OuterRows<T>&, const OuterTarget<T>&,                 \
                                      const OuterScratch<T>&) noexcept;                                                \
    MOE_INSTANTIATE void detail::differentiate_strip<T, AnyForm>(const AnyForm&, const HiddenStrip<T>&);               \
    MOE_INSTANTIATE void detail::differentiate_strip<T, Gated<Silu>>(const Gated<Silu>&, const HiddenStrip<T>&);       \
    MOE_INSTANTIATE class detail::LoraPhase<T>;                                                                        \
    MOE_INSTANTIATE class detail::StripPhase<T>;                                                                       \
    MOE_INSTANTIATE class detail::TokenPhase<T>;                                                                       \
    MOE_INSTANTIATE class detail::InputPhase<T>;                                                                       \
    MOE_INSTANTIATE class detail::ParameterPhase<T>;                                                                   \
    MOE_INSTANTIATE class MutableStack<T>;                                                                             \
    MOE_INSTANTIATE class Tape<T>;                                                                                     \
    MOE_INSTANTIATE class TapeRecorder<T>;                                                                             \
    MOE_INSTANTIATE class BackwardPass<T>

MOE_INSTANTIATE_TRAIN(float);
MOE_INSTANTIATE_TRAIN(double);
#undef MOE_INSTANTIATE_TRAIN

}  // namespace moe::inline MOE_ABI
