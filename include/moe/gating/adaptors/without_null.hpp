#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <utility>

#include "../../core/error.hpp"
#include "../backward.hpp"
#include "../gate.hpp"
#include "../selection.hpp"
#include "adaptor.hpp"

namespace moe::inline MOE_ABI {

/// Another gate of whose experts some, `n_null` from `first_null` on, compute nothing: AdaMoE (Zeng et al. 2024,
/// 2406.13233) and the zero experts of MoE++ (Jin et al. 2024, 2410.07348). A token that chooses such a null expert has
/// fewer true ones, so it costs less. The null experts are removed from the choice; `renormalize` divides the weights
/// of the others by their sum, where it is positive (AdaMoE, and the code of MoE++ where its softmax is over all
/// experts), otherwise a null expert keeps its share of the weight (the same code where it is over the chosen).
///
/// The layer sees the null experts as experts that no token takes (NullExperts::n_zero). To have them in its plan
/// instead, as observers may wish, leave the adaptor away. The other experts of MoE++ (NullExperts::n_identity,
/// constants), which stand behind those that add nothing, are kept where n_null ends before them.
template <class G>
struct WithoutNull {
    static_assert(detail::AdaptableSomewhere<G>, "WithoutNull: the gate inside must be a moe::TokenGate.");

    G gate{};
    int first_null = 0;       ///< the experts before it are true ones
    bool renormalize = true;  ///< divide the weights by their sum, where it is positive
    int n_null = 0;           ///< 0: all from first_null on

    static constexpr bool needs_logits = detail::reads_logits<G>;

    [[nodiscard]] std::size_t n_experts(int n_logits) const {
        return moe::gate_n_experts(gate, static_cast<std::size_t>(n_logits));
    }
    [[nodiscard]] std::size_t max_per_token(int n_experts) const {
        return moe::gate_max_per_token(gate, 1, static_cast<std::size_t>(n_experts));
    }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const { return moe::gate_overlapped(gate, memory); }

    /// Throws Error(range): first_null outside 1..n_experts, more null experts than there are behind it; else what the
    /// gate inside refuses.
    void validate(std::size_t n_experts) const {
        ensure(first_null >= 1 && std::cmp_less_equal(first_null, n_experts), ErrorCode::range,
               "WithoutNull: first_null is ", first_null, ", it must lie in 1..", n_experts, ", the number of experts");
        const std::size_t most = n_experts - static_cast<std::size_t>(first_null);
        ensure(n_null >= 0 && std::cmp_less_equal(n_null, most), ErrorCode::range, "WithoutNull: n_null is ", n_null,
               ", it must be 0 (all from first_null on) or at most ", most);
        detail::validate_inner("WithoutNull", gate, n_experts);
    }

    /// `logits` as the gate inside reads them. O(experts chosen) beside it.
    template <std::floating_point T>
        requires detail::Adaptable<G, T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        const std::size_t count = moe::select_token<T>(gate, logits, context, out);
        return static_cast<int>(detail::keep_experts(out, count, renormalize, [&](ExpertId e) { return is_true(e); }));
    }

    /// See gate_parameters.
    [[nodiscard]] GateParameters parameters() const { return moe::gate_parameters(gate); }

    /// See DifferentiableGate, gate_has_backward.
    [[nodiscard]] bool has_backward() const { return moe::gate_has_backward(gate); }
    template <std::floating_point T>
        requires detail::PassesGradient<G, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        detail::keep_backward<T>(gate, renormalize, logits, chosen, d_weights, d_logits,
                                 [&](ExpertId e) { return is_true(e); });
    }

private:
    [[nodiscard]] bool is_true(ExpertId e) const { return e < first_null || (n_null > 0 && e - first_null >= n_null); }
};

template <class G>
inline constexpr bool detail::reads_logits_of_experts<WithoutNull<G>> = detail::reads_logits_of_experts<G>;

}  // namespace moe::inline MOE_ABI
