#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "../../layer/soft_moe.hpp"
#include "../expert.hpp"
#include "../gate/scores.hpp"
#include "../linear.hpp"

namespace moe::inline MOE_ABI::reference {

struct SoftMoEGradients {
    std::vector<Vector> x{};             // of each token
    std::vector<Vector> router_input{};  // of each token, apart from x
    Vector slots{};
    std::vector<ExpertGradients> experts{};
    double scale = 0;
};

/// Of u = to_unit_length(v) with the gradient du of u: r (du - u <u, du>), r = 1 / sqrt(sum v^2 + 1e-6).
[[nodiscard]] inline Vector to_unit_length_backward(const Vector& v, const Vector& du) {
    const Vector u = to_unit_length(v);
    const double r = 1 / std::sqrt(dot(v, v) + 1e-6);
    const double along = dot(u, du);
    Vector dv(v.size());
    for (std::size_t i = 0; i < v.size(); ++i) {
        dv[i] = r * (du[i] - u[i] * along);
    }
    return dv;
}

/// Of forward(layer, x, router_input), with the gradient dy of each token's output. With the logits L (tokens, slots),
/// D their softmax over the tokens, C over the slots, Z = D^T x, Y = f(Z), y = C Y:
///
///     dC = dy Y^T, dY = C^T dy, dZ by the experts, dD = x dZ^T, dL = dC through C + dD through D
[[nodiscard]] inline SoftMoEGradients backward(const SoftMoE& layer, const std::vector<Vector>& x,
                                               const std::vector<Vector>& router_input, const std::vector<Vector>& dy) {
    SoftMoEGradients gradients{{}, {}, Vector(layer.slots.size(), 0.0), {}, 0};
    for (const Expert& expert : layer.experts) {
        gradients.experts.push_back(zero_gradients(expert));
    }
    if (x.empty()) {
        return gradients;
    }
    const std::size_t n_tokens = x.size();
    const std::size_t d_router = router_input[0].size();
    const std::size_t n_slots = layer.slots.size() / d_router;
    const auto direction = [&](const Vector& v) { return layer.normalize ? to_unit_length(v) : v; };
    const auto direction_backward = [&](const Vector& v, const Vector& d) {
        return layer.normalize ? to_unit_length_backward(v, d) : d;
    };
    gradients.x.assign(n_tokens, Vector(layer.d_model, 0.0));
    std::vector<Vector> product(n_tokens, Vector(n_slots));    // u . v
    std::vector<Vector> combine(n_tokens, Vector(n_slots));    // C
    std::vector<Vector> d_combine(n_tokens, Vector(n_slots));  // dC
    std::vector<Vector> d_logits(n_tokens, Vector(n_slots));   // dL
    for (std::size_t t = 0; t < n_tokens; ++t) {
        for (std::size_t s = 0; s < n_slots; ++s) {
            product[t][s] = dot(direction(row_of(layer.slots, s, d_router)), direction(router_input[t]));
            combine[t][s] = layer.scale * product[t][s];
        }
        combine[t] = softmax(combine[t]);
    }
    for (std::size_t s = 0; s < n_slots; ++s) {
        Vector dispatch(n_tokens);
        for (std::size_t t = 0; t < n_tokens; ++t) {
            dispatch[t] = layer.scale * product[t][s];
        }
        dispatch = softmax(dispatch);
        Vector input(layer.d_model, 0.0);
        Vector d_output(layer.d_model, 0.0);
        for (std::size_t t = 0; t < n_tokens; ++t) {
            add_scaled(input, dispatch[t], x[t]);
            add_scaled(d_output, combine[t][s], dy[t]);
        }
        const std::size_t e = s * layer.experts.size() / n_slots;
        const Vector output = run(layer.experts[e], input);
        const Vector d_input = backward(layer.experts[e], input, d_output, gradients.experts[e]);
        Vector d_dispatch(n_tokens);
        for (std::size_t t = 0; t < n_tokens; ++t) {
            d_combine[t][s] = dot(dy[t], output);
            d_dispatch[t] = dot(x[t], d_input);
            add_scaled(gradients.x[t], dispatch[t], d_input);
        }
        d_dispatch = softmax_backward(dispatch, d_dispatch);
        for (std::size_t t = 0; t < n_tokens; ++t) {
            d_logits[t][s] = d_dispatch[t];
        }
    }
    std::vector<Vector> d_slots(n_slots, Vector(d_router, 0.0));  // of their directions
    for (std::size_t t = 0; t < n_tokens; ++t) {
        add_scaled(d_logits[t], 1, softmax_backward(combine[t], d_combine[t]));
        gradients.scale += dot(d_logits[t], product[t]);
        Vector d_read(d_router, 0.0);
        for (std::size_t s = 0; s < n_slots; ++s) {
            add_scaled(d_read, layer.scale * d_logits[t][s], direction(row_of(layer.slots, s, d_router)));
            add_scaled(d_slots[s], layer.scale * d_logits[t][s], direction(router_input[t]));
        }
        gradients.router_input.push_back(direction_backward(router_input[t], d_read));
    }
    for (std::size_t s = 0; s < n_slots; ++s) {
        const Vector d_slot = direction_backward(row_of(layer.slots, s, d_router), d_slots[s]);
        for (std::size_t i = 0; i < d_router; ++i) {
            gradients.slots[s * d_router + i] = d_slot[i];
        }
    }
    return gradients;
}

}  // namespace moe::inline MOE_ABI::reference
