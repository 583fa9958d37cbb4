// No #pragma once: instantiate.hpp declares what is listed here, definitions.hpp defines it.
// For each compute type: passes, and what products are made of. For each storage type and format: its products and how
// it is packed.

namespace moe::inline MOE_ABI {

// ---- compute types -------------------------------------------------------------------------------------------------

#define MOE_INSTANTIATE_COMPUTE(T)                                                                                     \
    MOE_INSTANTIATE void multiply_gathered<T>(RowPointers, std::size_t, std::size_t, const PanelScratch<T>&,           \
                                              const GatheredPanels<T>&);                                               \
    MOE_INSTANTIATE void detail::apply_form_to_rows<T, AnyForm>(                                                       \
        const AnyForm&, const PanelLayout<T>&, const ActivationFormat<T>&, std::size_t, std::size_t,                   \
        std::span<const T>, const T*, const T*, std::byte*, std::size_t);                                              \
    MOE_INSTANTIATE void detail::apply_form_to_rows<T, Gated<Silu>>(                                                   \
        const Gated<Silu>&, const PanelLayout<T>&, const ActivationFormat<T>&, std::size_t, std::size_t,               \
        std::span<const T>, const T*, const T*, std::byte*, std::size_t);                                              \
    MOE_INSTANTIATE class detail::ExpertCall<T>;                                                                       \
    MOE_INSTANTIATE PlanView<T> build_plan<T>(MatrixView<const ExpertId>, MatrixView<const T>, std::size_t,            \
                                              const PlanStorage<T>&);                                                  \
    MOE_INSTANTIATE void check_plan<T>(const PlanView<T>&);                                                            \
    MOE_INSTANTIATE class RoutingPlan<T>;                                                                              \
    MOE_INSTANTIATE struct PassMemory<T>;                                                                              \
    MOE_INSTANTIATE struct PassLayer<T>;                                                                               \
    MOE_INSTANTIATE class detail::LogitsPhase<T>;                                                                      \
    MOE_INSTANTIATE class detail::GatingPhase<T>;                                                                      \
    MOE_INSTANTIATE void detail::make_plan<T>(PassState<T>&);                                                          \
    MOE_INSTANTIATE class detail::HiddenPhase<T>;                                                                      \
    MOE_INSTANTIATE class detail::OutputPhase<T>;                                                                      \
    MOE_INSTANTIATE class BasicForwardPass<T>

MOE_INSTANTIATE_COMPUTE(float);
MOE_INSTANTIATE_COMPUTE(double);
#undef MOE_INSTANTIATE_COMPUTE

// ---- storage types of weights, and what multiplies with them -------------------------------------------------------

#define MOE_INSTANTIATE_STORAGE(W)                                                                                     \
    MOE_INSTANTIATE void multiply_packed<W>(RowPointers, std::size_t, const PackedPanels&,                             \
                                            const PanelScratch<ComputeType<W>>&);                                      \
    MOE_INSTANTIATE void multiply_views<W>(RowPointers, std::size_t, std::size_t, const PanelScratch<ComputeType<W>>&, \
                                           FunctionRef<PanelView<W>(std::size_t)>);                                    \
    MOE_INSTANTIATE void detail::pack_columns<W, ComputeType<W>>(                                                      \
        const WeightStack<W>&, std::size_t, std::size_t, std::size_t, std::size_t, std::size_t, ComputeType<W>*);      \
    MOE_INSTANTIATE PanelLayout<ComputeType<W>> detail::check_weights<W>(bool, const ExpertWeights<W>&);               \
    MOE_INSTANTIATE void detail::multiply_hidden<W>(const ExpertWeights<W>&, std::size_t, PanelRange, RowPointers,     \
                                                    const PanelScratch<ComputeType<W>>&);                              \
    MOE_INSTANTIATE void detail::multiply_output<W>(const ExpertWeights<W>&, std::size_t, PanelRange, RowPointers,     \
                                                    const PanelScratch<ComputeType<W>>&);                              \
    MOE_INSTANTIATE void detail::gather_hidden_bias<W>(const ExpertWeights<W>&, std::size_t, std::size_t,              \
                                                       ComputeType<W>*);                                               \
    MOE_INSTANTIATE void detail::gather_output_bias<W>(const ExpertWeights<W>&, std::size_t, std::size_t,              \
                                                       ComputeType<W>*);                                               \
    MOE_INSTANTIATE class Linear<W>

MOE_INSTANTIATE_STORAGE(float);
MOE_INSTANTIATE_STORAGE(double);
MOE_INSTANTIATE_STORAGE(bfloat16);
MOE_INSTANTIATE_STORAGE(float16);
#undef MOE_INSTANTIATE_STORAGE

// packing into a format from a storage type
#define MOE_INSTANTIATE_PACK(F, W)                                                                                     \
    MOE_INSTANTIATE void detail::pack_experts<F, ExpertWeights<W>>(const ExpertWeights<W>&, const PackedLayout<F>&,    \
                                                                   std::byte*, const ExecutorRef&)

MOE_INSTANTIATE_PACK(float, float);
MOE_INSTANTIATE_PACK(bfloat16, float);
MOE_INSTANTIATE_PACK(float16, float);
MOE_INSTANTIATE_PACK(Int8, float);
MOE_INSTANTIATE_PACK(Int4, float);
MOE_INSTANTIATE_PACK(double, double);
MOE_INSTANTIATE_PACK(bfloat16, bfloat16);
MOE_INSTANTIATE_PACK(Int8, bfloat16);
MOE_INSTANTIATE_PACK(Int4, bfloat16);
MOE_INSTANTIATE_PACK(float16, float16);
MOE_INSTANTIATE_PACK(Int8, float16);
MOE_INSTANTIATE_PACK(Int4, float16);
#undef MOE_INSTANTIATE_PACK

#define MOE_INSTANTIATE_QUANTIZED(F)                                                                                   \
    MOE_INSTANTIATE void multiply_dequantized<F>(RowPointers, std::size_t, const PackedPanels&,                        \
                                                 const PanelScratch<float>&);                                          \
    MOE_INSTANTIATE void multiply_quantized<F>(RowPointers, std::size_t, const PackedPanels&,                          \
                                               const PanelScratch<float>&);                                            \
    MOE_INSTANTIATE void encode_group<F>(const float*, std::size_t, std::byte*) noexcept

MOE_INSTANTIATE_QUANTIZED(Int8);
MOE_INSTANTIATE_QUANTIZED(Int4);
#undef MOE_INSTANTIATE_QUANTIZED

#if MOE_BFLOAT16_PRODUCTS
#define MOE_INSTANTIATE_BFLOAT16(F)                                                                                    \
    MOE_INSTANTIATE void multiply_bfloat16<F>(RowPointers, std::size_t, const PackedPanels&, const PanelScratch<float>&)

MOE_INSTANTIATE_BFLOAT16(bfloat16);
MOE_INSTANTIATE_BFLOAT16(float16);
MOE_INSTANTIATE_BFLOAT16(Int8);
MOE_INSTANTIATE_BFLOAT16(Int4);
#undef MOE_INSTANTIATE_BFLOAT16
#endif

MOE_INSTANTIATE void BlockPanels::multiply<void>(RowPointers, std::size_t, const PackedPanels&,
                                                 const PanelScratch<float>&) const;
MOE_INSTANTIATE void BlockPanels::multiply_integers<void>(RowPointers, std::size_t, const PackedPanels&,
                                                          const PanelScratch<float>&) const;
MOE_INSTANTIATE void BlockPanels::multiply_rounded<void>(RowPointers, std::size_t, const PackedPanels&,
                                                         const PanelScratch<float>&) const;
MOE_INSTANTIATE void multiply_turned_blocks<void>(RowPointers, std::size_t, std::size_t, const PanelScratch<float>&,
                                                  FunctionRef<TurnedPanel(std::size_t)>);

// ---- layers whose gate, form and format are known when the program runs
// ----------------------------------------------

MOE_INSTANTIATE void MoEConfig::validate<void>() const;
MOE_INSTANTIATE AnyGate MoEConfig::make_gate<void>(Borrowed<const float>, MatrixView<const std::int32_t>,
                                                   Borrowed<const float>) const;

#define MOE_INSTANTIATE_GATE(S)                                                                                        \
    MOE_INSTANTIATE struct TokenChoice<S>;                                                                             \
    MOE_INSTANTIATE int TokenChoice<S>::select<float>(std::span<const float>, BasicSelection<float>) const;            \
    MOE_INSTANTIATE int TokenChoice<S>::select<double>(std::span<const double>, BasicSelection<double>) const

MOE_INSTANTIATE_GATE(Softmax);
MOE_INSTANTIATE_GATE(Sigmoid);
MOE_INSTANTIATE_GATE(RuntimeScore);
#undef MOE_INSTANTIATE_GATE

#define MOE_INSTANTIATE_PARTS(W)                                                                                       \
    MOE_INSTANTIATE class WeightStack<W>;                                                                              \
    MOE_INSTANTIATE class ExpertBank<W, AnyForm>;                                                                      \
    MOE_INSTANTIATE class SharedExperts<ExpertBank<W, AnyForm>>;                                                       \
    MOE_INSTANTIATE class Router<W, AnyGate>

MOE_INSTANTIATE_PARTS(float);
MOE_INSTANTIATE_PARTS(double);
MOE_INSTANTIATE_PARTS(bfloat16);
MOE_INSTANTIATE_PARTS(float16);
#undef MOE_INSTANTIATE_PARTS

// storage types of the experts and of the router
#define MOE_INSTANTIATE_LAYER(...)                                                                                     \
    MOE_INSTANTIATE class LayerCalls<ConfiguredLayer<__VA_ARGS__>, ConfiguredLayer<__VA_ARGS__>::value_type>;          \
    MOE_INSTANTIATE class MoELayer<ConfiguredLayer<__VA_ARGS__>::router_type,                                          \
                                   ConfiguredLayer<__VA_ARGS__>::experts_type>;                                        \
    MOE_INSTANTIATE ConfiguredLayer<__VA_ARGS__> make_layer(const MoEConfig&, const LayerWeights<__VA_ARGS__>&);       \
    MOE_INSTANTIATE AnyLayer<ConfiguredLayer<__VA_ARGS__>::value_type>::AnyLayer(ConfiguredLayer<__VA_ARGS__>);        \
    MOE_INSTANTIATE AnyLayer<ConfiguredLayer<__VA_ARGS__>::value_type> detail::pack_as(                                \
        const ConfiguredLayer<__VA_ARGS__>&, Format, const ExecutorRef&, Compute)

MOE_INSTANTIATE_LAYER(float, float);
MOE_INSTANTIATE_LAYER(double, double);
MOE_INSTANTIATE_LAYER(bfloat16, bfloat16);
MOE_INSTANTIATE_LAYER(bfloat16, float);
MOE_INSTANTIATE_LAYER(float16, float16);
#undef MOE_INSTANTIATE_LAYER

}  // namespace moe::inline MOE_ABI
