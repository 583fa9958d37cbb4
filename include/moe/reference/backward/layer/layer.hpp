#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "../gate/gate.hpp"
#include "../linear.hpp"
#include "gradients.hpp"
#include "token.hpp"

/// The gradients of a whole layer: of sum over t of <dy_t, y_t>, y = forward(layer, x, router_input).
namespace moe::inline MOE_ABI::reference {

/// From the gradient of the weights of token t to that of its logits: (t, logits, d_weights) -> d_logits.
using GateBackward = std::function<Vector(std::size_t, const Vector&, const Vector&)>;

/// The logits of one token: as many as the router has rows, which gates that read two an expert say.
[[nodiscard]] inline Vector router_logits(const Layer& layer, const Vector& router_input) {
    const std::size_t rows = router_input.empty() ? 0 : layer.router.size() / router_input.size();
    return linear(layer.router, layer.router_bias, router_input, rows);
}

/// With any gate: `choices`, one a token, as it made them; `gate` is its gradient. `d_logits_extra` (n_tokens, or none)
/// is added to the gradient of the logits: that of losses. A token that is not `valid` (n_tokens, or empty: all are) is
/// padding: it goes to no expert but the shared ones, is not passed on, and gives its logits nothing.
///
/// `router_input` is x itself, the same object, where the router reads that.
[[nodiscard]] inline LayerGradients backward(const Layer& layer, const Vector& x, const Vector& router_input,
                                             const Vector& dy, const std::vector<Choice>& choices,
                                             const GateBackward& gate, const std::vector<Vector>& d_logits_extra = {},
                                             const std::vector<bool>& valid = {}) {
    const std::size_t n_tokens = choices.size();
    const std::size_t d_router = n_tokens == 0 ? 0 : router_input.size() / n_tokens;
    LayerGradients gradients = zero_gradients(layer);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const bool padding = !valid.empty() && !valid[t];
        const Vector read = row_of(router_input, t, d_router);
        const Vector logits = router_logits(layer, read);
        Layer of_token = layer;
        of_token.pass_unrouted = layer.pass_unrouted && !padding;
        TokenGradient token = combine_backward(of_token, padding ? Choice{} : choices[t], row_of(x, t, layer.d_model),
                                               row_of(dy, t, layer.d_model), gradients);
        Vector d_logits(logits.size(), 0.0);
        if (!padding) {
            d_logits = gate(t, logits, token.weights);
            add_scaled(d_logits, d_logits_extra.empty() ? 0 : 1, d_logits_extra.empty() ? logits : d_logits_extra[t]);
        }
        const Vector d_read = linear_backward(layer.router, read, d_logits, gradients.router, gradients.router_bias);
        if (&router_input == &x) {
            add_scaled(token.x, 1, d_read);
        } else {
            gradients.router_input.insert(gradients.router_input.end(), d_read.begin(), d_read.end());
        }
        gradients.x.insert(gradients.x.end(), token.x.begin(), token.x.end());
        gradients.weights.push_back(token.weights);
        gradients.logits.push_back(d_logits);
    }
    return gradients;
}

/// With the rule of the layer, as forward(layer, x, router_input) chooses.
[[nodiscard]] inline LayerGradients backward(const Layer& layer, const Vector& x, const Vector& router_input,
                                             const Vector& dy, const std::vector<Vector>& d_logits_extra = {}) {
    const std::size_t n_tokens = layer.d_model == 0 ? 0 : x.size() / layer.d_model;
    const std::size_t d_router = n_tokens == 0 ? 0 : router_input.size() / n_tokens;
    std::vector<Choice> choices;
    for (std::size_t t = 0; t < n_tokens; ++t) {
        choices.push_back(route(layer, row_of(router_input, t, d_router)));
    }
    const auto of_rule = [&](std::size_t t, const Vector& logits, const Vector& d_weights) {
        return gate_backward(layer.rule, logits, choices[t], d_weights);
    };
    LayerGradients gradients = backward(layer, x, router_input, dy, choices, of_rule, d_logits_extra);
    for (std::size_t t = 0; t < n_tokens && !layer.rule.per_expert_scale.empty(); ++t) {
        const Vector logits = router_logits(layer, row_of(router_input, t, d_router));
        add_scaled(gradients.per_expert_scale, 1,
                   per_expert_scale_backward(layer.rule, logits, choices[t], gradients.weights[t]));
    }
    return gradients;
}

}  // namespace moe::inline MOE_ABI::reference
