#pragma once

#include "gate.hpp"

/// What adaptors need to know of the gate inside before they know its value.
namespace moe::inline MOE_ABI::detail {

/// Whether a gate of type G reads logits. What an AnyGate holds is not known to its type, so it does.
template <class G>
inline constexpr bool reads_logits = true;
template <StatesLogitNeed G>
inline constexpr bool reads_logits<G> = G::needs_logits;

/// Whether a gate of type G reads one logit for each expert where it reads as many logits as there are experts. What an
/// AnyGate holds is not known to its type.
template <class G>
inline constexpr bool reads_logits_of_experts = true;

}  // namespace moe::inline MOE_ABI::detail
