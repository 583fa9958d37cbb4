#pragma once

#include <type_traits>
#include <utility>

#include "../core/never.hpp"
#include "../experts/expert_bank.hpp"
#include "../experts/joined_experts.hpp"
#include "../experts/lora_experts.hpp"
#include "parts/owned_gradients.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

template <class First, class Second>
[[nodiscard]] BankShape bank_shape(const JoinedExperts<First, Second>& bank);

/// Of a bank over views, or two of them joined: those of packed experts do not say which biases there are.
template <class Bank>
[[nodiscard]] BankShape bank_shape(const Bank& bank) {
    static_assert(
        requires { bank.weights(); },
        "gradients_of: packed experts do not say which biases they have: ask the layer that was packed, its "
        "gradients serve for both");
    if constexpr (requires { bank.weights(); }) {
        const auto& weights = bank.weights();
        return {bank.n_experts(),           bank.layout().d_model,    bank.layout().d_ff,        bank.layout().gated,
                !weights.gate_bias.empty(), !weights.up_bias.empty(), !weights.down_bias.empty()};
    } else {
        return {};
    }
}
template <class First, class Second>
[[nodiscard]] BankShape bank_shape(const JoinedExperts<First, Second>& bank) {
    const BankShape a = detail::bank_shape(bank.first());
    const BankShape b = detail::bank_shape(bank.second());
    return {bank.n_experts(),          a.d_model, a.d_ff, a.gated, a.gate_bias || b.gate_bias, a.up_bias || b.up_bias,
            a.down_bias || b.down_bias};
}

/// Of the adapters alone: the base is frozen.
template <class Base>
[[nodiscard]] BankShape bank_shape(const LoraExperts<Base>& bank) {
    const auto& adapters = bank.adapters();
    BankShape shape{bank.n_experts(), bank.d_model(), bank.d_ff(), bank.layout().gated};
    shape.frozen = true;
    shape.lora = {adapters.gate.rank(), adapters.up.rank(), adapters.down.rank()};
    return shape;
}

template <class Layer>
[[nodiscard]] ParameterShapes parameter_shapes(const Layer& layer) {
    ParameterShapes shapes;
    const auto& linear = layer.router().linear();
    if (layer.router().has_logits()) {
        shapes.n_logits = linear.outputs();
        shapes.d_router = linear.inputs();
        shapes.router_bias = !linear.bias().empty();
    }
    shapes.experts = detail::bank_shape(layer.experts());
    shapes.d_model = shapes.experts.d_model;
    for (const auto& bank : layer.shared().experts()) {
        shapes.shared.push_back(detail::bank_shape(bank));
    }
    shapes.shared_gate = !layer.shared().gate().empty();
    const auto& options = layer.options();
    shapes.output_bias = !options.output_bias.empty();
    shapes.n_constants = options.null_experts.constants.rows();
    shapes.n_mixes = options.null_experts.mixes.rows();
    return shapes;
}

}  // namespace detail

/// Zeros in the shapes of all parameters that the layer has, a MoELayer over views or one under another gate, in the
/// type it computes in; of LoraExperts those of their adapters, views().experts.lora. A router whose gate reads no
/// logits has none. Keeps nothing of the layer. Throws std::bad_alloc.
///
///     moe::OwnedGradients gradients = moe::gradients_of(layer);
///     moe::backward(layer, tape, dy, dx, gradients, workspace);
template <class Layer>
[[nodiscard]] auto gradients_of(const Layer& layer) {
    constexpr bool known = requires { layer.router().linear(), layer.experts(), layer.shared(), layer.options(); };
    static_assert(known,
                  "gradients_of: the layer must be a MoELayer, or one under another gate, whose types are known");
    if constexpr (known) {
        return OwnedGradients<typename Layer::value_type>(detail::parameter_shapes(layer));
    } else {
        return OwnedGradients<float>();
    }
}

}  // namespace moe::inline MOE_ABI
