#pragma once

#include <cmath>
#include <cstddef>

#include "../../routing.hpp"
#include "../linear.hpp"

namespace moe::inline MOE_ABI::reference {

/// Of p = softmax(l): dl = p (dp - <dp, p>).
[[nodiscard]] inline Vector softmax_backward(const Vector& p, const Vector& dp) {
    const double mean = dot(dp, p);
    Vector dl(p.size());
    for (std::size_t e = 0; e < p.size(); ++e) {
        dl[e] = p[e] * (dp[e] - mean);
    }
    return dl;
}

/// The derivative of a score that looks at one logit: of every kind but softmax.
[[nodiscard]] inline double score_slope(Score score, double l) {
    switch (score) {
        case Score::sigmoid: return sigmoid(l) * (1 - sigmoid(l));
        case Score::sqrt_softplus: return softplus(l) == 0 ? 0 : sigmoid(l) / (2 * std::sqrt(softplus(l)));
        case Score::relu: return l <= 0 ? 0 : 1;
        case Score::identity:
        case Score::softmax: break;
    }
    return 1;
}

/// Of scores_of(score, logits). A logit of -infinity gets 0, whatever its score.
[[nodiscard]] inline Vector score_backward(Score score, const Vector& logits, const Vector& d_scores) {
    if (score == Score::softmax) {
        return softmax_backward(softmax(logits), d_scores);
    }
    Vector dl(logits.size(), 0.0);
    for (std::size_t e = 0; e < logits.size(); ++e) {
        dl[e] = excluded(logits[e]) ? 0 : score_slope(score, logits[e]) * d_scores[e];
    }
    return dl;
}

}  // namespace moe::inline MOE_ABI::reference
