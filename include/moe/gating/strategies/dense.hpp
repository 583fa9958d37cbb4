#pragma once

#include <cmath>
#include <concepts>
#include <cstddef>
#include <numeric>
#include <span>

#include "../../core/error.hpp"
#include "../backward_rules.hpp"
#include "../check_settings.hpp"
#include "../normalize.hpp"
#include "../scores.hpp"
#include "../selection.hpp"

namespace moe::inline MOE_ABI {

/// Every token takes every expert, weighted with its score: the mixture of Jacobs, Jordan, Nowlan and Hinton 1991,
/// "Adaptive mixtures of local experts", for a softmax. Experts in order of their index. O(n_experts) a token.
template <class Score = Softmax>
struct Dense {
    Score score{};
    Normalize normalize{};
    double scale = 1;

    static constexpr bool needs_logits = detail::score_needs_logits<Score>;

    [[nodiscard]] static constexpr int max_per_token(int n_experts) { return n_experts; }

    /// Throws Error(range): a scale that is not finite, a score or a normalisation that cannot be.
    void validate(std::size_t /*n_experts*/) const {
        detail::validate_score(score);
        normalize.validate();
        detail::check_scale("Dense", scale);
    }

    /// `logits` (n_experts), or empty where the score needs none.
    template <std::floating_point T>
        requires ScoreFunction<Score, T>
    int select(std::span<const T> logits, BasicSelection<T> out) const {
        std::iota(out.experts.begin(), out.experts.end(), ExpertId{0});
        score(logits, out.weights);
        normalize(out.weights);
        for (T& weight : out.weights) {
            weight *= static_cast<T>(scale);
        }
        return static_cast<int>(out.experts.size());
    }

    /// See DifferentiableGate.
    template <std::floating_point T>
        requires DifferentiableScore<Score, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        moe::weigh_backward<T>(score, normalize, scale, logits, chosen, d_weights, d_logits);
    }
};

}  // namespace moe::inline MOE_ABI
