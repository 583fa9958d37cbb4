#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../../core/random.hpp"
#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// The best n experts of a token and their shares of the softmax.
[[nodiscard]] inline Choice shares_of_best(const Vector& logits, std::size_t n) {
    Choice choice{top_k(logits, n), {}};
    const Vector p = softmax(logits);
    double sum = 0;
    for (const ExpertId e : choice.experts) {
        choice.weights.push_back(p[static_cast<std::size_t>(e)]);
        sum += choice.weights.back();
    }
    for (double& share : choice.weights) {
        share /= sum < 1e-9 ? 1e-9 : sum;
    }
    return choice;
}

/// The best one, and each other whose share is above the threshold or wins its draw of share / threshold.
[[nodiscard]] inline Choice top_n_threshold(const Vector& logits, std::size_t n, double threshold, bool deterministic,
                                            std::uint64_t stream) {
    const Choice best = shares_of_best(logits, n);
    Choice choice;
    for (std::size_t slot = 0; slot < n; ++slot) {
        const double share = best.weights[slot];
        const bool wins = random_open_uniform(stream, slot) < share / (std::max)(threshold, 1e-9);
        if (slot == 0 || (deterministic ? share > threshold : wins)) {
            choice.experts.push_back(best.experts[slot]);
            choice.weights.push_back(share);
        }
    }
    return choice;
}

}  // namespace moe::inline MOE_ABI::reference
