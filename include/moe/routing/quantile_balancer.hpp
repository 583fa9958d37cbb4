#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../core/matrix_view.hpp"
#include "score_columns.hpp"

namespace moe::inline MOE_ABI {

/// Quantile balancing, as `qb_dual_update` of Megatron-LM (moe_utils.py): one step of dual coordinate ascent on the
/// assignment of T tokens to K experts each with equal loads. For the scores S that the choice compares,
///
///     alpha_t = the (K + 1)-th greatest of S(t, e) - beta_e over the experts
///     beta_e <- the (floor(T K / E) + 1)-th greatest of S(t, e) - alpha_t over the tokens
///
/// so that, were alpha to stay, floor(T K / E) tokens would pass at each expert. `bias` holds -beta, for
/// `TokenChoice{.selection_bias = balancer.bias}` in the next step. With a momentum m, a moving average: beta_e <- m
/// beta_e + (1 - m) of the above (0 in Megatron-LM, which averages over the micro-batches of a step instead).
struct QuantileBalancer {
    int top_k = 1;
    double momentum = 0;
    std::vector<float> bias{};     ///< (n_experts)
    std::vector<double> memory{};  ///< of update, which keeps it for the next; so with tokens
    std::vector<std::size_t> tokens{};

    /// Starts with a bias of 0 for each of `n_experts`. Allocates, and moves `bias` where it grows.
    void reset(std::size_t n_experts) { bias.assign(n_experts, 0.0F); }

    /// `scores` (n_tokens, n_experts) that TokenChoice selects on, without the bias; `valid` (n_tokens) is 0 for
    /// padding, or empty. Padding and tokens with a score that is not finite are left out; without others nothing
    /// changes. Throws Error(shape, range): sizes that disagree, a top_k outside 1..n_experts - 1, a momentum outside
    /// [0, 1). O(n_tokens n_experts); allocates where a batch is larger than all before.
    template <class T>
    void update(MatrixView<T> scores, std::span<const std::uint8_t> valid = {}) {
        const std::size_t n_experts = bias.size();
        detail::check_balanced_scores("QuantileBalancer", scores, valid, n_experts, top_k, momentum);
        memory.resize(2 * scores.rows() + n_experts);
        const std::span<double> alpha = std::span(memory).first(scores.rows());
        const std::span<double> column = std::span(memory).subspan(scores.rows(), scores.rows());
        const std::span<double> row = std::span(memory).last(n_experts);
        const auto k = static_cast<std::size_t>(top_k);
        detail::tokens_that_count(scores, valid, tokens);
        const std::size_t n = tokens.size();
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t e = 0; e < n_experts; ++e) {
                row[e] = static_cast<double>(scores(tokens[i], e)) + static_cast<double>(bias[e]);
            }
            alpha[i] = detail::exceeded_by(row, k);
        }
        for (std::size_t e = 0; e < n_experts && n > 0; ++e) {
            for (std::size_t i = 0; i < n; ++i) {
                column[i] = static_cast<double>(scores(tokens[i], e)) - alpha[i];
            }
            const double beta = detail::exceeded_by(column.first(n), n * k / n_experts);
            bias[e] = static_cast<float>(momentum * static_cast<double>(bias[e]) - (1 - momentum) * beta);
        }
    }
};

}  // namespace moe::inline MOE_ABI
