#pragma once

#include <cstddef>
#include <limits>

#include "../../strategies/sparse_mixer.hpp"
#include "gate.hpp"

namespace moe::inline MOE_ABI::reference {

/// Of sparse_mixer: each round is a softmax of its own; what is masked in it, and that the first expert is gone in the
/// second, are constants. `d_weights` (2), of the rounds. In training only the forward pass is another: the weights
/// are those of the experts drawn, times a number that takes no part in the gradient.
[[nodiscard]] inline Vector sparse_mixer_backward(const Vector& logits, double jitter, const Choice& choice,
                                                  const Vector& d_weights) {
    Vector dl(logits.size(), 0.0);
    Vector left = logits;
    for (std::size_t round = 0; round < choice.experts.size(); ++round) {
        const auto chosen = static_cast<std::size_t>(choice.experts[round]);
        const Vector p = softmax(unmasked(left, jitter));
        Vector dp(logits.size(), 0.0);
        dp[chosen] = d_weights[round];
        const Vector of_round = softmax_backward(p, dp);
        for (std::size_t e = 0; e < dl.size(); ++e) {
            dl[e] += of_round[e];
        }
        left[chosen] = -std::numeric_limits<double>::infinity();
    }
    return dl;
}

}  // namespace moe::inline MOE_ABI::reference
