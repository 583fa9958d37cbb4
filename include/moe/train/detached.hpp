#pragma once

#include <cstddef>
#include <span>

#include "../gating/backward.hpp"
#include "../gating/reads_logits.hpp"

namespace moe::inline MOE_ABI {

/// Another gate through which no gradient passes: the router does not learn from the weights, nor does what is below it
/// through the router. Losses of the router's own, which add to the gradients of logits, still reach it. For a router
/// that is frozen or trained otherwise, and for a gate that has no derivative, said aloud:
///
///     moe::Detached{MyGate{.top_k = 2}}
///
/// In all else it is the gate G, token gate, batch gate or AnyGate, whose members it inherits.
template <class G>
struct Detached : G {
    [[nodiscard]] static constexpr bool has_backward() { return true; }

    /// None that gradients pass to.
    [[nodiscard]] static GateParameters parameters() { return {}; }

    /// Adds nothing.
    template <class T>
    void backward(std::span<const T> /*logits*/, const Chosen<T>& /*chosen*/, std::span<const T> /*d_weights*/,
                  std::span<T> /*d_logits*/) const {}
};

template <class G>
Detached(G) -> Detached<G>;

template <class G>
inline constexpr bool erases_gates<Detached<G>> = erases_gates<G>;
template <class G>
inline constexpr bool detail::reads_logits_of_experts<Detached<G>> = detail::reads_logits_of_experts<G>;

}  // namespace moe::inline MOE_ABI
