#pragma once

#include <algorithm>
#include <climits>
#include <concepts>
#include <cstddef>
#include <span>
#include <utility>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../core/matrix_view.hpp"
#include "../core/overlap.hpp"
#include "narrow.hpp"
#include "selection.hpp"

namespace moe::inline MOE_ABI {

/// True for the types that hold some gate chosen at run time (AnyGate). They satisfy neither TokenGate nor BatchGate;
/// the functions below accept them all the same.
template <class G>
inline constexpr bool erases_gates = false;

namespace detail {

template <class R>
concept Count = std::integral<R> && !std::same_as<R, bool>;

// The arguments are rvalues, so that a parameter of type `Selection&` does not match: out is a value.
template <class G, class T>
concept SelectsFromLogits = requires(const G& gate) {
    { gate.select(std::declval<std::span<const T>>(), std::declval<BasicSelection<T>>()) } -> Count;
};
template <class G, class T>
concept SelectsInContext = requires(const G& gate) {
    { gate.select(std::declval<std::span<const T>>(), TokenContext{}, std::declval<BasicSelection<T>>()) } -> Count;
};
template <class G, class T>
concept SelectsToken = SelectsFromLogits<G, T> || SelectsInContext<G, T>;

template <class G, class T>
concept SelectsBatch = requires(const G& gate) {
    { gate.select(std::declval<MatrixView<const T>>(), std::declval<BatchSelection<T>>()) } -> std::same_as<void>;
};

template <class G>
concept BoundedByExperts = requires(const G& gate, int n_experts) {
    { gate.max_per_token(n_experts) } -> Count;
};
template <class G>
concept BoundedAlways = requires(const G& gate) {
    { gate.max_per_token() } -> Count;
};
template <class G>
concept BoundedByBatch = requires(const G& gate, int n_tokens, int n_experts) {
    { gate.max_per_token(n_tokens, n_experts) } -> Count;
};
template <class G>
concept BoundsAssignments = requires(const G& gate, int n_tokens, int n_experts) {
    { gate.max_assignments(n_tokens, n_experts) } -> Count;
};
template <class G>
concept Validates = requires(const G& gate, std::size_t n_experts) {
    gate.validate(n_experts);
};
template <class G>
concept CountsExperts = requires(const G& gate, int n_logits) {
    { gate.n_experts(n_logits) } -> Count;
};
template <class G>
concept NamesOverlap = requires(const G& gate, const ByteView& memory) {
    { gate.overlapped(memory) } -> std::same_as<const char*>;
};
template <class G>
concept StatesLogitNeed = requires {
    requires std::same_as<const bool, decltype(G::needs_logits)>;
};

}  // namespace detail

/// A gate that chooses the experts of one token from the logits of that token: a plain struct, no base class.
///
///     int max_per_token() const;                                                    // or (int n_experts) const
///     int select(std::span<const float> logits, moe::Selection out) const;         // returns how many it chose
///
/// `logits` holds (n_experts) values, unless the gate says otherwise (below). `select` fills `out.experts` and
/// `out.weights` from the front and may use the memory of `out.scratch` and `out.order`; it may take a
/// `moe::TokenContext` between its two parameters. Any integer type counts. A gate written for float serves a double
/// layer too: its logits are rounded, its weights widened. Optional: `void validate(std::size_t n_experts) const`,
/// called at set-up, reports settings that cannot be, with `moe::raise_error`; `const char* overlapped(const
/// moe::ByteView& memory) const` names the memory it keeps views of that overlaps `memory`, or gives null; `static
/// constexpr bool needs_logits = false` for a gate that reads none (`logits` may then be empty); `int n_experts(int
/// n_logits) const` for a gate that reads another number of logits than there are experts; `backward`, for training
/// (see DifferentiableGate).
template <class G, class T = float>
concept TokenGate = (detail::BoundedAlways<G> || detail::BoundedByExperts<G>)&&(detail::SelectsToken<G, T> ||
                                                                                detail::SelectsToken<G, float>);

/// A gate that chooses for all tokens at once, for instance because every expert picks its tokens.
///
///     int max_per_token(int n_tokens, int n_experts) const;
///     void select(moe::MatrixView<const float> logits, moe::BatchSelection<float> out) const;
///
/// `logits` is (n_tokens, n_experts). `select` fills row t of `out.experts` and `out.weights` from the front; entries
/// left at `no_expert` are unused, those set to `dropped(e)` are in no plan but counted as drops. What it writes for
/// tokens that are not valid is discarded; they shall take nobody's place. Optional: `validate`, `needs_logits` and
/// `n_experts` as above, and `int max_assignments(int n_tokens, int n_experts) const` where the whole batch has fewer
/// than n_tokens * max_per_token.
template <class G, class T = float>
concept BatchGate = detail::BoundedByBatch<G> &&
    (detail::SelectsBatch<G, T> || detail::SelectsBatch<G, float>)&&!TokenGate<G, T>;

/// Whatever the functions below, and so Router, accept.
template <class G, class T = float>
concept Gate = TokenGate<G, T> || BatchGate<G, T> || erases_gates<G>;

namespace detail {

[[nodiscard]] inline int to_int(std::size_t value, const char* name) {
    ensure(std::in_range<int>(value), ErrorCode::overflow, "gate: ", value, " ", name, " exceed ", INT_MAX);
    return static_cast<int>(value);
}

template <Count N>
[[nodiscard]] std::size_t checked_bound(N bound, std::size_t n_experts) {
    ensure(std::cmp_greater_equal(bound, 1) && std::cmp_less_equal(bound, n_experts), ErrorCode::range,
           "gate: max_per_token is ", bound, ", it must lie in 1..", n_experts, ", the number of experts");
    return static_cast<std::size_t>(bound);
}

template <class T, class G>
[[nodiscard]] auto call_select(const G& gate, std::span<const T> logits, TokenContext context, BasicSelection<T> out) {
    if constexpr (SelectsInContext<G, T>) {
        return gate.select(logits, context, out);
    } else {
        return gate.select(logits, out);
    }
}

template <Count N>
[[nodiscard]] std::size_t checked_count(N count, std::size_t max) {
    ensure(std::cmp_greater_equal(count, 0) && std::cmp_less_equal(count, max), ErrorCode::range,
           "gate: select returned ", count, ", but at most ", max,
           " experts a token (max_per_token) and at least 0 may be chosen");
    return static_cast<std::size_t>(count);
}

inline void check_expert(ExpertId expert, std::size_t slot, std::size_t n_experts) {
    ensure(std::cmp_greater_equal(expert, 0) && std::cmp_less(expert, n_experts), ErrorCode::range,
           "gate: select chose expert ", expert, " in slot ", slot, ", the experts are 0..", n_experts - 1);
}

inline void check_rows(MatrixView<const ExpertId> experts, std::size_t n_experts) {
    for (std::size_t t = 0; t < experts.rows(); ++t) {
        const std::span<const ExpertId> row = experts.row_span(t);
        const auto unused = static_cast<std::size_t>(std::find(row.begin(), row.end(), no_expert) - row.begin());
        for (std::size_t slot = 0; slot < unused; ++slot) {
            check_expert(row[slot] < no_expert ? dropped(row[slot]) : row[slot], slot, n_experts);
        }
        for (std::size_t slot = unused; slot < row.size(); ++slot) {
            ensure(row[slot] == no_expert, ErrorCode::range, "gate: select left slot ", unused, " of token ", t,
                   " unused but chose expert ", row[slot], " in slot ", slot, "; fill each row from the front");
        }
    }
}

}  // namespace detail

/// True if the gate chooses for a whole batch, through select_batch; false if token by token, through select_token.
template <class G>
[[nodiscard]] constexpr bool is_batch_gate([[maybe_unused]] const G& gate) {
    if constexpr (erases_gates<G>) {
        return gate.is_batch_gate();
    } else {
        return BatchGate<G, float> || BatchGate<G, double>;
    }
}

/// False if the gate does without logits, so that the router need not compute them.
template <class G>
[[nodiscard]] constexpr bool needs_logits([[maybe_unused]] const G& gate) {
    if constexpr (erases_gates<G>) {
        return gate.needs_logits();
    } else if constexpr (detail::StatesLogitNeed<G>) {
        return G::needs_logits;
    } else {
        return true;
    }
}

/// The name of what the gate keeps views of that has bytes in common with `memory`, or null: also for a gate that does
/// not say.
template <class G>
[[nodiscard]] const char* gate_overlapped([[maybe_unused]] const G& gate, [[maybe_unused]] const ByteView& memory) {
    if constexpr (detail::NamesOverlap<G>) {
        return gate.overlapped(memory);
    } else {
        return nullptr;
    }
}

/// How many experts a gate chooses among that reads `n_logits` logits. Throws Error(range) unless it is 1 at least.
template <class G>
[[nodiscard]] std::size_t gate_n_experts([[maybe_unused]] const G& gate, std::size_t n_logits) {
    if constexpr (erases_gates<G>) {
        return gate.n_experts(n_logits);
    } else if constexpr (detail::CountsExperts<G>) {
        const auto count = gate.n_experts(detail::to_int(n_logits, "logits"));
        ensure(std::cmp_greater_equal(count, 1), ErrorCode::range, "gate: n_experts of ", n_logits, " logits is ",
               count, ", it must be at least 1");
        return static_cast<std::size_t>(count);
    } else {
        return n_logits;
    }
}

/// Most experts the gate may choose for a token of a batch of `n_tokens`. Throws Error(range) unless in 1..n_experts.
template <class G>
[[nodiscard]] std::size_t gate_max_per_token(const G& gate, std::size_t n_tokens, std::size_t n_experts) {
    const int experts = detail::to_int(n_experts, "experts");
    if constexpr (erases_gates<G>) {
        return gate.max_per_token(n_tokens, n_experts);
    } else if constexpr (detail::BoundedByBatch<G>) {
        return detail::checked_bound(gate.max_per_token(detail::to_int(n_tokens, "tokens"), experts), n_experts);
    } else if constexpr (detail::BoundedByExperts<G>) {
        return detail::checked_bound(gate.max_per_token(experts), n_experts);
    } else {
        return detail::checked_bound(gate.max_per_token(), n_experts);
    }
}

/// Most assignments the gate may make in a batch of `n_tokens`; at most n_tokens * gate_max_per_token. Throws Error as
/// that does.
template <class G>
[[nodiscard]] std::size_t gate_max_assignments(const G& gate, std::size_t n_tokens, std::size_t n_experts) {
    if constexpr (erases_gates<G>) {
        return gate.max_assignments(n_tokens, n_experts);
    } else {
        const std::size_t most = checked_multiply(n_tokens, moe::gate_max_per_token(gate, n_tokens, n_experts));
        if constexpr (detail::BoundsAssignments<G>) {
            const auto bound =
                gate.max_assignments(detail::to_int(n_tokens, "tokens"), detail::to_int(n_experts, "experts"));
            ensure(std::cmp_greater_equal(bound, 0), ErrorCode::range, "gate: max_assignments is ", bound);
            return std::cmp_less(bound, most) ? static_cast<std::size_t>(bound) : most;
        } else {
            return most;
        }
    }
}

/// Set-up check of a gate that is to choose among `n_experts`. Throws Error: no experts, whatever the gate's own
/// `validate` refuses, and max_per_token outside 1..n_experts.
template <class G>
void validate_gate(const G& gate, std::size_t n_experts) {
    ensure(n_experts > 0, ErrorCode::range, "gate: there must be at least 1 expert, there are 0");
    if constexpr (erases_gates<G>) {
        gate.validate(n_experts);
    } else {
        if constexpr (detail::Validates<G>) {
            gate.validate(n_experts);
        }
        (void)moe::gate_max_per_token(gate, 1, n_experts);
    }
}

/// Lets a token gate choose; returns how many experts it chose, now at the front of `out`, whose spans have the sizes
/// selection.hpp states. Throws Error(range) if the gate returns a count or an expert that cannot be.
template <class T, class G>
std::size_t select_token(const G& gate, std::span<const T> logits, TokenContext context, BasicSelection<T> out) {
    if constexpr (erases_gates<G>) {
        return gate.template select_token<T>(logits, context, out);
    } else {
        std::size_t count = 0;
        if constexpr (detail::SelectsToken<G, T>) {
            count = detail::checked_count(detail::call_select<T>(gate, logits, context, out), out.experts.size());
        } else {
            const detail::NarrowToken narrow(logits, out);
            count = detail::checked_count(
                detail::call_select<float>(gate, narrow.logits(), context, narrow.selection()), out.experts.size());
            detail::widen_in_place(out.weights.data(), count);
        }
        for (std::size_t slot = 0; slot < count; ++slot) {
            detail::check_expert(out.experts[slot], slot, out.order.size());
        }
        return count;
    }
}

/// Lets a batch gate choose for all tokens; those that are not valid end without experts. Throws Error(range) if it
/// leaves an expert that cannot be in `out`, or one behind an unused entry of its row.
template <class T, class G>
void select_batch(const G& gate, MatrixView<const T> logits, BatchSelection<T> out) {
    if constexpr (erases_gates<G>) {
        gate.template select_batch<T>(logits, out);
    } else {
        if constexpr (detail::SelectsBatch<G, T>) {
            gate.select(logits, out);
        } else {
            const detail::NarrowBatch narrow(logits, out);
            gate.select(narrow.logits(), narrow.selection());
            for (std::size_t t = 0; t < out.weights.rows(); ++t) {
                detail::widen_in_place(out.weights.row(t), out.weights.cols());
            }
        }
        for (std::size_t t = 0; t < out.experts.rows(); ++t) {
            if (!out.is_valid(t)) {
                std::fill_n(out.experts.row(t), out.experts.cols(), no_expert);
            }
        }
        detail::check_rows(out.experts, out.n_experts);
    }
}

}  // namespace moe::inline MOE_ABI
