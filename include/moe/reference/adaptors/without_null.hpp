#pragma once

#include <cstddef>

#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// A choice without its null experts, those in [first_null, end_null). `renormalize`: the others share the weight of 1.
[[nodiscard]] inline Choice without_null(Choice choice, std::size_t first_null, std::size_t end_null,
                                         bool renormalize) {
    for (std::size_t slot = choice.experts.size(); slot-- > 0;) {
        const auto e = static_cast<std::size_t>(choice.experts[slot]);
        if (first_null <= e && e < end_null) {
            choice.experts.erase(choice.experts.begin() + static_cast<std::ptrdiff_t>(slot));
            choice.weights.erase(choice.weights.begin() + static_cast<std::ptrdiff_t>(slot));
        }
    }
    double sum = 0;
    for (const double w : choice.weights) {
        sum += w;
    }
    if (renormalize && sum > 0) {
        for (double& w : choice.weights) {
            w /= sum;
        }
    }
    return choice;
}

}  // namespace moe::inline MOE_ABI::reference
