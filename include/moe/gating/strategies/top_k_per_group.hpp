#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <utility>

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

/// The `top_k` best experts inside each of `n_groups` groups of neighbours: the mixture of grouped experts of Pangu Pro
/// MoE (Tang et al. 2025, 2505.21411), where a group is what lives on one device, so that every device gets
/// equal work from every token. Pangu Pro: softmax over all, 8 groups, one expert each, not normalised, times a scale
/// of each expert.
///
/// Experts group by group, inside a group in order of the score: descending, ties of scores that saturate to the
/// greater logit (ScoreFunction), others to the lower expert, NaN and then those whose logit is -infinity last. w =
/// normalize(s of the chosen) * scale * per_expert_scale.
template <class Score = Softmax>
struct TopKPerGroup {
    Score score{};
    int n_groups = 1;
    int top_k = 1;  ///< experts of each group
    Normalize normalize{};
    double scale = 1;
    Borrowed<const float> per_expert_scale{};  ///< (n_experts) or empty

    static constexpr bool needs_logits = detail::score_needs_logits<Score>;

    [[nodiscard]] std::size_t max_per_token() const {
        return static_cast<std::size_t>(n_groups) * static_cast<std::size_t>(top_k);
    }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return moe::overlapped(memory, {{"per_expert_scale", bytes_of(per_expert_scale)}});
    }

    /// Throws Error(range, shape, alignment): groups that do not divide the experts, more experts a group than it has,
    /// a score, a normalisation or a scale that cannot be.
    void validate(std::size_t n_experts) const {
        ensure(n_groups >= 1 && n_experts % static_cast<std::size_t>(n_groups) == 0, ErrorCode::range,
               "TopKPerGroup: ", n_groups, " groups do not divide ", n_experts, " experts");
        const std::size_t members = n_experts / static_cast<std::size_t>(n_groups);
        ensure(top_k >= 1 && std::cmp_less_equal(top_k, members), ErrorCode::range, "TopKPerGroup: top_k is ", top_k,
               ", it must lie in 1..", members, ", the experts of a group");
        ensure(per_expert_scale.empty() || per_expert_scale.size() == n_experts, ErrorCode::shape,
               "TopKPerGroup: per_expert_scale has ", per_expert_scale.size(), " values for ", n_experts, " experts");
        require_aligned(per_expert_scale.data(), "TopKPerGroup", "per_expert_scale");
        detail::validate_score(score);
        normalize.validate();
        detail::check_scale("TopKPerGroup", scale);
    }

    /// `logits` (n_experts), or empty where the score needs none. O(n_experts + h top_k), h insertions as in top_k.hpp.
    template <std::floating_point T>
        requires ScoreFunction<Score, T>
    int select(std::span<const T> logits, BasicSelection<T> out) const {
        const std::span<T> scores = out.scratch.first(out.order.size());
        score(logits, scores);
        const std::span<const T> ranked = detail::ranked_by<Score, T>(score, logits, scores);
        const std::size_t members = scores.size() / static_cast<std::size_t>(n_groups);
        const auto k = static_cast<std::size_t>(top_k);
        const std::span<ExpertId> chosen = out.experts.first(max_per_token());
        for (std::size_t g = 0; g < static_cast<std::size_t>(n_groups); ++g) {
            const std::size_t first = g * members;
            const std::span<ExpertId> best = chosen.subspan(g * k, k);
            detail::top_k<T>(ranked.subspan(first, members), logits.empty() ? logits : logits.subspan(first, members),
                             best);
            for (ExpertId& member : best) {
                member += static_cast<ExpertId>(first);
            }
        }
        detail::gather_weights<T>(scores, chosen, normalize, scale, out.weights);
        for (std::size_t slot = 0; slot < chosen.size() && !per_expert_scale.empty(); ++slot) {
            out.weights[slot] *= static_cast<T>(per_expert_scale[static_cast<std::size_t>(chosen[slot])]);
        }
        return static_cast<int>(chosen.size());
    }

    /// See gate_parameters.
    [[nodiscard]] GateParameters parameters() const { return {.per_expert_scale = per_expert_scale}; }

    /// See DifferentiableGate.
    template <std::floating_point T>
        requires DifferentiableScore<Score, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        moe::weigh_backward<T>(score, normalize, scale, logits, chosen, d_weights, d_logits, per_expert_scale);
    }
};

}  // namespace moe::inline MOE_ABI
