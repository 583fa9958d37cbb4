#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "../../core/error.hpp"
#include "../../core/index.hpp"
#include "../backward.hpp"
#include "../backward_rules.hpp"
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

/// Takes the last part of the scratch, `size` values, out of `chosen`. Throws Error(capacity) if too little would
/// remain for the gate inside.
template <class T>
[[nodiscard]] std::span<T> take_part(Chosen<T>& chosen, std::size_t size) {
    ensure(chosen.scratch.size() >= 2 * size, ErrorCode::capacity, "gate: ", chosen.scratch.size(),
           " values of scratch are left in a backward pass, one more adaptor and the gate inside need ", 2 * size,
           " at least; it must begin with backward_scratch_size of the larger of the numbers of logits and experts");
    const std::size_t rest = chosen.scratch.size() - size;
    const std::span<T> own = chosen.scratch.subspan(rest);
    chosen.scratch = chosen.scratch.first(rest);
    return own;
}

/// All that a token gate chose before an adaptor changed it.
template <class T>
struct ChosenInside {
    std::span<const ExpertId> experts;
    std::span<T> weights;
    std::span<T> d_weights;  ///< all 0
};

/// Lets the gate inside choose once more, from the same logits. The memory is taken out of `chosen`, 3 parts of it.
template <class T, class G>
[[nodiscard]] ChosenInside<T> choose_inside(const G& gate, std::span<const T> logits, Chosen<T>& chosen) {
    const std::size_t n_experts = moe::gate_n_experts(gate, logits.size());
    const std::size_t part = (std::max)(n_experts, logits.size());
    const std::size_t most = moe::gate_max_per_token(gate, 1, n_experts);
    const std::span<ExpertId> experts = detail::ids_in(detail::take_part(chosen, part)).first(most);
    const std::span<T> weights = detail::take_part(chosen, part).first(most);
    const std::span<T> d_weights = detail::take_part(chosen, part);
    Chosen<T> rest = chosen;
    const std::span<ExpertId> order = detail::ids_in(detail::take_part(rest, part)).first(n_experts);
    const std::size_t count =
        moe::select_token<T>(gate, logits, chosen.context, BasicSelection<T>{experts, weights, rest.scratch, order});
    std::fill(d_weights.begin(), d_weights.end(), T(0));
    return {experts.first(count), weights.first(count), d_weights.first(count)};
}

/// The backward pass of keep_experts after the gate inside.
template <class T, class G, class Keep>
void keep_backward(const G& gate, bool renormalize, std::span<const T> logits, Chosen<T> chosen,
                   std::span<const T> d_weights, std::span<T> d_logits, const Keep& keep) {
    if (logits.empty()) {
        return;
    }
    const std::span<const ExpertId> kept = chosen.experts;
    const ChosenInside<T> inside = detail::choose_inside<T>(gate, logits, chosen);
    detail::for_each_place(kept, inside.experts,
                           [&](std::size_t i, std::size_t slot) { inside.d_weights[slot] = d_weights[i]; });
    T sum = 0;
    T mean = 0;
    for (std::size_t slot = 0; slot < inside.experts.size(); ++slot) {
        sum += keep(inside.experts[slot]) ? inside.weights[slot] : T(0);
        mean += inside.d_weights[slot] * inside.weights[slot];
    }
    if (renormalize && sum > 0) {
        for (std::size_t slot = 0; slot < inside.experts.size(); ++slot) {
            if (keep(inside.experts[slot])) {
                inside.d_weights[slot] = (inside.d_weights[slot] - mean / sum) / sum;
            }
        }
    }
    chosen.experts = inside.experts;
    chosen.weights = inside.weights;
    chosen.dropped = {};
    moe::gate_backward<T>(gate, logits, chosen, inside.d_weights, d_logits);
}

}  // namespace moe::inline MOE_ABI::detail
