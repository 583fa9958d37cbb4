#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "../../core/alignment.hpp"
#include "../../core/error.hpp"
#include "../../core/index.hpp"
#include "../../core/matrix_view.hpp"
#include "../backward.hpp"
#include "../selection.hpp"
#include "../weigh.hpp"
#include "adaptor.hpp"

namespace moe::inline MOE_ABI {

/// Experts given for a call, weighed by the rule of another gate from the logits of the call: the replay of a recorded
/// choice with recomputed weights (the router replay of Megatron-LM, which trains on the experts that inference chose),
/// or a choice imposed by hand.
///
///     layer.with_gate(moe::Forced<Gate>{.gate = layer.router().gate(), .experts = experts})
///
/// A token at position p takes row p - first_position of `experts`, up to the first no_expert. A plan with its weights
/// is replayed without a gate (MoELayer::forward with a plan).
template <class G>
struct Forced {
    static_assert(WeighingGate<G, float> || WeighingGate<G, double>,
                  "Forced: the gate inside must be a moe::TokenGate with the member `weigh` (moe::WeighingGate).");

    G gate{};
    MatrixView<const ExpertId> experts{};  ///< (n_tokens, k), or (1, k): the same for all tokens
    std::uint64_t first_position = 0;      ///< TokenContext::position of row 0; of no account for a single row

    static constexpr bool needs_logits = detail::reads_logits<G>;

    [[nodiscard]] std::size_t n_experts(int n_logits) const {
        return moe::gate_n_experts(gate, static_cast<std::size_t>(n_logits));
    }
    [[nodiscard]] std::size_t max_per_token() const { return experts.cols(); }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        const char* const own = moe::overlapped(memory, {{"the forced experts", bytes_of(experts)}});
        return own != nullptr ? own : moe::gate_overlapped(gate, memory);
    }

    /// Throws Error(range, alignment): no rows, more columns than experts, an expert that cannot be (reads all rows up
    /// to their no_expert); else what the gate inside refuses.
    void validate(std::size_t n_experts) const {
        ensure(!experts.empty(), ErrorCode::range, "Forced: experts is empty, ", experts.rows(), " x ", experts.cols());
        ensure(experts.cols() <= n_experts, ErrorCode::range, "Forced: experts gives ", experts.cols(),
               " experts a token, there are ", n_experts);
        require_aligned(experts.data(), "Forced", "experts");
        for (std::size_t t = 0; t < experts.rows(); ++t) {
            const std::span<const ExpertId> row = chosen_in(t);
            for (std::size_t slot = 0; slot < row.size(); ++slot) {
                ensure(row[slot] >= 0 && std::cmp_less(row[slot], n_experts), ErrorCode::range, "Forced: row ", t,
                       " gives the expert ", row[slot], " in slot ", slot, ", the experts are 0..", n_experts - 1);
            }
        }
        detail::validate_inner("Forced", gate, n_experts);
    }

    /// `logits` as the gate inside reads them. Throws Error(range) for a token that has no row.
    template <std::floating_point T>
        requires WeighingGate<G, T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        std::size_t t = 0;
        if (experts.rows() != 1) {
            ensure(context.position >= first_position && context.position - first_position < experts.rows(),
                   ErrorCode::range, "Forced: the token at position ", context.position, " has no row, there are ",
                   experts.rows(), " from position ", first_position, " on");
            t = detail::to_size(context.position - first_position);
        }
        const std::span<const ExpertId> row = chosen_in(t);
        std::copy(row.begin(), row.end(), out.experts.begin());
        moe::weigh_experts<T>(gate, logits, row, out);
        return static_cast<int>(row.size());
    }

    /// See gate_parameters.
    [[nodiscard]] GateParameters parameters() const { return moe::gate_parameters(gate); }

    /// See DifferentiableGate, gate_has_backward.
    [[nodiscard]] bool has_backward() const { return moe::gate_has_backward(gate); }
    template <std::floating_point T>
        requires detail::PassesGradient<G, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        moe::gate_backward<T>(gate, logits, chosen, d_weights, d_logits);
    }

private:
    [[nodiscard]] std::span<const ExpertId> chosen_in(std::size_t t) const {
        const std::span<const ExpertId> row = experts.row_span(t);
        return row.first(static_cast<std::size_t>(std::find(row.begin(), row.end(), no_expert) - row.begin()));
    }
};

template <class G>
inline constexpr bool detail::reads_logits_of_experts<Forced<G>> = detail::reads_logits_of_experts<G>;

}  // namespace moe::inline MOE_ABI
