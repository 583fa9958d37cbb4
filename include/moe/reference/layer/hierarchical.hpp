#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "layer.hpp"

namespace moe::inline MOE_ABI::reference {

/// What a layer makes of one token.
using TokenLayer = std::function<Vector(const Vector& x)>;

/// A mixture whose experts are layers (Shazeer et al. 2017, 1701.06538, appendix B), itself a TokenLayer.
struct Hierarchical {
    Vector router{};  // (groups.size(), d_model)
    TokenChoiceRule rule{};
    std::vector<TokenLayer> groups{};

    Vector operator()(const Vector& x) const {
        const Choice choice = route(rule, linear(router, {}, x, groups.size()));
        Vector y(x.size(), 0.0);
        for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
            add_scaled(y, choice.weights[slot], groups[static_cast<std::size_t>(choice.experts[slot])](x));
        }
        return y;
    }
};

}  // namespace moe::inline MOE_ABI::reference
