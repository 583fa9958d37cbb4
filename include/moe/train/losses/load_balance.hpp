#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../../core/borrowed.hpp"
#include "../../core/float_environment.hpp"
#include "../../core/workspace.hpp"
#include "counts.hpp"
#include "loss_call.hpp"
#include "score_shares.hpp"

namespace moe::inline MOE_ABI {

/// What add_load_balance may be told. The counts of a call have three sources: the tape, by `counts_from`; the same of
/// each sequence, by `lengths`; a global batch, by `counts` and `n_tokens`.
struct LoadBalance {
    double coefficient = 1;                ///< Switch 1e-2, DeepSeek-V3 by sequence 1e-4; 0 for the value alone
    double scale = 1;                      ///< 1 of M micro-batches: 1 / M, or its part of the tokens
    int top_k = 0;                         ///< K, the choices of a token; not read for CountsFrom::first_choice
    ScoreKind score = ScoreKind::softmax;  ///< or sigmoid, sqrt_softplus
    double epsilon = 0;                    ///< added to the sum of the scores; above 0, small scores cheat
    CountsFrom counts_from = CountsFrom::choices;
    Borrowed<const std::uint64_t> counts{};  ///< (n_experts) of the global batch, or empty
    std::uint64_t n_tokens = 0;              ///< of the global batch, without padding; 0 with empty counts
    Borrowed<const std::size_t> lengths{};   ///< rows of each sequence, one after the other, or empty: all are one
};

namespace detail {

/// E / (K T^2) of a loss, and what its shares are made of.
struct BalanceRule {
    ScoreKind score;
    double epsilon;
    double norm;    ///< of the value
    double factor;  ///< of the gradient, beside norm; 0: none
};

/// Throws Error(range).
inline void confirm_score(const char* name, ScoreKind score, double epsilon) {
    ensure(score <= ScoreKind::sqrt_softplus, ErrorCode::range, name, ": the score must be softmax, sigmoid or ",
           "sqrt_softplus, not number ", static_cast<int>(score), " of ScoreKind");
    ensure(epsilon >= 0 && std::isfinite(epsilon), ErrorCode::range, name, ": epsilon is ", epsilon,
           ", it must be finite and not negative");
}

/// The loss of the tokens [first, first + count), whose gradient is added to the tape.
template <class T>
[[nodiscard]] double add_balance(Tape<T>& tape, const BalanceRule& rule, std::size_t first, std::size_t count,
                                 std::span<const std::uint64_t> counts, std::span<double> shares) {
    double sum = 0;
    for (std::size_t t = first; t < first + count; ++t) {
        if (!tape.is_valid(t)) {
            continue;
        }
        const std::span<const T> logits = tape.logits().row_span(t);
        score_shares(rule.score, rule.epsilon, logits, shares);
        double mean = 0;
        for (std::size_t e = 0; e < shares.size(); ++e) {
            mean += static_cast<double>(counts[e]) * shares[e];
        }
        sum += mean;
        const std::span<T> d_logits = tape.d_logits().row_span(t);
        for (std::size_t e = 0; e < shares.size() && rule.factor != 0; ++e) {
            const double slope = shares[e] * log_score_slope(rule.score, static_cast<double>(logits[e]));
            d_logits[e] += static_cast<T>(rule.factor * (rule.norm * slope * (static_cast<double>(counts[e]) - mean)));
        }
    }
    return rule.norm * sum;
}

/// E / (K T^2).
[[nodiscard]] inline double balance_norm(std::size_t n_experts, double top_k, std::uint64_t n_tokens) {
    const double n = static_cast<double>(n_tokens);
    return static_cast<double>(n_experts) / (top_k * n * n);
}

/// Throws Error: see add_load_balance.
template <class T>
void confirm_load_balance(const char* name, const Tape<T>& tape, const LoadBalance& options) {
    confirm_logits(name, tape);
    confirm_score(name, options.score, options.epsilon);
    confirm_counts(name, record_of(tape), options.counts.empty() ? options.counts_from : CountsFrom::plan,
                   options.top_k);
    ensure(options.counts_from == CountsFrom::first_choice || options.top_k >= 1, ErrorCode::range, name, ": top_k is ",
           options.top_k, ", it must be the number of choices of a token");
    confirm_global(name, tape, options.counts, options.n_tokens);
    std::size_t rows = 0;
    for (const std::size_t length : options.lengths) {
        rows = checked_add(rows, length);
    }
    ensure(options.lengths.empty() || rows == tape.x().rows(), ErrorCode::shape, name, ": ", options.lengths.size(),
           " lengths sum up to ", rows, ", the tape has ", tape.x().rows(), " rows");
    ensure(options.lengths.empty() || options.counts.empty(), ErrorCode::range, name, ": ", options.lengths.size(),
           " sequences have counts of their own, they take no global ones");
}

/// Memory of a loss.
struct BalanceMemory {
    std::span<std::uint64_t> counts;  ///< (n_experts)
    std::span<double> shares;         ///< (n_experts)

    /// Returns the bytes.
    std::size_t lay_out(Arena arena, std::size_t n_experts) {
        counts = arena.take<std::uint64_t>(n_experts);
        shares = arena.take<double>(n_experts);
        return arena.used();
    }
};

}  // namespace detail

/// The load balance loss of GShard and the Switch Transformer (Fedus et al. 2021, 2101.03961, equations 4 to 6), for K
/// experts a token as Megatron-LM has it:
///
///     L = E / (K T^2) * sum over e of n_e * sum over t of P_te,    P_te = score(l_te) / (sum over j of score(l_tj))
///
/// 1 at balance, E / K where K experts get everything. E counts all experts that have logits, null experts too; P is of
/// the logits as the router gives them, before a softcap of the gate, once, over all E. The counts n are constants.
/// Returns L without coefficient and scale, and adds to tape.d_logits() coefficient * scale times
///
///     E / (K T^2) * P_te * (log score)'(l_te) * (n_e - sum over j of n_j P_tj)
///
/// With `counts` and `n_tokens` of a global batch (RoutingCounts, summed over all micro-batches and machines; Qiu et
/// al. 2025, 2501.11873) the value is this tape's part of that batch's: parts add up, and the scale is 1 where the main
/// loss is divided by the global number of tokens. With `lengths` it is the mean over sequences, each with the n and T
/// of its own (DeepSeek-V3, 2412.19437, equations 17 to 20); one without tokens counts as 0. Padding is in no n, P, T;
/// no tokens have the loss 0. One loss a layer: layers may be averaged or summed, their counts never.
///
/// A NaN among a token's logits makes the value NaN, and no other token's gradient. Throws Error before anything is
/// written: a tape that is not recorded (state) or has no logits (missing), a number of logits or counts that is not
/// that of the experts, lengths that do not sum up to the rows (shape), a top_k below 1, factors or an epsilon not
/// finite, another score, fewer tokens than the tape's, both lengths and counts (range). Sums are in double in one
/// order (ascending tokens). O(n_tokens n_experts), for CountsFrom::scores times top_k, by one thread; allocates
/// nothing once `workspace` has grown.
template <class T>
double add_load_balance(Tape<T>& tape, const LoadBalance& options, Workspace& workspace) {
    constexpr const char* name = "add_load_balance";
    const double factor = detail::confirm_loss(name, tape, options.coefficient, options.scale);
    detail::confirm_load_balance(name, tape, options);
    if (tape.x().rows() == 0) {
        return 0;
    }
    const std::size_t n_experts = tape.plan().n_experts;
    detail::BalanceMemory memory;
    const WorkspaceLease lease = workspace.lease(memory.lay_out({}, n_experts));
    memory.lay_out(lease.arena(), n_experts);
    const FloatEnvironment environment;
    const bool global = !options.counts.empty();
    std::span<const std::uint64_t> counts = options.counts;
    if (!global) {
        counts = memory.counts;
    }
    const std::size_t all[] = {tape.x().rows()};
    std::span<const std::size_t> lengths = options.lengths;
    if (lengths.empty()) {
        lengths = all;
    }
    const double top_k = options.counts_from == CountsFrom::first_choice ? 1 : options.top_k;
    double value = 0;
    std::size_t first = 0;
    for (const std::size_t length : lengths) {
        const std::uint64_t n_tokens = global ? options.n_tokens : detail::n_valid(tape, first, length);
        if (!global) {
            std::fill(memory.counts.begin(), memory.counts.end(), std::uint64_t{0});
            detail::count_tokens(detail::record_of(tape), options.counts_from, options.top_k, first, length,
                                 memory.counts);
        }
        if (n_tokens > 0) {
            const double norm = detail::balance_norm(n_experts, top_k, n_tokens) / static_cast<double>(lengths.size());
            value += detail::add_balance(tape, {options.score, options.epsilon, norm, factor}, first, length, counts,
                                         memory.shares);
        }
        first += length;
    }
    return value;
}

}  // namespace moe::inline MOE_ABI
