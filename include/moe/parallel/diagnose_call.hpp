#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

#include "../core/matrix_view.hpp"
#include "../core/workspace.hpp"
#include "executor.hpp"

/// What to type where the arguments of a `forward` are almost right: overloads that take what no other does call
/// diagnose_call, each of whose static_asserts is one mistake and its remedy.
namespace moe::inline MOE_ABI::detail {

template <class E>
concept TellsConcurrency = requires(const E& executor) {
    { executor.concurrency() } -> std::convertible_to<std::size_t>;
};
/// Whether an E that may change can run work.
template <class E>
concept RunsWork = requires(E& executor, ParallelWork work) {
    executor.run(work);
};

template <class E>
consteval void diagnose_executor() {
    if constexpr (!Executor<E>) {
        static_assert(TellsConcurrency<E>, "executor: add the member `std::size_t concurrency() const`.");
        static_assert(RunsWork<E>, "executor: add the member `void run(moe::ParallelWork work) const`.");
        static_assert(!TellsConcurrency<E> || !RunsWork<E>, "executor: declare run const.");
    }
}

/// Whether x, y, the workspace or the executor of a call in T is no such thing. A third argument that is a matrix, or a
/// fourth that is a workspace, belongs to another overload, that with a plan.
template <class T, class X, class Y, class W, class E>
concept MistakenCall = !std::is_convertible_v<W, MatrixView<const T>> && !std::same_as<E, Workspace> &&
                       (!std::is_convertible_v<X, MatrixView<const T>> || !std::is_convertible_v<Y, MatrixView<T>> ||
                        !std::is_convertible_v<W, Workspace&> || !Executor<E>);

template <class V>
inline constexpr bool is_view = false;
template <class T>
inline constexpr bool is_view<MatrixView<T>> = true;

template <class T, class X, class Y, class W, class E>
consteval void diagnose_call() {
    constexpr bool views = is_view<std::remove_cvref_t<X>> && is_view<std::remove_cvref_t<Y>>;
    constexpr bool y_const = views && std::is_convertible_v<Y, MatrixView<const T>>;
    constexpr bool matrices = std::is_convertible_v<X, MatrixView<const T>> && std::is_convertible_v<Y, MatrixView<T>>;
    static_assert(matrices || views,
                  "forward: x and y are matrices: moe::view(x, n_tokens, d_model), with a pointer x.");
    static_assert(matrices || !views || !y_const || !std::is_convertible_v<X, MatrixView<const T>>,
                  "forward: y is written, make its view from a pointer to elements that are not const.");
    static_assert(matrices || !views || (y_const && std::is_convertible_v<X, MatrixView<const T>>),
                  "forward: x and y must be of the type the layer computes in, float or, for double weights, double.");
    static_assert(!matrices || std::is_convertible_v<W, Workspace&>,
                  "forward: behind y comes the workspace, a moe::Workspace with a name that is not const.");
    if constexpr (matrices && std::is_convertible_v<W, Workspace&>) {
        diagnose_executor<E>();
    }
}

}  // namespace moe::inline MOE_ABI::detail
