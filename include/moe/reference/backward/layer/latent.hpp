#pragma once

#include <cstddef>
#include <vector>

#include "../../layer/latent.hpp"
#include "layer.hpp"

namespace moe::inline MOE_ABI::reference {

/// Of the sizes of Latent's members; `inner` has the gradients of what the router read.
struct LatentGradients {
    Vector x{};  // (n_tokens, d_model), apart from what the router read
    Vector in{};
    Vector in_bias{};
    LayerGradients inner{};
    Vector out{};
    Vector out_bias{};
    std::vector<ExpertGradients> shared{};
};

/// Of forward(layer, x, router_input), token by token: x, dy (n_tokens, d_model), router_input (n_tokens, d_router).
[[nodiscard]] inline LatentGradients backward(const Latent& layer, const Vector& x, const Vector& router_input,
                                              const Vector& dy) {
    const std::size_t d_latent = layer.inner.d_model;
    const std::size_t d = d_latent == 0 ? 0 : layer.out.size() / d_latent;
    const std::size_t n_tokens = d == 0 ? 0 : x.size() / d;
    const std::size_t d_router = n_tokens == 0 ? 0 : router_input.size() / n_tokens;
    const auto zeros = [](const Vector& parameter) { return Vector(parameter.size(), 0.0); };
    LatentGradients sum{
        Vector(x.size(), 0.0), zeros(layer.in), zeros(layer.in_bias), {}, zeros(layer.out), zeros(layer.out_bias), {}};
    for (const Expert& shared : layer.shared) {
        sum.shared.push_back(zero_gradients(shared));
    }
    Vector latent;
    Vector d_routed;
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const Vector row = linear(layer.in, layer.in_bias, row_of(x, t, d), d_latent);
        const Vector routed = combine(layer.inner, route(layer.inner, row_of(router_input, t, d_router)), row);
        const Vector d_row = linear_backward(layer.out, routed, row_of(dy, t, d), sum.out, sum.out_bias);
        latent.insert(latent.end(), row.begin(), row.end());
        d_routed.insert(d_routed.end(), d_row.begin(), d_row.end());
    }
    sum.inner = backward(layer.inner, latent, router_input, d_routed);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const Vector token = row_of(x, t, d);
        Vector dx = linear_backward(layer.in, token, row_of(sum.inner.x, t, d_latent), sum.in, sum.in_bias);
        for (std::size_t s = 0; s < layer.shared.size(); ++s) {
            add_scaled(dx, 1, backward(layer.shared[s], token, row_of(dy, t, d), sum.shared[s]));
        }
        for (std::size_t i = 0; i < d; ++i) {
            sum.x[t * d + i] = dx[i];
        }
    }
    return sum;
}

}  // namespace moe::inline MOE_ABI::reference
