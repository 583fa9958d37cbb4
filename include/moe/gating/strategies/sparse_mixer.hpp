#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "../../core/error.hpp"
#include "../../core/random.hpp"
#include "../backward_rules.hpp"
#include "../gumbel.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// SparseMixer-v2 (Liu et al. 2024, "GRIN: GRadient-INformed MoE", 2409.12136), the router of Phi-3.5-MoE. Two experts
/// a token, one a round. With m the greatest logit of the experts not yet chosen, those with (m - l_e) / max(|l_e|, m)
/// > 2 jitter are masked, and the weight of an expert is its softmax p among the rest. So the two weights sum to almost
/// 2 where the logits are far apart.
///
///     evaluation:  the expert of m                   ties to the lower index, NaN last
///     training:    one drawn from p, with weight p b, where b is 1 for the expert of m, and for others 1 in a quarter
///                  of the draws, else 1/3
///
/// The gradient of l is dw p_e (1_e - p) a round, where dw is that of the weight p b and b takes no part: 1/3 and 1 are
/// the points of a rule of Radau, so that its mean over the draws is exact where the loss is cubic in the weight, for
/// all experts but that of m. The draws belong to (seed, step, position of the token, round, expert): the same in every
/// batch and in the backward pass; a training loop counts `step` up.
struct SparseMixer {
    double jitter = 0.01;
    bool training = false;
    std::uint64_t seed = 0;
    std::uint64_t step = 0;

    [[nodiscard]] static constexpr int max_per_token() { return 2; }

    /// Throws Error(range): fewer than 2 experts, a jitter negative or not finite.
    void validate(std::size_t n_experts) const {
        ensure(n_experts >= 2, ErrorCode::range, "SparseMixer: it chooses 2 experts of ", n_experts);
        ensure(jitter >= 0 && std::isfinite(jitter), ErrorCode::range, "SparseMixer: jitter is ", jitter,
               ", it must be finite and not negative");
    }

    /// `logits` (n_experts). O(n_experts).
    template <std::floating_point T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        const std::size_t n = logits.size();
        const std::span<T> scores = out.scratch.first(n);
        const std::uint64_t stream = stream_of(context);
        const Rounds rounds = choose<T>(logits, stream, scores, out.scratch.subspan(n, n));
        for (std::size_t round = 0; round < 2; ++round) {
            mask<T>(logits, rounds, round, scores);
            Softmax{}(std::span<const T>(scores), scores);
            const ExpertId chosen = rounds.chosen[round];
            const bool whole = chosen == rounds.best[round] || random_open_uniform(stream, 2 * n + round) > 0.75;
            out.experts[round] = chosen;
            out.weights[round] = scores[static_cast<std::size_t>(chosen)] / (whole ? T(1) : T(3));
        }
        return 2;
    }

    /// See DifferentiableGate; in training what is said above. What is masked in a round, and what was drawn, is
    /// constant.
    template <std::floating_point T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        const std::size_t n = logits.size();
        const std::span<T> masked = chosen.scratch.first(n);
        const Rounds rounds = choose<T>(logits, stream_of(chosen.context), masked, chosen.scratch.subspan(n, n));
        std::array<T, 2> d{};
        detail::for_each_place(chosen.experts, rounds.chosen,
                               [&](std::size_t i, std::size_t slot) { d[slot] = d_weights[i]; });
        for (std::size_t round = 0; round < 2; ++round) {
            mask<T>(logits, rounds, round, masked);
            const std::span<const ExpertId> one(&rounds.chosen[round], 1);
            moe::softmax_backward<T>(masked, {one, {}, {}, chosen.context, chosen.scratch.subspan(n)},
                                     std::span<const T>(&d[round], 1), d_logits);
        }
    }

private:
    /// The expert of the greatest logit in each round, and the one chosen.
    struct Rounds {
        std::array<ExpertId, 2> best{no_expert, no_expert};
        std::array<ExpertId, 2> chosen{no_expert, no_expert};
    };

    [[nodiscard]] std::uint64_t stream_of(TokenContext context) const {
        return random_stream(random_stream(seed, step), context.position);
    }

    template <class T>
    [[nodiscard]] Rounds choose(std::span<const T> logits, std::uint64_t stream, std::span<T> masked,
                                std::span<T> noisy) const {
        Rounds rounds;
        for (std::size_t round = 0; round < 2; ++round) {
            const ExpertId taken = rounds.chosen[0];
            rounds.best[round] = best_but<T>(logits, taken);
            rounds.chosen[round] = rounds.best[round];
            if (training) {
                mask<T>(logits, rounds, round, masked);
                moe::add_gumbel<T>(masked, stream, round * logits.size(), 1, noisy);
                rounds.chosen[round] = best_but<T>(noisy, taken);
            }
        }
        return rounds;
    }

    /// The greatest of the others.
    template <class T>
    [[nodiscard]] static ExpertId best_but(std::span<const T> values, ExpertId taken) {
        ExpertId best = no_expert;
        for (std::size_t e = 0; e < values.size(); ++e) {
            if (static_cast<ExpertId>(e) != taken &&
                (best == no_expert || detail::precedes(values[e], values[static_cast<std::size_t>(best)]))) {
                best = static_cast<ExpertId>(e);
            }
        }
        return best;
    }

    /// The logits that the round looks at, -infinity for the others.
    template <class T>
    void mask(std::span<const T> logits, const Rounds& rounds, std::size_t round, std::span<T> masked) const {
        const T max = logits[static_cast<std::size_t>(rounds.best[round])];
        for (std::size_t e = 0; e < logits.size(); ++e) {
            const T distance = (max - logits[e]) / (std::max)(std::abs(logits[e]), max);
            const bool far = distance > T(2) * static_cast<T>(jitter);
            const bool taken = round == 1 && static_cast<ExpertId>(e) == rounds.chosen[0];
            masked[e] = far || taken ? -std::numeric_limits<T>::infinity() : logits[e];
        }
    }
};

}  // namespace moe::inline MOE_ABI
