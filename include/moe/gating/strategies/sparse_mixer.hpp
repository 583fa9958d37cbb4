#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>

#include "../../core/error.hpp"
#include "../backward_rules.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// SparseMixer-v2 in evaluation (Liu et al. 2024, "GRIN: GRadient-INformed MoE", 2409.12136), the router of
/// Phi-3.5-MoE. Two experts a token, best first, ties to the lower index, NaN last. In round i, m is the greatest logit
/// of the experts not yet chosen; those with (m - l_e) / max(|l_e|, m) > 2 jitter are masked, and the weight of the
/// expert with logit m is its softmax among the rest. So the two weights sum to almost 2 where the logits are far
/// apart.
struct SparseMixer {
    double jitter = 0.01;

    [[nodiscard]] static constexpr int max_per_token() { return 2; }

    /// Throws Error(range): fewer than 2 experts, a jitter negative or not finite.
    void validate(std::size_t n_experts) const {
        ensure(n_experts >= 2, ErrorCode::range, "SparseMixer: it chooses 2 experts of ", n_experts);
        ensure(jitter >= 0 && std::isfinite(jitter), ErrorCode::range, "SparseMixer: jitter is ", jitter,
               ", it must be finite and not negative");
    }

    /// `logits` (n_experts). O(n_experts).
    template <std::floating_point T>
    int select(std::span<const T> logits, BasicSelection<T> out) const {
        const std::span<ExpertId> chosen = out.experts.first(2);
        detail::top_k<T>(logits, chosen);
        const std::span<T> scores = out.scratch.first(logits.size());
        for (std::size_t round = 0; round < chosen.size(); ++round) {
            mask<T>(logits, chosen, round, scores);
            Softmax{}(std::span<const T>(scores), scores);
            out.weights[round] = scores[static_cast<std::size_t>(chosen[round])];
        }
        return 2;
    }

    /// See DifferentiableGate: what is masked in a round is constant.
    template <std::floating_point T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        std::array<ExpertId, 2> two{};
        std::array<T, 2> d{};
        detail::top_k<T>(logits, std::span(two));
        detail::for_each_place(chosen.experts, two, [&](std::size_t i, std::size_t slot) { d[slot] = d_weights[i]; });
        const std::span<T> masked = chosen.scratch.first(logits.size());
        for (std::size_t round = 0; round < two.size(); ++round) {
            mask<T>(logits, two, round, masked);
            const std::span<const ExpertId> best(&two[round], 1);
            moe::softmax_backward<T>(masked, {best, {}, {}, chosen.context, chosen.scratch.subspan(logits.size())},
                                     std::span<const T>(&d[round], 1), d_logits);
        }
    }

private:
    /// The logits that the round looks at, -infinity for the others.
    template <class T>
    void mask(std::span<const T> logits, std::span<const ExpertId> chosen, std::size_t round,
              std::span<T> masked) const {
        const T max = logits[static_cast<std::size_t>(chosen[round])];
        for (std::size_t e = 0; e < logits.size(); ++e) {
            const T distance = (max - logits[e]) / (std::max)(std::abs(logits[e]), max);
            const bool far = distance > T(2) * static_cast<T>(jitter);
            const bool taken = round == 1 && e == static_cast<std::size_t>(chosen[0]);
            masked[e] = far || taken ? -std::numeric_limits<T>::infinity() : logits[e];
        }
    }
};

}  // namespace moe::inline MOE_ABI
