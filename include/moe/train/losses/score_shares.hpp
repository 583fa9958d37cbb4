#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "../../gating/scores.hpp"

/// The share that each expert has of a token's scores, from logarithms: however small all scores are, their shares are
/// whole.
namespace moe::inline MOE_ABI::detail {

/// Below it log(1 + exp(l)) and exp(l) are one double.
inline constexpr double softplus_is_exp = -37;

/// The logarithm of a score that is above 0.
[[nodiscard]] inline double log_score(ScoreKind score, double l) {
    switch (score) {
        case ScoreKind::sigmoid: return -softplus(-l);
        case ScoreKind::sqrt_softplus: return 0.5 * (l < softplus_is_exp ? l : std::log(softplus(l)));
        default: return l;
    }
}

/// Its derivative by the logit.
[[nodiscard]] inline double log_score_slope(ScoreKind score, double l) {
    switch (score) {
        case ScoreKind::sigmoid: return sigmoid(-l);
        case ScoreKind::sqrt_softplus: return 0.5 * (l < softplus_is_exp ? 1 : sigmoid(l) / softplus(l));
        default: return 1;
    }
}

/// shares[e] = score(l_e) / (sum over j of score(l_j) + epsilon), one logit an expert.
template <class T>
void score_shares(ScoreKind score, double epsilon, std::span<const T> logits, std::span<double> shares) {
    const double log_epsilon = std::log(epsilon);  // -infinity for 0
    double max = log_epsilon;
    for (std::size_t e = 0; e < logits.size(); ++e) {
        shares[e] = log_score(score, static_cast<double>(logits[e]));
        max = shares[e] > max ? shares[e] : max;
    }
    double sum = 0;
    for (double& share : shares) {
        share = std::exp(share - max);
        sum += share;
    }
    sum += epsilon > 0 ? std::exp(log_epsilon - max) : 0;
    for (double& share : shares) {
        share /= sum;
    }
}

}  // namespace moe::inline MOE_ABI::detail
