#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>

#include "../../core/alignment.hpp"
#include "../../core/borrowed.hpp"
#include "../../core/error.hpp"
#include "../../core/overlap.hpp"
#include "../backward_rules.hpp"
#include "../check_settings.hpp"
#include "../gather_weights.hpp"
#include "../normalize.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// Every expert whose score exceeds a threshold, so that each token takes as many as it needs, possibly none:
///
///     chosen = { e : s_e > threshold },  or  { e : s_e > thresholds_e }
///
/// Threshold<ReluScore> with the threshold 0 is the routing of ReMoE (Wang et al. 2024, 2412.14711): weights are
/// relu(l). With `thresholds` that a controller moves (for instance an average, over the batches, of the score of the
/// last token that an expert choice would have taken) it is expert threshold routing, the causal stand-in for expert
/// choice: each token is judged by itself. With `keep_best` and Sigmoid inside a Cosine gate it is the top-any gating
/// of DynMoE (Guo et al. 2024, 2405.14297).
///
/// Experts in order of their score, descending, ties of scores that saturate to the greater logit
/// (ScoreFunction), others to the lower expert, those whose logit is -infinity last; a NaN
/// exceeds nothing. Weights are scores, normalised and scaled.
template <class Score = Sigmoid>
struct Threshold {
    Score score{};
    double threshold = 0;
    Borrowed<const float> thresholds{};  ///< (n_experts), instead of `threshold`; or empty
    int limit = 0;                       ///< most experts a token, those of the highest scores; 0: all
    bool keep_best = false;              ///< a token that no expert passes for takes the one of the highest score
    Normalize normalize{};
    double scale = 1;

    static constexpr bool needs_logits = detail::score_needs_logits<Score>;

    [[nodiscard]] int max_per_token(int n_experts) const { return limit > 0 ? limit : n_experts; }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return moe::overlapped(memory, {{"the thresholds", bytes_of(thresholds)}});
    }

    /// Throws Error(range, shape, alignment): a threshold that is NaN or given beside thresholds, thresholds that are
    /// not one an expert, a limit negative or above the number of experts, a score, a normalisation or a scale that
    /// cannot be.
    void validate(std::size_t n_experts) const {
        ensure(!std::isnan(threshold), ErrorCode::range, "Threshold: threshold is NaN");
        ensure(thresholds.empty() || thresholds.size() == n_experts, ErrorCode::shape, "Threshold: thresholds has ",
               thresholds.size(), " values for ", n_experts, " experts");
        ensure(thresholds.empty() || threshold == 0, ErrorCode::range, "Threshold: threshold is ", threshold,
               " and thresholds are given; leave it 0");
        require_aligned(thresholds.data(), "Threshold", "thresholds");
        detail::check_limit("Threshold", limit, n_experts);
        detail::validate_score(score);
        normalize.validate();
        detail::check_scale("Threshold", scale);
    }

    /// `logits` (n_experts), or empty where the score needs none. O(n_experts + m log m) for m that pass.
    template <std::floating_point T>
        requires ScoreFunction<Score, T>
    int select(std::span<const T> logits, BasicSelection<T> out) const {
        const std::span<T> scores = out.scratch.first(out.order.size());
        score(logits, scores);
        std::size_t passed = 0;
        for (std::size_t e = 0; e < scores.size(); ++e) {
            // Compared in double, where neither side is rounded.
            const double least = thresholds.empty() ? threshold : static_cast<double>(thresholds[e]);
            if (static_cast<double>(scores[e]) > least) {
                out.order[passed++] = static_cast<ExpertId>(e);
            }
        }
        const std::size_t count = (std::min)(passed, out.experts.size());
        const std::span<const T> ranked = detail::ranked_by<Score, T>(score, logits, scores);
        const auto passing = out.order.first(passed);
        std::partial_sort(passing.begin(), passing.begin() + static_cast<std::ptrdiff_t>(count), passing.end(),
                          detail::Ranking<T>(ranked, logits));
        std::copy_n(passing.begin(), count, out.experts.begin());
        const bool keeps = count == 0 && keep_best;
        if (keeps) {
            detail::top_k<T>(ranked, logits, out.experts.first(1));
        }
        const std::size_t chosen = keeps ? 1 : count;
        detail::gather_weights<T>(scores, out.experts.first(chosen), normalize, scale, out.weights);
        return static_cast<int>(chosen);
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
