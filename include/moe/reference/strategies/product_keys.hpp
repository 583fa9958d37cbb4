#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// Product keys (He 2024, 2407.04153, algorithm 1). logits (2n): expert i n + j has the sum of logit i of the first
/// half and logit j of the second; candidates are the pairs of the k best of each half, chosen are the k best of these.
/// Weights are the softmax of the chosen sums or, where `relu`, max(sum, 0).
[[nodiscard]] inline Choice product_keys(const Vector& logits, std::size_t k, bool relu) {
    const std::size_t n = logits.size() / 2;
    const auto middle = logits.begin() + static_cast<std::ptrdiff_t>(n);
    const Vector first(logits.begin(), middle);
    const Vector second(middle, logits.end());
    std::vector<ExpertId> candidates;
    for (const ExpertId i : top_k(first, (std::min)(k, n))) {
        for (const ExpertId j : top_k(second, (std::min)(k, n))) {
            candidates.push_back(i * static_cast<ExpertId>(n) + j);
        }
    }
    std::sort(candidates.begin(), candidates.end());
    Vector sums;
    for (const ExpertId e : candidates) {
        sums.push_back(first[static_cast<std::size_t>(e) / n] + second[static_cast<std::size_t>(e) % n]);
    }
    Choice choice;
    for (const ExpertId c : top_k(sums, k)) {
        choice.experts.push_back(candidates[static_cast<std::size_t>(c)]);
        choice.weights.push_back(sums[static_cast<std::size_t>(c)]);
    }
    if (!relu) {
        choice.weights = softmax(choice.weights);
    }
    for (double& w : choice.weights) {
        w = w < 0 ? 0 : w;
    }
    return choice;
}

}  // namespace moe::inline MOE_ABI::reference
