#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../experts/expert_bank.hpp"
#include "../experts/joined_experts.hpp"
#include "../experts/lora_experts.hpp"
#include "../layer/moe_layer.hpp"
#include "parts/owned_gradients.hpp"

/// A layer over a copy of its weights, which may then be changed: the weights that a layer views may be constants.
namespace moe::inline MOE_ABI::detail {

/// The matrices of a stack, if there are any, to those of `to` from expert `first` on.
template <class T>
void copy_stack(const WeightStack<T>& from, std::size_t first, const MutableStack<T>& to) {
    for (std::size_t e = 0; e < from.n_experts(); ++e) {
        const WeightBlock<T> source = from.block(e, 0, from.outputs());
        const auto target = to.matrix(first + e);
        for (std::size_t o = 0; o < from.outputs(); ++o) {
            for (std::size_t i = 0; i < from.inputs(); ++i) {
                target.data[o * target.output_stride + i * target.input_stride] =
                    source.data[o * source.output_stride + i * source.input_stride];
            }
        }
    }
}

/// Experts [first, first + n) of memory in one piece, as weights.
template <class T>
[[nodiscard]] WeightStack<T> as_weights(const MutableStack<T>& stack, std::size_t first, std::size_t n) {
    return stack.empty() ? WeightStack<T>()
                         : stacked(static_cast<const T*>(stack.matrix(first).data), n, stack.outputs(), stack.inputs());
}

/// A bank of the same form over `memory`, its experts from `first` on, into which the weights are copied.
template <class Bank, class T>
[[nodiscard]] auto copy_bank(const Bank& bank, std::size_t first, const ExpertGradients<T>& memory) {
    static_assert(!detail::adapts<Bank>,
                  "check_gradients: of layers with LoRA adapters it does not; merge them and check the layer that is");
    const auto& weights = bank.weights();
    const auto copy = [&](const WeightStack<T>& from, const MutableStack<T>& to) {
        detail::copy_stack(from, first, to);
        return detail::as_weights(to, first, bank.n_experts());
    };
    return ExpertBank<T, std::remove_cvref_t<decltype(bank.form())>>(
        bank.form(), {copy(weights.gate, memory.gate), copy(weights.up, memory.up), copy(weights.down, memory.down),
                      copy(weights.gate_bias, memory.gate_bias), copy(weights.up_bias, memory.up_bias),
                      copy(weights.down_bias, memory.down_bias)});
}
template <class First, class Second, class T>
[[nodiscard]] auto copy_bank(const JoinedExperts<First, Second>& bank, std::size_t first,
                             const ExpertGradients<T>& memory) {
    return JoinedExperts{detail::copy_bank(bank.first(), first, memory),
                         detail::copy_bank(bank.second(), first + bank.first().n_experts(), memory)};
}

template <class Layer, class T>
[[nodiscard]] auto copy_router(const Layer& layer, const LayerGradients<T>& memory) {
    using Gate = std::remove_cvref_t<decltype(layer.router().gate())>;
    if (memory.router.empty()) {  // its gate reads no logits
        return Router<T, Gate>(layer.router().n_experts(), layer.router().gate());
    }
    const auto& linear = layer.router().linear();
    ensure(!linear.is_packed(), ErrorCode::state,
           "check_gradients: the weights of the router are packed: check the layer before it is");
    detail::copy_stack(linear.weight(), 0, memory.router);
    std::copy(linear.bias().begin(), linear.bias().end(), memory.router_bias.begin());
    return Router<T, Gate>(detail::as_weights(memory.router, 0, 1), std::span<const T>(memory.router_bias),
                           layer.router().gate());
}

template <class Layer, class T>
[[nodiscard]] auto copy_shared(const Layer& layer, const LayerGradients<T>& memory) {
    const auto& shared = layer.shared();
    using Bank = decltype(detail::copy_bank(shared.experts().front(), 0, memory.experts));
    if (shared.experts().empty()) {
        return SharedExperts<Bank, T>();
    }
    std::vector<Bank> banks;
    for (std::size_t s = 0; s < shared.experts().size(); ++s) {
        banks.push_back(detail::copy_bank(shared.experts()[s], 0, memory.shared[s]));
    }
    if (shared.gate().empty()) {
        return SharedExperts<Bank, T>(std::move(banks), shared.mode());
    }
    ensure(!shared.gate().is_packed(), ErrorCode::state,
           "check_gradients: the gate of the shared experts is packed: check the layer before it is");
    detail::copy_stack(shared.gate().weight(), 0, memory.shared_gate);
    return SharedExperts<Bank, T>(std::move(banks), detail::as_weights(memory.shared_gate, 0, 1));
}

template <class T>
void copy_rows(const MatrixView<const T>& from, const MatrixView<T>& to) {
    for (std::size_t r = 0; r < from.rows(); ++r) {
        std::copy_n(from.row(r), from.cols(), to.row(r));
    }
}

/// The layer, its gates, forms and settings, over `memory`, made by gradients_of(layer), which gets its weights. What
/// gates keep views of is not copied. Throws Error(state) where a part is packed.
template <class Layer, class T>
[[nodiscard]] auto copy_layer(const Layer& layer, const LayerGradients<T>& memory) {
    LayerOptions<T> options = layer.options();
    std::copy(options.output_bias.begin(), options.output_bias.end(), memory.output_bias.begin());
    options.output_bias = std::span<const T>(memory.output_bias);
    detail::copy_rows(options.null_experts.constants, memory.constants);
    options.null_experts.constants = memory.constants;
    detail::copy_rows(options.null_experts.mixes, memory.mixes);
    options.null_experts.mixes = memory.mixes;
    return MoELayer{detail::copy_router(layer, memory), detail::copy_bank(layer.experts(), 0, memory.experts),
                    detail::copy_shared(layer, memory), options};
}

}  // namespace moe::inline MOE_ABI::detail
