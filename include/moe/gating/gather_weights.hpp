#pragma once

#include <cstddef>
#include <span>

#include "../core/index.hpp"
#include "normalize.hpp"

namespace moe::inline MOE_ABI::detail {

/// weights[slot] = the score of chosen[slot], normalised over the chosen, times `scale`. O(chosen.size()).
template <class T>
void gather_weights(std::span<const T> scores, std::span<const ExpertId> chosen, const Normalize& normalize,
                    double scale, std::span<T> weights) {
    for (std::size_t slot = 0; slot < chosen.size(); ++slot) {
        weights[slot] = scores[static_cast<std::size_t>(chosen[slot])];
    }
    normalize(weights.first(chosen.size()));
    for (T& weight : weights.first(chosen.size())) {
        weight *= static_cast<T>(scale);
    }
}

}  // namespace moe::inline MOE_ABI::detail
