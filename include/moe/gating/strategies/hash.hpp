#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "../../core/alignment.hpp"
#include "../../core/error.hpp"
#include "../../core/matrix_view.hpp"
#include "../../core/overlap.hpp"
#include "../backward_rules.hpp"
#include "../check_settings.hpp"
#include "../normalize.hpp"
#include "../scores.hpp"
#include "../selection.hpp"

namespace moe::inline MOE_ABI {

/// A table says which experts a token of the vocabulary takes: Roller et al. 2021, "Hash layers for large sparse
/// models" (2106.04426), with Uniform (weight 1, or 1/K when normalised; no logits); the first layers of DeepSeek-V4
/// with SqrtSoftplus, normalised (the score of the experts weighs them, it does not choose them). Experts in table
/// order.
template <class Score = Uniform>
struct Hash {
    Score score{};
    MatrixView<const std::int32_t> table{};  ///< (vocabulary, K) experts of each token id
    Normalize normalize{};
    double scale = 1;

    static constexpr bool needs_logits = detail::score_needs_logits<Score>;

    [[nodiscard]] std::size_t max_per_token() const { return table.cols(); }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return moe::overlapped(memory, {{"the table of token ids", bytes_of(table)}});
    }

    /// Throws Error(range, alignment): an empty table or one not aligned to its type, more columns than experts, an
    /// expert that cannot be (reads the whole table), a scale that is not finite.
    void validate(std::size_t n_experts) const {
        ensure(!table.empty(), ErrorCode::range, "Hash: the table is empty, ", table.rows(), " x ", table.cols());
        ensure(table.cols() <= n_experts, ErrorCode::range, "Hash: the table gives ", table.cols(),
               " experts a token, there are ", n_experts);
        require_aligned(table.data(), "Hash", "the table");
        for (std::size_t id = 0; id < table.rows(); ++id) {
            for (std::size_t slot = 0; slot < table.cols(); ++slot) {
                const std::int32_t expert = table(id, slot);
                ensure(expert >= 0 && std::cmp_less(expert, n_experts), ErrorCode::range,
                       "Hash: the table gives token id ", id, " the expert ", expert, " in slot ", slot,
                       ", the experts are 0..", n_experts - 1);
            }
        }
        detail::validate_score(score);
        normalize.validate();
        detail::check_scale("Hash", scale);
    }

    /// `logits` (n_experts), or empty where the score needs none. Throws Error: missing if the caller gave no token id,
    /// range if it lies outside the table. O(n_experts).
    template <std::floating_point T>
        requires ScoreFunction<Score, T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        ensure(context.token_id != -1, ErrorCode::missing,
               "Hash: the token has no id (token_id is -1); give the router the token ids of the batch");
        ensure(context.token_id >= 0 && std::cmp_less(context.token_id, table.rows()), ErrorCode::range,
               "Hash: token id ", context.token_id, " lies outside the table of ", table.rows(), " rows");
        const std::span<T> scores = out.scratch.first(out.order.size());
        score(logits, scores);
        const std::span<const std::int32_t> chosen = table.row_span(static_cast<std::size_t>(context.token_id));
        const std::span<T> weights = out.weights.first(chosen.size());
        std::copy(chosen.begin(), chosen.end(), out.experts.begin());
        std::transform(chosen.begin(), chosen.end(), weights.begin(),
                       [&](std::int32_t expert) { return scores[static_cast<std::size_t>(expert)]; });
        normalize(weights);
        for (T& weight : weights) {
            weight *= static_cast<T>(scale);
        }
        return static_cast<int>(chosen.size());
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
