#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../../core/borrowed.hpp"
#include "../../core/float_environment.hpp"
#include "load_balance.hpp"

namespace moe::inline MOE_ABI {

struct L1Loss {
    double coefficient = 1;  ///< SparsityController::lambda
    double scale = 1;
    int top_k = 0;                           ///< K, the experts a token shall have on average
    Borrowed<const std::uint64_t> counts{};  ///< (n_experts) of a global batch, or empty: of the tape
    std::uint64_t n_tokens = 0;              ///< of the global batch, without padding; 0 with empty counts
};

/// The regularisation of ReMoE (Wang et al. 2024, 2412.14711), for Threshold with ReluScore, which pulls scores to 0
/// and those of busy experts more:
///
///     L = E / (K T^2) * sum over e of n_e * sum over t of relu(l_te)
///
/// n_e the number of tokens whose logit of e is above 0, a constant. At balance, with K experts a token, the mean over
/// the tokens of the sum of their scores. Returns it without coefficient and scale, and adds to tape.d_logits()
/// coefficient * scale * E n_e / (K T^2) where the logit is above 0. Counts of a global batch as in add_load_balance.
/// A NaN logit is not above 0. Throws Error before anything is written, as add_load_balance does. Sums in double,
/// ascending tokens. O(n_tokens n_experts); allocates nothing once `workspace` has grown.
template <class T>
double add_l1(Tape<T>& tape, const L1Loss& options, Workspace& workspace) {
    constexpr const char* name = "add_l1";
    const double factor = detail::confirm_loss(name, tape, options.coefficient, options.scale);
    detail::confirm_logits(name, tape);
    detail::confirm_global(name, tape, options.counts, options.n_tokens);
    ensure(options.top_k >= 1, ErrorCode::range, name, ": top_k is ", options.top_k, ", it must be at least 1");
    const std::size_t n_experts = tape.plan().n_experts;
    const std::uint64_t n_tokens = options.counts.empty() ? detail::n_valid(tape) : options.n_tokens;
    if (n_tokens == 0) {
        return 0;
    }
    Arena measure;
    (void)measure.take<std::uint64_t>(n_experts);
    const WorkspaceLease lease = workspace.lease(measure.used());
    Arena arena = lease.arena();
    const std::span<std::uint64_t> own = arena.take<std::uint64_t>(n_experts);
    const FloatEnvironment environment;
    const MatrixView<const T> logits = tape.logits();
    std::fill(own.begin(), own.end(), std::uint64_t{0});
    for (std::size_t t = 0; t < logits.rows(); ++t) {
        for (std::size_t e = 0; e < n_experts && tape.is_valid(t); ++e) {
            own[e] += logits(t, e) > 0 ? std::uint64_t{1} : 0;
        }
    }
    std::span<const std::uint64_t> counts = options.counts;
    if (counts.empty()) {
        counts = own;
    }
    const double norm = detail::balance_norm(n_experts, options.top_k, n_tokens);
    double value = 0;
    for (std::size_t t = 0; t < logits.rows(); ++t) {
        const std::span<T> d_logits = tape.d_logits().row_span(t);
        for (std::size_t e = 0; e < n_experts && tape.is_valid(t); ++e) {
            if (logits(t, e) > 0) {
                const double slope = norm * static_cast<double>(counts[e]);
                value += slope * static_cast<double>(logits(t, e));
                d_logits[e] += static_cast<T>(factor * slope);
            }
        }
    }
    return value;
}

}  // namespace moe::inline MOE_ABI
