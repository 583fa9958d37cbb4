#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>

#include "../../core/error.hpp"
#include "../../core/index.hpp"
#include "../../core/matrix_view.hpp"
#include "../backward_rules.hpp"
#include "../normalize.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "auction.hpp"

namespace moe::inline MOE_ABI {

/// One expert a token, every expert as many tokens as any other: BASE layers, Lewis et al. 2021, "BASE layers:
/// simplifying training of large, sparse models" (2103.16716), its assignment during training. For the T valid tokens
/// of the batch and E experts, the assignment that maximises the sum of the logits l(t, e_t), where each expert gets
/// floor(T / E) or ceil(T / E) tokens; the weight of a token is sigmoid(l(t, e_t)), the alpha of the paper. (The
/// paper's layer adds (1 - alpha) x; that is the caller's, an identity expert for instance.)
///
/// Found by the auction of auction.hpp, so that the sum is at most (T + E) eps below the best, where eps is the greater
/// of `epsilon` and the range of the logits times 2^-40. Where all logits are integers, or multiples of some other
/// number, an epsilon below that number / (T + E) gives a best assignment. Nothing is random, and ties are settled the
/// same way every time.
///
/// For the assignment a logit that is NaN or -infinity counts as the lowest finite logit of the valid tokens, +infinity
/// as the highest (the official code, fairseq's base_layer.py, takes the lowest for all three), and numbers beyond the
/// range of float count as its ends. The weight is the sigmoid of the logit itself: NaN stays in its token.
///
/// Not causal: the expert of a token depends on all tokens of the batch, those after it included; padding takes no
/// place. It is meant for training; for inference the paper takes the argmax, which is
/// `TokenChoice<Sigmoid>{.top_k = 1}`.
struct BalancedAssignment {
    double epsilon = 1e-4;  ///< in units of a logit: what the assignment of a token may lose, on average

    [[nodiscard]] static constexpr int max_per_token(int /*n_tokens*/, int /*n_experts*/) { return 1; }

    /// Throws Error(range): an epsilon that is not positive and finite in float.
    void validate(std::size_t /*n_experts*/) const {
        // A greater one would make prices infinite.
        ensure(epsilon > 0 && epsilon <= static_cast<double>((std::numeric_limits<float>::max)()), ErrorCode::range,
               "BalancedAssignment: epsilon is ", epsilon, ", it must be positive and finite in float");
    }

    /// `logits` (n_tokens, n_experts). O(b (E + log(T / E))) for b bids: about 10 a token for logits in random order
    /// and an epsilon of 1e-4 (in at most 21 rounds), T or more a token for those that are hard on it; no allocation.
    /// Throws Error(overflow) if there are more tokens and experts than an ExpertId counts.
    template <std::floating_point T>
    void select(MatrixView<const T> logits, BatchSelection<T> out) const {
        const std::size_t n_tokens = out.experts.rows();
        const std::size_t n_experts = out.n_experts;
        ensure(n_tokens <= static_cast<std::size_t>((std::numeric_limits<ExpertId>::max)()) - n_experts,
               ErrorCode::overflow, "BalancedAssignment: ", n_tokens, " tokens and ", n_experts, " experts exceed ",
               (std::numeric_limits<ExpertId>::max)(), "; split the batch");
        const std::span<T> values = out.scratch.first(n_tokens * n_experts);
        const std::span<ExpertId> tokens = out.order.first(n_tokens);
        const std::size_t n_valid = copy_valid(logits, out, values, tokens);
        if (n_valid == 0) {
            return;
        }
        const auto [low, high] = make_finite(values.first(n_valid * n_experts));
        const MatrixView<const T> benefits = view<const T>(values.data(), n_valid, n_experts);
        detail::Auction<T> auction(benefits, out.scratch.subspan(values.size()), out.order.subspan(n_tokens));
        auction.run(low, high, epsilon);
        auction.for_each_pair([&](std::size_t valid, std::size_t e) {
            const auto t = static_cast<std::size_t>(tokens[valid]);
            out.experts(t, 0) = static_cast<ExpertId>(e);
            out.weights(t, 0) = detail::sigmoid(logits(t, e));
        });
    }

    /// The weights that `experts` have for a token of these logits: what an adaptor that changes weights needs of a
    /// batch gate in its backward pass. `out` as that of WeighingGate.
    template <std::floating_point T>
    void weigh(std::span<const T> logits, std::span<const ExpertId> experts, BasicSelection<T> out) const {
        std::transform(experts.begin(), experts.end(), out.weights.begin(),
                       [&](ExpertId e) { return detail::sigmoid(logits[static_cast<std::size_t>(e)]); });
    }

    /// See DifferentiableGate: prices are constants.
    template <std::floating_point T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        moe::weigh_selected_backward<T>(Sigmoid{}, Normalize::none(), 1, logits, chosen, d_weights, d_logits);
    }

private:
    template <class T>
    static std::size_t copy_valid(MatrixView<const T> logits, const BatchSelection<T>& out, std::span<T> values,
                                  std::span<ExpertId> tokens) {
        std::size_t n_valid = 0;
        for (std::size_t t = 0; t < logits.rows(); ++t) {
            if (out.is_valid(t)) {
                std::copy_n(logits.row(t), logits.cols(), values.subspan(n_valid * logits.cols()).begin());
                tokens[n_valid++] = static_cast<ExpertId>(t);
            }
        }
        return n_valid;
    }

    /// Replaces what is not finite in float; returns the least and the greatest value.
    template <class T>
    static std::pair<double, double> make_finite(std::span<T> values) {
        const T limit = static_cast<T>((std::numeric_limits<float>::max)());
        T low = limit;
        T high = -limit;
        for (T& value : values) {
            if (std::isfinite(value)) {
                value = std::clamp(value, -limit, limit);
                low = (std::min)(low, value);
                high = (std::max)(high, value);
            }
        }
        if (low > high) {
            low = high = 0;
        }
        for (T& value : values) {
            if (!std::isfinite(value)) {
                value = value > 0 ? high : low;
            }
        }
        return {static_cast<double>(low), static_cast<double>(high)};
    }
};

}  // namespace moe::inline MOE_ABI
