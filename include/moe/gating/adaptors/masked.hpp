#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "../../core/borrowed.hpp"
#include "../../core/error.hpp"
#include "../backward.hpp"
#include "../gate.hpp"
#include "../selection.hpp"
#include "adaptor.hpp"

namespace moe::inline MOE_ABI {

/// Another gate among the experts that are allowed: for a call, with MoELayer::with_gate, where experts are not loaded,
/// or to see what a model loses without them.
///
///     layer.with_gate(moe::Masked<Gate>{.gate = layer.router().gate(), .allowed = mask})
///
/// The gate inside reads a logit of -infinity for each expert that is not allowed, and so gives it a softmax, sigmoid
/// or ReLU score of 0 and ranks it last (see TokenChoice); whatever it still chooses of those is removed. A
/// TokenChoice without groups that finds top_k experts among those allowed chooses as if its router had only these.
/// Where none is allowed, a token has no experts. An expert that was chosen and removed has entered the
/// normalisation inside; `renormalize` makes the weights of the others sum to 1.
template <class G>
struct Masked {
    static_assert(detail::AdaptableSomewhere<G>, "Masked: the gate inside must be a moe::TokenGate.");

    G gate{};
    Borrowed<const std::uint8_t> allowed{};  ///< (n_experts) 0: not allowed
    bool renormalize = false;                ///< divide the weights by their sum, where it is positive

    static constexpr bool needs_logits = detail::reads_logits<G>;

    /// Throws Error(shape) unless the gate inside reads one logit an expert: put the mask inside a gate that does not,
    /// such as Cosine, whose logits are those of the gate inside.
    [[nodiscard]] std::size_t n_experts(int n_logits) const {
        const std::size_t n = moe::gate_n_experts(gate, static_cast<std::size_t>(n_logits));
        ensure(std::cmp_equal(n, n_logits), ErrorCode::shape, "Masked: the gate inside reads ", n_logits,
               " logits for ", n, " experts; a mask of experts needs one logit an expert");
        ensure(detail::reads_logits_of_experts<G>, ErrorCode::shape, "Masked: the gate inside reads ", n_logits,
               " logits that are not those of its ", n, " experts; put the mask inside it");
        return n;
    }
    [[nodiscard]] std::size_t max_per_token(int n_experts) const {
        return moe::gate_max_per_token(gate, 1, static_cast<std::size_t>(n_experts));
    }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const { return moe::gate_overlapped(gate, memory); }

    /// Throws Error(shape) unless `allowed` has one entry an expert; else what the gate inside refuses.
    void validate(std::size_t n_experts) const {
        ensure(allowed.size() == n_experts, ErrorCode::shape, "Masked: allowed has ", allowed.size(), " entries for ",
               n_experts, " experts");
        detail::validate_inner("Masked", gate, n_experts);
    }

    /// `logits` (n_experts), or empty for a gate that reads none. O(n_experts) beside the gate inside.
    template <std::floating_point T>
        requires detail::Adaptable<G, T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        if (!logits.empty()) {
            logits = masked<T>(logits, detail::take_part(out, logits.size()));
        }
        const std::size_t count = moe::select_token<T>(gate, logits, context, out);
        return static_cast<int>(
            detail::keep_experts(out, count, renormalize, [&](ExpertId e) { return is_allowed(e); }));
    }

    /// See gate_parameters.
    [[nodiscard]] GateParameters parameters() const { return moe::gate_parameters(gate); }

    /// See DifferentiableGate, gate_has_backward.
    [[nodiscard]] bool has_backward() const { return moe::gate_has_backward(gate); }
    template <std::floating_point T>
        requires detail::PassesGradient<G, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        Chosen<T> rest = chosen;
        if (!logits.empty()) {
            logits = masked<T>(logits, detail::take_part(rest, logits.size()));
        }
        detail::keep_backward<T>(gate, renormalize, logits, rest, d_weights, d_logits,
                                 [&](ExpertId e) { return is_allowed(e); });
    }

private:
    [[nodiscard]] bool is_allowed(ExpertId e) const { return allowed[static_cast<std::size_t>(e)] != 0; }

    template <class T>
    [[nodiscard]] std::span<const T> masked(std::span<const T> logits, std::span<T> memory) const {
        for (std::size_t e = 0; e < logits.size(); ++e) {
            memory[e] = allowed[e] != 0 ? logits[e] : -std::numeric_limits<T>::infinity();
        }
        return memory.first(logits.size());
    }
};

}  // namespace moe::inline MOE_ABI
