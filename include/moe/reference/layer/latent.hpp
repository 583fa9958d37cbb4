#pragma once

#include <cstddef>
#include <vector>

#include "layer.hpp"

namespace moe::inline MOE_ABI::reference {

/// Routed experts in a space of fewer dimensions, the router and the shared experts outside (Nemotron-H).
struct Latent {
    Vector in{};  // (inner.d_model, d_model)
    Vector in_bias{};
    Layer inner{};  // whose router reads the token itself
    Vector out{};   // (d_model, inner.d_model)
    Vector out_bias{};
    std::vector<Expert> shared{};
};

/// What the layer makes of one token x (d_model), whose router reads `router_input`.
[[nodiscard]] inline Vector forward(const Latent& layer, const Vector& x, const Vector& router_input) {
    const Vector latent = linear(layer.in, layer.in_bias, x, layer.inner.d_model);
    const Vector routed = combine(layer.inner, route(layer.inner, router_input), latent);
    Vector y = linear(layer.out, layer.out_bias, routed, x.size());
    for (const Expert& shared : layer.shared) {
        add_scaled(y, 1, run(shared, x));
    }
    return y;
}

}  // namespace moe::inline MOE_ABI::reference
