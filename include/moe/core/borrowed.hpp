#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include "../config.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// R is what a forwarding reference deduces for a temporary that a span of T could be made of and that owns its
/// elements: a vector, an array, not a span.
template <class R, class T>
concept OwningTemporaryOf = std::convertible_to<R, std::span<T>> && !std::is_lvalue_reference_v<R> &&
                            !std::ranges::enable_borrowed_range<std::remove_cvref_t<R>>;

}  // namespace detail

/// A std::span of somebody else's memory that is kept, by a gate, a layer or a pass: whatever a span is made of, but no
/// temporary that owns its elements, which would be gone before they are read.
template <class T>
class Borrowed : public std::span<T> {
public:
    constexpr Borrowed() noexcept = default;
    constexpr Borrowed(T* data, std::size_t size) : std::span<T>(data, size) {}

    template <class R>
        requires(!std::same_as<std::remove_cvref_t<R>, Borrowed> && std::convertible_to<R, std::span<T>> &&
                 !detail::OwningTemporaryOf<R, T>)
    constexpr Borrowed(R&& range) : std::span<T>(std::forward<R>(range)) {}  // NOLINT: implicit as span's is

    template <detail::OwningTemporaryOf<T> R>
    Borrowed(R&&) = delete;  // temporary: give it a name, its elements are read later
};

}  // namespace moe::inline MOE_ABI

template <class T>
inline constexpr bool std::ranges::enable_borrowed_range<moe::Borrowed<T>> = true;
template <class T>
inline constexpr bool std::ranges::enable_view<moe::Borrowed<T>> = true;
