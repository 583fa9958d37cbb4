#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "../../core/error.hpp"
#include "../../core/index.hpp"
#include "../gate.hpp"
#include "../reads_logits.hpp"
#include "../selection.hpp"

/// What the gates that stand around another gate have in common.
namespace moe::inline MOE_ABI::detail {

/// Gates an adaptor may stand around in a layer of T: token gates, and an AnyGate that holds one.
template <class G, class T>
concept Adaptable = TokenGate<G, T> || erases_gates<G>;
template <class G>
concept AdaptableSomewhere = Adaptable<G, float> || Adaptable<G, double>;

/// Set-up check of the gate inside. Throws Error(missing) if an AnyGate holds a batch gate, else as validate_gate does.
template <class G>
void validate_inner(const char* adaptor, const G& gate, std::size_t n_experts) {
    ensure(!moe::is_batch_gate(gate), ErrorCode::missing, adaptor,
           ": the gate inside chooses for whole batches, it must choose token by token");
    moe::validate_gate(gate, n_experts);
}

/// Parts of scratch a gate may use by itself; the others are for adaptors.
inline constexpr std::size_t gate_parts = 4;

/// Takes the last part of the scratch, one value for each logit or expert, whichever are more, out of `out`. Throws
/// Error(capacity) if too little would remain for the gate inside.
template <class T>
[[nodiscard]] std::span<T> take_part(BasicSelection<T>& out, std::size_t n_logits) {
    const std::size_t part = (std::max)(n_logits, out.order.size());
    ensure(out.scratch.size() >= (gate_parts + 1) * part, ErrorCode::capacity, "gate: ", out.scratch.size(),
           " values of scratch are left, one more adaptor and the gate inside need ", (gate_parts + 1) * part,
           "; at most ", selection_parts - gate_parts, " adaptors that need scratch may stand around a gate");
    const std::size_t rest = out.scratch.size() - part;
    const std::span<T> own = out.scratch.subspan(rest);
    out.scratch = out.scratch.first(rest);
    return own;
}

/// Removes those of the first `count` experts of `out` for which keep(e) does not hold and returns how many are left.
/// `renormalize` divides their weights by their sum, in slot order, where it is positive. O(count).
template <class T, class Keep>
[[nodiscard]] std::size_t keep_experts(const BasicSelection<T>& out, std::size_t count, bool renormalize,
                                       const Keep& keep) {
    std::size_t kept = 0;
    T sum = 0;
    for (std::size_t slot = 0; slot < count; ++slot) {
        if (keep(out.experts[slot])) {
            out.experts[kept] = out.experts[slot];
            out.weights[kept] = out.weights[slot];
            sum += out.weights[kept++];
        }
    }
    if (renormalize && sum > 0) {
        for (T& weight : out.weights.first(kept)) {
            weight /= sum;
        }
    }
    return kept;
}

}  // namespace moe::inline MOE_ABI::detail
