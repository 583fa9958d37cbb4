#pragma once

#include <cstddef>
#include <vector>

#include "routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// The scores of the chosen experts, normalised and scaled as `rule` says (nothing else of it is read).
[[nodiscard]] inline Vector chosen_weights(const TokenChoiceRule& rule, const std::vector<ExpertId>& chosen,
                                           const Vector& scores) {
    Vector weights;
    for (const ExpertId e : chosen) {
        weights.push_back(scores[static_cast<std::size_t>(e)]);
    }
    weights = normalized(rule, weights);
    for (std::size_t slot = 0; slot < chosen.size(); ++slot) {
        weights[slot] *= rule.scale;
        if (!rule.per_expert_scale.empty()) {
            weights[slot] *= rule.per_expert_scale[static_cast<std::size_t>(chosen[slot])];
        }
    }
    return weights;
}

}  // namespace moe::inline MOE_ABI::reference
