#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>

#include "../../core/error.hpp"
#include "../../core/matrix_view.hpp"
#include "../backward_rules.hpp"
#include "../check_settings.hpp"
#include "../normalize.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// Token choice on logits that are balanced over the batch first, by Sinkhorn's iteration: S-BASE, Clark et al. 2022,
/// "Unified scaling laws for routed language models" (2202.01169), in the form of Megatron-LM (`sinkhorn`
/// in moe_utils.py, `sinkhorn_load_balancing` in router.py, while training). For the T valid tokens and E experts, with
/// c(t, e) = exp(l(t, e)) and d1 = 1 at first,
///
///     d0_t = 1 / (T (sum_e d1_e c(t, e) + 1e-8))
///     d1_e = 1 / (E (sum_t d0_t c(t, e) + 1e-8))     until the mean |change of d1| <= tolerance
///     chosen = top_k over e of d0_t c(t, e) d1_e     descending, ties to the lower expert
///     w = sigmoid(l) of the chosen if top_k is 1, else softmax(l) over all experts, of the chosen, not normalised
///
/// Here c is exp(l - the greatest l of the token), which cannot overflow. That divides row t of c by a number, which
/// multiplies d0_t by it and leaves d1 and d0 c d1 as they are, but for the 1e-8. The choice compares l(t, e) + log
/// d1_e, the logarithm of the same product without what is common to the experts of a token.
///
/// For the choice a logit that is NaN or -infinity counts as the lowest number, +infinity as the greatest: a token
/// whose logits are all NaN takes part as one without preferences. The weights see the logits themselves: NaN stays in
/// its token.
///
/// Not causal: the experts of a token depend on all tokens of the batch, those after it included; padding takes no
/// part. It balances loads, it does not bound them. It is meant for training; for inference Megatron-LM takes the top_k
/// of the weights: `TokenChoice<Sigmoid>{.top_k = 1}`, or `TokenChoice<Softmax>`.
struct Sinkhorn {
    int top_k = 1;
    double tolerance = 1e-4;
    int max_iterations = 100;  ///< Megatron-LM has no bound; an expert that nobody wants converges slowly

    [[nodiscard]] int max_per_token(int /*n_tokens*/, int /*n_experts*/) const { return top_k; }

    /// Throws Error(range): a top_k outside 1..n_experts, a tolerance negative or not finite, no iterations.
    void validate(std::size_t n_experts) const {
        detail::check_top_k("Sinkhorn", top_k, n_experts);
        ensure(tolerance >= 0 && std::isfinite(tolerance), ErrorCode::range, "Sinkhorn: tolerance is ", tolerance,
               ", it must be finite and not negative");
        ensure(max_iterations >= 1, ErrorCode::range, "Sinkhorn: max_iterations is ", max_iterations,
               ", it must be at least 1");
    }

    /// `logits` (n_tokens, n_experts). Computed in their type, sums over experts and tokens in ascending order.
    /// O(n_tokens n_experts) an iteration and for the choice, h insertions a token as in top_k.hpp; no allocation.
    template <std::floating_point T>
    void select(MatrixView<const T> logits, BatchSelection<T> out) const {
        const std::size_t n_experts = out.n_experts;
        const std::span<T> costs = out.scratch.first(logits.rows() * n_experts);
        const auto vector = [&](std::size_t i) { return out.scratch.subspan(costs.size() + i * n_experts, n_experts); };
        const std::size_t n_valid = fill_costs(logits, out, costs);
        const std::span<T> scale = vector(0);
        balance<T>(costs.first(n_valid * n_experts), n_valid, scale, vector(1));
        std::transform(scale.begin(), scale.end(), scale.begin(), [](T d1) { return std::log(d1); });
        for (std::size_t t = 0; t < logits.rows(); ++t) {
            if (out.is_valid(t)) {
                const std::span<T> keys = vector(1);
                for (std::size_t e = 0; e < n_experts; ++e) {
                    keys[e] = finite(logits(t, e)) + scale[e];
                }
                const auto chosen = out.experts.row_span(t).first(static_cast<std::size_t>(top_k));
                detail::top_k<T>(keys, chosen);
                weigh_chosen<T>(logits.row_span(t), chosen, keys, out.weights.row_span(t));
            }
        }
    }

    /// The weights that `experts` have for a token of these logits: what an adaptor that changes weights needs of a
    /// batch gate in its backward pass. `out` as that of WeighingGate.
    template <std::floating_point T>
    void weigh(std::span<const T> logits, std::span<const ExpertId> experts, BasicSelection<T> out) const {
        weigh_chosen<T>(logits, experts, out.scratch.first(logits.size()), out.weights);
    }

    /// See DifferentiableGate: the scales of the iteration are constants, as in Megatron-LM.
    template <std::floating_point T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        if (top_k == 1) {
            moe::weigh_selected_backward<T>(Sigmoid{}, Normalize::none(), 1, logits, chosen, d_weights, d_logits);
        } else {
            moe::softmax_backward<T>(logits, chosen, d_weights, d_logits);
        }
    }

private:
    template <class T>
    static T finite(T logit) {
        // The comparisons are false for NaN.
        constexpr T most = (std::numeric_limits<T>::max)();
        return logit >= -most ? (logit <= most ? logit : most) : -most;
    }

    /// One row of c a valid token; returns how many these are.
    template <class T>
    static std::size_t fill_costs(MatrixView<const T> logits, const BatchSelection<T>& out, std::span<T> costs) {
        std::size_t n_valid = 0;
        for (std::size_t t = 0; t < logits.rows(); ++t) {
            if (!out.is_valid(t)) {
                continue;
            }
            const std::span<T> row = costs.subspan(n_valid++ * logits.cols(), logits.cols());
            std::transform(logits.row(t), logits.row(t) + logits.cols(), row.begin(), finite<T>);
            const T max = *std::max_element(row.begin(), row.end());
            std::transform(row.begin(), row.end(), row.begin(), [max](T l) { return std::exp(l - max); });
        }
        return n_valid;
    }

    /// Leaves d1 in `scale`.
    template <class T>
    void balance(std::span<const T> costs, std::size_t n_tokens, std::span<T> scale, std::span<T> sums) const {
        constexpr T eps = T(1e-8);
        const auto n_experts = static_cast<T>(scale.size());
        std::fill(scale.begin(), scale.end(), T(1));
        T change = std::numeric_limits<T>::infinity();
        for (int i = 0; i < max_iterations && n_tokens > 0 && !(change <= static_cast<T>(tolerance)); ++i) {
            std::fill(sums.begin(), sums.end(), T(0));
            for (std::size_t t = 0; t < n_tokens; ++t) {
                const std::span<const T> row = costs.subspan(t * scale.size(), scale.size());
                T sum = 0;
                for (std::size_t e = 0; e < row.size(); ++e) {
                    sum += scale[e] * row[e];
                }
                const T d0 = 1 / (static_cast<T>(n_tokens) * (sum + eps));
                for (std::size_t e = 0; e < row.size(); ++e) {
                    sums[e] += d0 * row[e];
                }
            }
            change = 0;
            for (std::size_t e = 0; e < scale.size(); ++e) {
                const T old = std::exchange(scale[e], 1 / (n_experts * (sums[e] + eps)));
                change += std::abs(old - scale[e]);
            }
            change /= n_experts;
        }
    }

    template <class T>
    void weigh_chosen(std::span<const T> logits, std::span<const ExpertId> chosen, std::span<T> scores,
                      std::span<T> weights) const {
        if (top_k == 1) {
            std::transform(chosen.begin(), chosen.end(), weights.begin(),
                           [&](ExpertId e) { return detail::sigmoid(logits[static_cast<std::size_t>(e)]); });
            return;
        }
        Softmax{}(logits, scores);
        std::transform(chosen.begin(), chosen.end(), weights.begin(),
                       [&](ExpertId e) { return scores[static_cast<std::size_t>(e)]; });
    }
};

}  // namespace moe::inline MOE_ABI
