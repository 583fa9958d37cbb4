#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <span>

#include "../../core/error.hpp"
#include "../backward.hpp"
#include "../gate.hpp"
#include "../selection.hpp"
#include "adaptor.hpp"

namespace moe::inline MOE_ABI {

/// Another gate whose experts count fully, with one weight for all, while its router learns as if they had the weights
/// of the gate inside: the straight-through estimator (Bengio, Leonard, Courville 2013, 1308.3432), of the experts that
/// were chosen; an option of ST-MoE and the way of DynMoE. Without it a weight of 1 teaches the router nothing. The
/// gradient is biased; that over all experts is ReinMax with order 1.
template <class G>
struct StraightThrough {
    static_assert(detail::AdaptableSomewhere<G>, "StraightThrough: the gate inside must be a moe::TokenGate.");

    G gate{};
    double weight = 1;  ///< of each expert chosen

    static constexpr bool needs_logits = detail::reads_logits<G>;

    [[nodiscard]] std::size_t n_experts(int n_logits) const {
        return moe::gate_n_experts(gate, static_cast<std::size_t>(n_logits));
    }
    [[nodiscard]] std::size_t max_per_token(int n_experts) const {
        return moe::gate_max_per_token(gate, 1, static_cast<std::size_t>(n_experts));
    }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const { return moe::gate_overlapped(gate, memory); }

    /// Throws Error(range): a weight that is not finite; else what the gate inside refuses.
    void validate(std::size_t n_experts) const {
        ensure(std::isfinite(weight), ErrorCode::range, "StraightThrough: weight is ", weight, ", it must be finite");
        detail::validate_inner("StraightThrough", gate, n_experts);
    }

    /// `logits` as the gate inside reads them. O(experts chosen) beside it.
    template <std::floating_point T>
        requires detail::Adaptable<G, T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        const std::size_t count = moe::select_token<T>(gate, logits, context, out);
        std::fill_n(out.weights.begin(), count, static_cast<T>(weight));
        return static_cast<int>(count);
    }

    /// See DifferentiableGate, gate_has_backward: that of the weights which the gate inside gave.
    [[nodiscard]] bool has_backward() const { return moe::gate_has_backward(gate); }
    template <std::floating_point T>
        requires detail::PassesGradient<G, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        detail::keep_backward<T>(gate, false, logits, chosen, d_weights, d_logits, [](ExpertId) { return true; });
    }
};

template <class G>
inline constexpr bool detail::reads_logits_of_experts<StraightThrough<G>> = detail::reads_logits_of_experts<G>;

}  // namespace moe::inline MOE_ABI
