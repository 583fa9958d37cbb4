#pragma once

#include <cmath>
#include <cstddef>
#include <limits>

#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// The logits that the softmax of one round of SparseMixer-v2 sees (Liu et al. 2024, 2409.12136): those of `left`, of
/// which those too far below its greatest, m, are -infinity: (m - l) / max(|l|, m) > 2 jitter.
[[nodiscard]] inline Vector unmasked(const Vector& left, double jitter) {
    const double m = left[static_cast<std::size_t>(top_k(left, 1).front())];
    Vector seen = left;
    for (double& l : seen) {
        const double size = std::abs(l) > m ? std::abs(l) : m;
        l = excluded(l) || (m - l) / size > 2 * jitter ? -std::numeric_limits<double>::infinity() : l;
    }
    return seen;
}

/// Two experts a token, in evaluation: in each round the best of those left, weighted with its softmax among those not
/// masked.
[[nodiscard]] inline Choice sparse_mixer(const Vector& logits, double jitter) {
    Choice choice;
    Vector left = logits;
    for (int round = 0; round < 2; ++round) {
        const ExpertId best = top_k(left, 1).front();
        choice.experts.push_back(best);
        choice.weights.push_back(softmax(unmasked(left, jitter))[static_cast<std::size_t>(best)]);
        left[static_cast<std::size_t>(best)] = -std::numeric_limits<double>::infinity();
    }
    return choice;
}

}  // namespace moe::inline MOE_ABI::reference
