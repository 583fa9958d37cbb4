#pragma once

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include "gate.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// Converts to whatever a parameter asks for: it finds out whether a call fails by its other arguments.
struct AnyArgument {
    template <class U>
    operator U() const;  // NOLINT: implicit is what it is for
};

// A class that inherits `name` from two bases cannot name it: &Both::name is ill-formed exactly if G has the member, be
// it overloaded, a template or private.
struct HasSelect {
    int select;
};
struct HasMaxPerToken {
    int max_per_token;
};
struct HasValidate {
    int validate;
};
struct HasNeedsLogits {
    int needs_logits;
};
struct HasNExperts {
    int n_experts;
};
struct HasMaxAssignments {
    int max_assignments;
};
template <class G, class Name>
struct Both : G, Name {};

template <class G>
concept Derivable = std::is_class_v<G> && !std::is_final_v<G>;
template <class G>
concept NamesSelect = !Derivable<G> || !requires {
    &Both<G, HasSelect>::select;
};
template <class G>
concept NamesMaxPerToken = !Derivable<G> || !requires {
    &Both<G, HasMaxPerToken>::max_per_token;
};
template <class G>
concept NamesValidate = Derivable<G> && !requires {
    &Both<G, HasValidate>::validate;
};
template <class G>
concept NamesNExperts = Derivable<G> && !requires {
    &Both<G, HasNExperts>::n_experts;
};
template <class G>
concept NamesMaxAssignments = Derivable<G> && !requires {
    &Both<G, HasMaxAssignments>::max_assignments;
};
template <class G>
concept NamesNeedsLogits = Derivable<G> && !requires {
    &Both<G, HasNeedsLogits>::needs_logits;
};

/// Whether `select` of a G (constant or not) can be called with arguments of these types, whatever it returns.
template <class G, class... Args>
concept SelectTakes = requires(G& gate) {
    gate.select(std::declval<Args>()...);
};

template <class G, class T>
concept TakesToken = SelectTakes<G, std::span<const T>, BasicSelection<T>> ||
    SelectTakes<G, std::span<const T>, TokenContext, BasicSelection<T>>;
template <class G, class T>
concept TakesTokenByReference = SelectTakes < G,
        std::span<const T>, BasicSelection<T>
& > || SelectTakes<G, std::span<const T>, TokenContext, BasicSelection<T>&>;
template <class G, class T>
concept TakesTokenButLogits =
    SelectTakes<G, AnyArgument, BasicSelection<T>> || SelectTakes<G, AnyArgument, TokenContext, BasicSelection<T>>;
template <class G, class T>
concept TakesTokenButSelection =
    SelectTakes<G, std::span<const T>, AnyArgument> || SelectTakes<G, std::span<const T>, TokenContext, AnyArgument>;
template <class G, class T>
concept TakesTokenButContext = SelectTakes<G, std::span<const T>, AnyArgument, BasicSelection<T>>;
template <class G, class T>
concept TakesBatch = SelectTakes<G, MatrixView<const T>, BatchSelection<T>>;
template <class G, class T>
concept TakesPartOfBatch =
    SelectTakes<G, MatrixView<const T>, AnyArgument> || SelectTakes<G, AnyArgument, BatchSelection<T>>;

template <class G>
concept BoundTakesAny = requires(G& gate, int n) {
    gate.max_per_token();
}
|| requires(G& gate, int n) { gate.max_per_token(n); };
template <class G>
concept BoundTakesAnyConst = BoundTakesAny<const G>;
template <class G>
concept BoundTakesBatch = requires(G& gate, int n) {
    gate.max_per_token(n, n);
};

/// The mistakes of a gate for T, each true at most where all before it are false. So one mistake gives one message.
template <class G, class T>
struct TokenGateMistakes {
    // `takes` holds for a gate in the layer's type or in float, both of which are served.
    static constexpr bool takes = TakesToken<G, T> || TakesToken<G, float>;
    static constexpr bool missing = !NamesSelect<G>;
    static constexpr bool by_reference =
        !missing && !takes && (TakesTokenByReference<G, T> || TakesTokenByReference<G, float>);
    static constexpr bool context =
        !missing && !takes && !by_reference && (TakesTokenButContext<G, T> || TakesTokenButContext<G, float>);
    static constexpr bool logits =
        !missing && !takes && !by_reference && !context && (TakesTokenButLogits<G, T> || TakesTokenButLogits<G, float>);
    static constexpr bool selection = !missing && !takes && !by_reference && !context && !logits &&
                                      (TakesTokenButSelection<G, T> || TakesTokenButSelection<G, float>);
    static constexpr bool parameters = !missing && !takes && !by_reference && !context && !logits && !selection;
    static constexpr bool not_const = takes && !TakesToken<const G, T> && !TakesToken<const G, float>;
    static constexpr bool returns = takes && !not_const && !SelectsToken<G, T> && !SelectsToken<G, float>;

    static constexpr bool bound_missing = !NamesMaxPerToken<G>;
    static constexpr bool bound_parameters = !bound_missing && !BoundTakesAny<G>;
    static constexpr bool bound_not_const = !bound_missing && !bound_parameters && !BoundTakesAnyConst<G>;
    static constexpr bool bound_returns =
        !bound_missing && !bound_parameters && !bound_not_const && !BoundedAlways<G> && !BoundedByExperts<G>;
};

template <class G, class T>
struct BatchGateMistakes {
    static constexpr bool takes = TakesBatch<G, T> || TakesBatch<G, float>;
    static constexpr bool not_const = takes && !TakesBatch<const G, T> && !TakesBatch<const G, float>;
    static constexpr bool returns = takes && !not_const && !SelectsBatch<G, T> && !SelectsBatch<G, float>;

    static constexpr bool bound_missing = !NamesMaxPerToken<G>;
    static constexpr bool bound_parameters = !bound_missing && !BoundTakesBatch<G>;
    static constexpr bool bound_not_const = !bound_missing && !bound_parameters && !BoundTakesBatch<const G>;
    static constexpr bool bound_returns = !bound_missing && !bound_parameters && !bound_not_const && !BoundedByBatch<G>;
};

template <class G, class T>
consteval void diagnose_token_gate() {
    using Mistakes = TokenGateMistakes<G, T>;
    static_assert(!Mistakes::missing,
                  "gate: add the member `int select(std::span<const float> logits, moe::Selection out) const`.");
    static_assert(!Mistakes::by_reference, "gate: select must take its moe::Selection by value, without the &.");
    static_assert(!Mistakes::context,
                  "gate: the second of three parameters of select must be `moe::TokenContext context`.");
    static_assert(
        !Mistakes::logits,
        "gate: the first parameter of select must be `std::span<const float> logits`, the type of the layer.");
    static_assert(!Mistakes::selection, "gate: the last parameter of select must be `moe::Selection out`.");
    static_assert(
        !Mistakes::parameters,
        "gate: select must be public, with the parameters (std::span<const float> logits, moe::Selection out).");
    static_assert(!Mistakes::not_const, "gate: declare select const.");
    static_assert(!Mistakes::returns, "gate: select must return an int, the number of experts it chose.");
    static_assert(!Mistakes::bound_missing,
                  "gate: add the member `int max_per_token() const`, the most experts select may choose.");
    static_assert(!Mistakes::bound_parameters,
                  "gate: max_per_token must be public and take no parameter, or `int n_experts`.");
    static_assert(!Mistakes::bound_not_const, "gate: declare max_per_token const.");
    static_assert(!Mistakes::bound_returns, "gate: max_per_token must return an int.");
}

template <class G, class T>
consteval void diagnose_batch_gate() {
    using Mistakes = BatchGateMistakes<G, T>;
    static_assert(
        Mistakes::takes,
        "gate: select of a batch gate must take (moe::MatrixView<const float> logits, moe::BatchSelection<float> "
        "out).");
    static_assert(!Mistakes::not_const, "gate: declare select const.");
    static_assert(!Mistakes::returns,
                  "gate: select of a batch gate must return void: an entry it leaves at moe::no_expert is unused.");
    static_assert(!Mistakes::bound_missing,
                  "gate: add the member `int max_per_token(int n_tokens, int n_experts) const` to the batch gate.");
    static_assert(!Mistakes::bound_parameters,
                  "gate: max_per_token of a batch gate must be public and take (int n_tokens, int n_experts).");
    static_assert(!Mistakes::bound_not_const, "gate: declare max_per_token const.");
    static_assert(!Mistakes::bound_returns, "gate: max_per_token must return an int.");
}

}  // namespace detail

/// Says what to type where G is almost a gate of a layer in T: put `static_assert(check_gate<G, T>())` at class scope,
/// and guard what calls the gate with `if constexpr (Gate<G, T>)`. Each mistake fails one static_assert, whose text is
/// the remedy. Returns true.
template <class G, class T = float>
consteval bool check_gate() {
    if constexpr (!Gate<G, T>) {
        constexpr bool takes_token = detail::TakesToken<G, T> || detail::TakesToken<G, float>;
        constexpr bool takes_part = detail::TakesPartOfBatch<G, T> || detail::TakesPartOfBatch<G, float>;
        constexpr bool batch = !takes_token && takes_part;
        if constexpr (batch) {
            detail::diagnose_batch_gate<G, T>();
        } else {
            detail::diagnose_token_gate<G, T>();
        }
    }
    static_assert(!detail::NamesValidate<G> || detail::Validates<G>,
                  "gate: validate must be `void validate(std::size_t n_experts) const`, and public.");
    static_assert(!detail::NamesNExperts<G> || detail::CountsExperts<G> || erases_gates<G>,
                  "gate: n_experts must be `int n_experts(int n_logits) const`, and public.");
    static_assert(
        !detail::NamesMaxAssignments<G> || detail::BoundsAssignments<G> || erases_gates<G>,
        "gate: max_assignments must be `int max_assignments(int n_tokens, int n_experts) const`, and public.");
    static_assert(!detail::NamesNeedsLogits<G> || detail::StatesLogitNeed<G> || erases_gates<G>,
                  "gate: needs_logits must be `static constexpr bool needs_logits`, and public.");
    return true;
}

}  // namespace moe::inline MOE_ABI
