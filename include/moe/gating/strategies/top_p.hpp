#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <limits>
#include <numeric>
#include <span>

#include "../../core/error.hpp"
#include "../backward_rules.hpp"
#include "../check_settings.hpp"
#include "../gather_weights.hpp"
#include "../normalize.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// As many experts as gather the probability mass: Huang et al. 2024, "Harder tasks need more experts: dynamic routing
/// in MoE models" (2403.07652). With the scores s in descending order (ties to the lower expert, NaN last),
///
///     chosen = the shortest beginning with  sum of the chosen >= mass * sum of all
///
/// (ties of scores that saturate go to the greater logit: see ScoreFunction) but at least one expert, at most `limit`,
/// and none of score 0 behind the first; mass 1 takes all others. A softmax sums to 1, so that `mass` is the p of the
/// paper; for other scores, which must not be negative, it is a share. Both sums are made in double, that of all in
/// order of the index. Experts in order of the score, those whose logit is -infinity last; weights are scores,
/// normalised and scaled. A sum that is NaN is reached at once.
template <class Score = Softmax>
struct TopP {
    Score score{};
    double mass = 0.4;  ///< in 0..1
    int limit = 0;      ///< most experts a token; 0: all
    Normalize normalize{};
    double scale = 1;

    static constexpr bool needs_logits = detail::score_needs_logits<Score>;

    [[nodiscard]] int max_per_token(int n_experts) const { return limit > 0 ? limit : n_experts; }

    /// Throws Error(range): a mass outside 0..1, a limit negative or above the number of experts, a score, a
    /// normalisation or a scale that cannot be.
    void validate(std::size_t n_experts) const {
        ensure(mass >= 0 && mass <= 1, ErrorCode::range, "TopP: mass is ", mass, ", it must lie in 0..1");
        detail::check_limit("TopP", limit, n_experts);
        detail::validate_score(score);
        normalize.validate();
        detail::check_scale("TopP", scale);
    }

    /// `logits` (n_experts), or empty where the score needs none. O(n_experts + n log n_experts) for n chosen.
    template <std::floating_point T>
        requires ScoreFunction<Score, T>
    int select(std::span<const T> logits, BasicSelection<T> out) const {
        const std::span<T> scores = out.scratch.first(out.order.size());
        score(logits, scores);
        const double all = std::accumulate(scores.begin(), scores.end(), 0.0);
        const double wanted = mass < 1 ? mass * all : std::numeric_limits<double>::infinity();

        // A heap, since most tokens are content with few of many experts.
        const detail::Ranking<T> ranking(detail::ranked_by<Score, T>(score, logits, scores), logits);
        const auto behind = [&](ExpertId a, ExpertId b) { return ranking(b, a); };
        std::iota(out.order.begin(), out.order.end(), ExpertId{0});
        std::make_heap(out.order.begin(), out.order.end(), behind);
        double gathered = 0;
        std::size_t count = 0;
        for (auto end = out.order.end(); count < out.experts.size(); ++count) {
            const auto next = static_cast<double>(scores[static_cast<std::size_t>(out.order.front())]);
            if (count > 0 && !(gathered < wanted && next > 0)) {
                break;
            }
            gathered += next;
            std::pop_heap(out.order.begin(), end--, behind);
            out.experts[count] = *end;
        }
        detail::gather_weights<T>(scores, out.experts.first(count), normalize, scale, out.weights);
        return static_cast<int>(count);
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
