#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../core/matrix_view.hpp"
#include "score_columns.hpp"

namespace moe::inline MOE_ABI {

/// The thresholds of expert threshold routing: an expert takes every token that scores above its threshold, a moving
/// average of what would have let its share of earlier batches pass. So a token's experts depend on no other token of
/// its batch, unlike those of expert choice, and loads are equal on average. For the scores S of T tokens,
///
///     cut_e = the (floor(T K / E) + 1)-th greatest of S(t, e) over the tokens
///     threshold_e <- cut_e at first, then m threshold_e + (1 - m) cut_e
///
/// `thresholds` is for a gate that compares score > threshold. Small batches are cut too high, at T K < E at their
/// maximum: a step should have many times E / K tokens.
struct ThresholdBalancer {
    int top_k = 1;                    ///< K, how many experts a token shall have on average
    double momentum = 0.99;           ///< m
    std::vector<float> thresholds{};  ///< (n_experts)
    bool started = false;             ///< whether there was a batch already
    std::vector<double> memory{};     ///< of update, which keeps it for the next; so with tokens
    std::vector<std::size_t> tokens{};

    /// Starts anew, with thresholds of `initial`. Allocates, and moves `thresholds` where it grows.
    void reset(std::size_t n_experts, float initial = 0) {
        thresholds.assign(n_experts, initial);
        started = false;
    }

    /// `scores` (n_tokens, n_experts) that the gate compares; `valid` (n_tokens) is 0 for padding, or empty. Padding
    /// and tokens with a score that is not finite are left out; without others nothing changes. Throws Error(shape,
    /// range): sizes that disagree, a top_k outside 1..n_experts - 1, a momentum outside [0, 1). O(n_tokens n_experts);
    /// allocates where a batch is larger than all before.
    template <class T>
    void update(MatrixView<T> scores, std::span<const std::uint8_t> valid = {}) {
        const std::size_t n_experts = thresholds.size();
        detail::check_balanced_scores("ThresholdBalancer", scores, valid, n_experts, top_k, momentum);
        detail::tokens_that_count(scores, valid, tokens);
        if (tokens.empty()) {
            return;
        }
        memory.resize(tokens.size());
        const double kept = started ? momentum : 0;
        for (std::size_t e = 0; e < n_experts; ++e) {
            for (std::size_t i = 0; i < tokens.size(); ++i) {
                memory[i] = static_cast<double>(scores(tokens[i], e));
            }
            const double cut = detail::exceeded_by(memory, tokens.size() * static_cast<std::size_t>(top_k) / n_experts);
            thresholds[e] =
                static_cast<float>((kept > 0 ? kept * static_cast<double>(thresholds[e]) : 0) + (1 - kept) * cut);
        }
        started = true;
    }
};

}  // namespace moe::inline MOE_ABI
