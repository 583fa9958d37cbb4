#pragma once

#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

#include "../../strategies/noisy_top_k.hpp"
#include "load_balance.hpp"

/// The two losses of Shazeer et al. 2017 (1701.06538, equations 6 to 11), without their coefficients.
namespace moe::inline MOE_ABI::reference {

/// The squared coefficient of variation of (n_experts) sums, and its gradient by them.
struct Variation {
    double value = 0;
    Vector d_sums{};
};

/// E sum v^2 / (sum v)^2 - 1: the variance over all E values by the squared mean, 0 where they sum to 0. `unbiased`:
/// the variance with E - 1, as several implementations have it.
[[nodiscard]] inline Variation squared_variation(const Vector& sums, bool unbiased) {
    const double n = static_cast<double>(sums.size());
    const double factor = unbiased ? n / (n - 1) : 1;
    const double squares = dot(sums, sums);
    const double sum = dot(sums, Vector(sums.size(), 1.0));
    Variation result{0, Vector(sums.size(), 0.0)};
    if (sum != 0 && sums.size() > 1) {
        result.value = factor * (n * squares / (sum * sum) - 1);
        for (std::size_t e = 0; e < sums.size(); ++e) {
            result.d_sums[e] = factor * 2 * n * (sums[e] * sum - squares) / (sum * sum * sum);
        }
    }
    return result;
}

/// A loss of the weights of some tokens. The gate takes its gradient on to the logits, like that of the experts.
struct WeightLoss {
    double value = 0;
    std::vector<Vector> d_weights{};  // of each token, one a choice
};

/// Of the sums of the weights that each expert gets; dropped choices have none.
[[nodiscard]] inline WeightLoss importance_loss(const std::vector<Choice>& choices, std::size_t n_experts,
                                                bool unbiased) {
    Vector sums(n_experts, 0.0);
    for (const Choice& choice : choices) {
        for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
            if (choice.experts[slot] >= 0) {
                sums[static_cast<std::size_t>(choice.experts[slot])] += choice.weights[slot];
            }
        }
    }
    const Variation variation = squared_variation(sums, unbiased);
    WeightLoss result{variation.value, {}};
    for (const Choice& choice : choices) {
        Vector dw(choice.experts.size(), 0.0);
        for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
            const ExpertId e = choice.experts[slot];
            dw[slot] = e >= 0 ? variation.d_sums[static_cast<std::size_t>(e)] : 0;
        }
        result.d_weights.push_back(dw);
    }
    return result;
}

/// The expert whose H is kth_excluding(h, k, e), or no_expert where there is none.
[[nodiscard]] inline ExpertId kth_expert_excluding(const Vector& h, std::size_t k, std::size_t e) {
    std::size_t place = 0;
    for (const ExpertId other : top_k(h, h.size())) {
        if (static_cast<std::size_t>(other) != e && ++place == k) {
            return other;
        }
    }
    return no_expert;
}

/// The gradient of sum over e of c_e chance_of(logits, h, k, e) by the logits of a token (2 n_experts), h being these
/// with their noise. The threshold of an expert is the H of another, and moves with that one's logits, unless
/// `threshold_is_constant`.
[[nodiscard]] inline Vector chances_backward(const Vector& logits, const Vector& h, std::size_t k, const Vector& c,
                                             bool threshold_is_constant, double least_deviation) {
    const std::size_t n = h.size();
    const auto deviation = [&](std::size_t e) { return softplus(logits[n + e]) + least_deviation; };
    Vector dl(logits.size(), 0.0);
    for (std::size_t e = 0; e < n; ++e) {
        const ExpertId other = kth_expert_excluding(h, k, e);
        if (other == no_expert) {
            continue;  // certain to be taken
        }
        const auto j = static_cast<std::size_t>(other);
        const double z = (logits[e] - h[j]) / deviation(e);
        const double slope = c[e] * std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi) / deviation(e);
        dl[e] += slope;
        dl[n + e] -= slope * z * sigmoid(logits[n + e]);
        if (!threshold_is_constant) {
            const double normal = (h[j] - logits[j]) / deviation(j);
            dl[j] -= slope;
            dl[n + j] -= slope * normal * sigmoid(logits[n + j]);
        }
    }
    return dl;
}

/// Of the sums over the tokens of the probability that each expert is among the k greatest. `logits` (2 n_experts) and
/// `noisy` (n_experts), H, of each token.
[[nodiscard]] inline LogitLoss load_loss(const std::vector<Vector>& logits, const std::vector<Vector>& noisy,
                                         std::size_t k, bool unbiased, bool threshold_is_constant = false,
                                         double least_deviation = 0.01) {
    Vector loads(noisy.empty() ? 0 : noisy[0].size(), 0.0);
    for (std::size_t t = 0; t < logits.size(); ++t) {
        for (std::size_t e = 0; e < loads.size(); ++e) {
            loads[e] += chance_of(logits[t], noisy[t], k, e, least_deviation);
        }
    }
    const Variation variation = squared_variation(loads, unbiased);
    LogitLoss result{variation.value, {}};
    for (std::size_t t = 0; t < logits.size(); ++t) {
        result.d_logits.push_back(
            chances_backward(logits[t], noisy[t], k, variation.d_sums, threshold_is_constant, least_deviation));
    }
    return result;
}

}  // namespace moe::inline MOE_ABI::reference
