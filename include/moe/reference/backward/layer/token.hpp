#pragma once

#include <algorithm>
#include <cstddef>

#include "../expert.hpp"
#include "../linear.hpp"
#include "gradients.hpp"
#include "null_expert.hpp"

namespace moe::inline MOE_ABI::reference {

/// What a token gives back that went through experts: the gradients of its weights, one a choice, and of itself.
struct TokenGradient {
    Vector weights{};
    Vector x{};
};

/// Of add_expert(layer, e, w, x, sum), with the gradient dy of the sum.
[[nodiscard]] inline ChoiceGradient add_expert_backward(const Layer& layer, std::size_t e, double w, const Vector& x,
                                                        const Vector& dy, LayerGradients& gradients) {
    const std::size_t identity = layer.experts.size() + layer.n_zero;
    const std::size_t constant = identity + layer.n_identity;
    if (e < layer.experts.size()) {
        return backward_weighted(layer.experts[e], w, layer.weight_at_input, x, dy, gradients.experts[e]);
    }
    if (e >= constant && !layer.mixes.empty()) {
        const std::size_t c = e - constant;
        return backward_mixed(layer.constants[c], layer.mixes[c], w, x, dy, gradients.constants[c], gradients.mixes[c]);
    }
    if (e >= constant) {
        return backward_constant(layer.constants[e - constant], w, dy, gradients.constants[e - constant]);
    }
    ChoiceGradient result{0, Vector(x.size(), 0.0)};
    if (e >= identity) {
        result.weight = dot(x, dy);
        add_scaled(result.x, w, dy);
    }
    return result;
}

/// Of the shared experts, whose sum gets `dy`: adds to the gradients, and to that of the token.
inline void shared_backward(const Layer& layer, const Vector& x, const Vector& dy, LayerGradients& gradients,
                            Vector& dx) {
    const bool gated = layer.shared_mode == Shared::gated;
    Vector d_gates(layer.shared.size(), 0.0);
    for (std::size_t s = 0; s < layer.shared.size(); ++s) {
        const double gate = gated ? sigmoid(dot(row_of(layer.shared_gate, s, x.size()), x)) : 1;
        const ChoiceGradient one = backward_weighted(layer.shared[s], gate, false, x, dy, gradients.shared[s]);
        add_scaled(dx, 1, one.x);
        d_gates[s] = one.weight * gate * (1 - gate);
    }
    if (gated) {
        Vector no_bias;
        add_scaled(dx, 1, linear_backward(layer.shared_gate, x, d_gates, gradients.shared_gate, no_bias));
    }
}

/// Of combine(layer, choice, x), with the gradient dy (d_model) of what it gives: adds the gradients of all parameters
/// but the router's. A choice with a negative entry takes part in nothing, its weight gets 0.
[[nodiscard]] inline TokenGradient combine_backward(const Layer& layer, const Choice& choice, const Vector& x,
                                                    const Vector& dy, LayerGradients& gradients) {
    const double half = layer.shared_mode == Shared::average && !layer.shared.empty() ? 0.5 : 1;
    Vector d_routed(layer.d_model, 0.0);
    Vector d_shared(layer.d_model, 0.0);
    add_scaled(d_routed, half * layer.routed_scale, dy);
    add_scaled(d_shared, half, dy);
    TokenGradient result{Vector(choice.experts.size(), 0.0), Vector(layer.d_model, 0.0)};
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        if (choice.experts[slot] >= 0) {
            const ChoiceGradient one = add_expert_backward(layer, static_cast<std::size_t>(choice.experts[slot]),
                                                           choice.weights[slot], x, d_routed, gradients);
            result.weights[slot] = one.weight;
            add_scaled(result.x, 1, one.x);
        }
    }
    const bool routed_somewhere =
        std::any_of(choice.experts.begin(), choice.experts.end(), [](ExpertId e) { return e >= 0; });
    add_scaled(result.x, layer.pass_unrouted && !routed_somewhere ? 1 : 0, dy);
    shared_backward(layer, x, d_shared, gradients, result.x);
    add_scaled(gradients.output_bias, 1, dy);
    return result;
}

}  // namespace moe::inline MOE_ABI::reference
