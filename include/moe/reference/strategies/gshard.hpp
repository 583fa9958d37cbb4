#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../../core/random.hpp"
#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

enum class Second { all, sampling, random, random_of_two };

/// Probability that the second of two experts is kept, of their softmax probabilities.
[[nodiscard]] inline double chance_of_second(Second policy, double p1, double p2) {
    if (policy == Second::random || policy == Second::random_of_two) {
        const double share = policy == Second::random ? p2 : p2 / (p1 + p2);
        return 2 * share;
    }
    return 1;
}

/// The two candidates of a token with their softmax probabilities.
[[nodiscard]] inline Choice two_experts(Second policy, const Vector& logits, std::uint64_t stream) {
    Choice choice{top_k(logits, 2), {}};
    if (policy == Second::sampling) {
        Vector noisy = logits;
        for (std::size_t e = 0; e < logits.size(); ++e) {
            noisy[e] += -std::log(-std::log(random_open_uniform(stream, e)));
        }
        const std::vector<ExpertId> order = top_k(noisy, noisy.size());
        choice.experts[1] = order[0] == choice.experts[0] ? order[1] : order[0];
    }
    const Vector p = softmax(logits);
    for (const ExpertId e : choice.experts) {
        choice.weights.push_back(p[static_cast<std::size_t>(e)]);
    }
    return choice;
}

/// The experts of one token: two, or one where the draw went against the second. The weights are divided by the sum of
/// both if `normalize`.
[[nodiscard]] inline Choice gshard(Second policy, bool normalize, const Vector& logits, std::uint64_t stream) {
    Choice choice = two_experts(policy, logits, stream);
    const double p1 = choice.weights[0];
    const double p2 = choice.weights[1];
    if (normalize) {
        choice.weights = {p1 / (p1 + p2), p2 / (p1 + p2)};
    }
    const double chance = chance_of_second(policy, p1, p2);
    if (policy >= Second::random && !(chance > random_open_uniform(stream, 0))) {
        choice.experts.pop_back();
        choice.weights.pop_back();
    }
    return choice;
}

}  // namespace moe::inline MOE_ABI::reference
