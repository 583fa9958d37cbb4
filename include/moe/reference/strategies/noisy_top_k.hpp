#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numbers>

#include "../../core/random.hpp"
#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// H(x) = l + N(0, 1) (softplus(n) + 0.01) of one token: its logits are l, then n.
[[nodiscard]] inline Vector noisy_logits(const Vector& logits, std::uint64_t seed, std::uint64_t step,
                                         std::uint64_t position, double least_deviation = 0.01) {
    const std::size_t n_experts = logits.size() / 2;
    Vector h(n_experts);
    for (std::size_t e = 0; e < n_experts; ++e) {
        const double normal = random_normal(random_stream(random_stream(seed, step), position), e);
        h[e] = logits[e] + normal * (softplus(logits[n_experts + e]) + least_deviation);
    }
    return h;
}

/// The k greatest of H, weighted with their softmax.
[[nodiscard]] inline Choice choose_top_k(const Vector& h, std::size_t k) {
    Choice choice{top_k(h, k), {}};
    for (const ExpertId e : choice.experts) {
        choice.weights.push_back(h[static_cast<std::size_t>(e)]);
    }
    choice.weights = softmax(choice.weights);
    return choice;
}

/// The kth greatest of all values but that of expert e, -infinity where there are fewer.
[[nodiscard]] inline double kth_excluding(Vector h, std::size_t k, std::size_t e) {
    h.erase(h.begin() + static_cast<std::ptrdiff_t>(e));
    std::sort(h.begin(), h.end(), std::greater<>());
    return k <= h.size() ? h[k - 1] : -std::numeric_limits<double>::infinity();
}

/// Probability that expert e is among the k greatest once its own noise is drawn anew.
[[nodiscard]] inline double chance_of(const Vector& logits, const Vector& h, std::size_t k, std::size_t e,
                                      double least_deviation = 0.01) {
    const double deviation = softplus(logits[h.size() + e]) + least_deviation;
    return 0.5 * (1 + std::erf((logits[e] - kth_excluding(h, k, e)) / deviation / std::numbers::sqrt2));
}

}  // namespace moe::inline MOE_ABI::reference
