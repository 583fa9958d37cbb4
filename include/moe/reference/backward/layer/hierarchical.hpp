#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "../../layer/hierarchical.hpp"
#include "../gate/gate.hpp"
#include "../linear.hpp"

namespace moe::inline MOE_ABI::reference {

/// Of a TokenLayer: (x, dy) -> dx. It adds the gradients of its own parameters where it keeps them.
using TokenBackward = std::function<Vector(const Vector& x, const Vector& dy)>;

/// Of layer(x), one token: gives the gradient of x, adds that of the router. `groups` are the gradients of
/// layer.groups.
[[nodiscard]] inline Vector backward(const Hierarchical& layer, const std::vector<TokenBackward>& groups,
                                     const Vector& x, const Vector& dy, Vector& d_router) {
    const Vector logits = linear(layer.router, {}, x, layer.groups.size());
    const Choice choice = route(layer.rule, logits);
    Vector dx(x.size(), 0.0);
    Vector d_weights;
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        const auto g = static_cast<std::size_t>(choice.experts[slot]);
        Vector d_output(dy.size(), 0.0);
        add_scaled(d_output, choice.weights[slot], dy);
        d_weights.push_back(dot(layer.groups[g](x), dy));
        add_scaled(dx, 1, groups[g](x, d_output));
    }
    Vector no_bias;
    const Vector d_logits = gate_backward(layer.rule, logits, choice, d_weights);
    add_scaled(dx, 1, linear_backward(layer.router, x, d_logits, d_router, no_bias));
    return dx;
}

}  // namespace moe::inline MOE_ABI::reference
