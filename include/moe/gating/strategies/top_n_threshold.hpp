#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "../../core/error.hpp"
#include "../../core/index.hpp"
#include "../../core/random.hpp"
#include "../backward_rules.hpp"
#include "../normalize.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// The top-n routing of ST-MoE (Zoph et al. 2022, "ST-MoE: Designing stable and transferable sparse expert models",
/// 2202.08906, whose top-2 is that of Mesh TensorFlow; for any n in st-moe-pytorch): the best expert always, each
/// further one where its share of the weight is worth it.
///
///     chosen = the greatest top_n of l                      ties to the lower expert, NaN last
///     g = softmax(l) of the chosen / max(sum, 1e-9)         before the draws, whose losers take their share with them
///     choice n >= 2 is kept with probability min(1, g_n / threshold), or, deterministic, if g_n > threshold
///
/// Both codes draw in evaluation too, with the same threshold; `deterministic` is the policy "threshold" of Mesh
/// TensorFlow. The draws belong to (seed, step, position of the token, n): the same in every batch; a training loop
/// counts `step` up. A choice behind a lost one moves up a slot. The places of the experts are Capacity's matter
/// (st_moe_gate in capacity_presets.hpp). O(n_experts + h top_n), h insertions as in top_k.hpp.
struct TopNThreshold {
    int top_n = 2;
    double threshold = 0.2;
    bool deterministic = false;
    std::uint64_t seed = 0;
    std::uint64_t step = 0;

    [[nodiscard]] int max_per_token() const { return top_n; }

    /// Throws Error(range): top_n outside 2..n_experts, a threshold negative or not finite.
    void validate(std::size_t n_experts) const {
        ensure(top_n >= 2, ErrorCode::range, "TopNThreshold: top_n is ", top_n, ", it must be at least 2");
        ensure(std::cmp_less_equal(top_n, n_experts), ErrorCode::range, "TopNThreshold: top_n ", top_n, " exceeds the ",
               n_experts, " experts");
        ensure(threshold >= 0 && std::isfinite(threshold), ErrorCode::range, "TopNThreshold: threshold is ", threshold,
               ", it must be finite and not negative");
    }

    /// `logits` (n_experts). Returns 1..top_n.
    template <std::floating_point T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        const std::span<ExpertId> chosen = out.experts.first(static_cast<std::size_t>(top_n));
        detail::top_k<T>(logits, chosen);
        const std::span<T> scores = out.scratch.first(logits.size());
        Softmax{}(logits, scores);
        const std::span<T> weights = out.weights.first(chosen.size());
        std::transform(chosen.begin(), chosen.end(), weights.begin(),
                       [&](ExpertId e) { return scores[static_cast<std::size_t>(e)]; });
        Normalize::clamped_sum(1e-9)(weights);
        const std::uint64_t stream = random_stream(random_stream(seed, step), context.position);
        std::size_t count = 1;
        for (std::size_t n = 1; n < chosen.size(); ++n) {
            if (is_kept(static_cast<double>(weights[n]), random_open_uniform(stream, n))) {
                chosen[count] = chosen[n];
                weights[count++] = weights[n];
            }
        }
        return static_cast<int>(count);
    }

    /// See DifferentiableGate: choices that were not kept still have their share.
    template <std::floating_point T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        const std::size_t n = logits.size();
        const std::span<ExpertId> best = detail::ids_in(chosen.scratch.first(static_cast<std::size_t>(top_n)));
        const std::span<T> d = chosen.scratch.subspan(n, best.size());
        detail::top_k<T>(logits, best);
        std::fill(d.begin(), d.end(), T(0));
        detail::for_each_place(chosen.experts, best, [&](std::size_t i, std::size_t slot) { d[slot] = d_weights[i]; });
        const Chosen<T> all{best, {}, {}, chosen.context, chosen.scratch.subspan(2 * n)};
        moe::weigh_backward<T>(Softmax{}, Normalize::clamped_sum(1e-9), 1, logits, all, d, d_logits);
    }

private:
    [[nodiscard]] bool is_kept(double share, double draw) const {
        return deterministic ? share > threshold : draw < share / (std::max)(threshold, 1e-9);
    }
};

}  // namespace moe::inline MOE_ABI
