#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "../routing.hpp"

/// Sinkhorn routing as in Megatron-LM, in plain loops.
namespace moe::inline MOE_ABI::reference {

struct SinkhornRule {
    std::size_t top_k = 1;
    double tolerance = 1e-4;
    std::size_t max_iterations = 100;
};

struct Balanced {
    std::vector<Vector> log_plan{};  // log(c(t, e) d1_e), with c = exp(logit): what the choice looks at
    Vector token_scale{};            // d0, for c divided by the greatest of its row
    Vector expert_scale{};           // d1
    std::size_t iterations = 0;
};

/// A logit as the choice sees it.
[[nodiscard]] inline double finite_logit(double l) {
    constexpr double most = (std::numeric_limits<double>::max)();
    return std::isnan(l) ? -most : (std::max)(-most, (std::min)(most, l));
}

/// `logits[t]` (n_experts) of each token, all of them valid.
[[nodiscard]] inline Balanced sinkhorn_balance(const SinkhornRule& rule, const std::vector<Vector>& logits,
                                               std::size_t n_experts) {
    const double n_tokens = static_cast<double>(logits.size());
    std::vector<Vector> c = logits;
    for (Vector& row : c) {
        std::transform(row.begin(), row.end(), row.begin(), finite_logit);
        const double max = *std::max_element(row.begin(), row.end());
        std::transform(row.begin(), row.end(), row.begin(), [max](double l) { return std::exp(l - max); });
    }
    Balanced result{logits, Vector(logits.size(), 1.0), Vector(n_experts, 1.0)};
    double change = std::numeric_limits<double>::infinity();
    while (!logits.empty() && change > rule.tolerance && result.iterations < rule.max_iterations) {
        for (std::size_t t = 0; t < c.size(); ++t) {
            double sum = 0;
            for (std::size_t e = 0; e < n_experts; ++e) {
                sum += result.expert_scale[e] * c[t][e];
            }
            result.token_scale[t] = 1 / (n_tokens * (sum + 1e-8));
        }
        change = 0;
        for (std::size_t e = 0; e < n_experts; ++e) {
            double sum = 0;
            for (std::size_t t = 0; t < c.size(); ++t) {
                sum += result.token_scale[t] * c[t][e];
            }
            const double scale = 1 / (static_cast<double>(n_experts) * (sum + 1e-8));
            change += std::abs(scale - result.expert_scale[e]) / static_cast<double>(n_experts);
            result.expert_scale[e] = scale;
        }
        ++result.iterations;
    }
    // d0 is common to the experts of a token.
    for (std::size_t t = 0; t < logits.size(); ++t) {
        for (std::size_t e = 0; e < n_experts; ++e) {
            result.log_plan[t][e] = finite_logit(logits[t][e]) + std::log(result.expert_scale[e]);
        }
    }
    return result;
}

/// The experts of each token, in order of what the balanced matrix gives them, and their weights.
[[nodiscard]] inline std::vector<Choice> sinkhorn(const SinkhornRule& rule, const std::vector<Vector>& logits,
                                                  std::size_t n_experts) {
    const Balanced balanced = sinkhorn_balance(rule, logits, n_experts);
    std::vector<Choice> choices;
    for (std::size_t t = 0; t < logits.size(); ++t) {
        const Vector scores = scores_of(rule.top_k == 1 ? Score::sigmoid : Score::softmax, logits[t]);
        Choice choice{top_k(balanced.log_plan[t], rule.top_k), {}};
        for (const ExpertId e : choice.experts) {
            choice.weights.push_back(scores[static_cast<std::size_t>(e)]);
        }
        choices.push_back(choice);
    }
    return choices;
}

}  // namespace moe::inline MOE_ABI::reference
