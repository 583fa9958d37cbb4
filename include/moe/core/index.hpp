#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "error.hpp"

namespace moe::inline MOE_ABI {

/// Number of an expert; -1 stands for "no expert chosen here".
using ExpertId = std::int32_t;
inline constexpr ExpertId no_expert = -1;

/// Stands for "expert `e` was chosen here, but its capacity was used up" in what a batch gate writes: below no_expert,
/// and so in no plan. Its own inverse.
[[nodiscard]] constexpr ExpertId dropped(ExpertId e) noexcept { return -2 - e; }

/// Number of a token in a batch, or of a (token, expert) assignment in a plan.
using Index = std::uint32_t;

/// a * b, or an Error(overflow) that names both.
[[nodiscard]] constexpr std::size_t checked_multiply(std::size_t a, std::size_t b) {
    ensure(a == 0 || b <= (std::numeric_limits<std::size_t>::max)() / a, ErrorCode::overflow, "the product ", a, " x ",
           b, " does not fit in std::size_t");
    return a * b;
}

/// a + b, or an Error(overflow) that names both.
[[nodiscard]] constexpr std::size_t checked_add(std::size_t a, std::size_t b) {
    ensure(b <= (std::numeric_limits<std::size_t>::max)() - a, ErrorCode::overflow, "the sum ", a, " + ", b,
           " does not fit in std::size_t");
    return a + b;
}

[[nodiscard]] constexpr std::size_t divide_up(std::size_t a, std::size_t b) noexcept { return a / b + (a % b != 0); }
[[nodiscard]] constexpr std::size_t round_up(std::size_t a, std::size_t b) noexcept { return divide_up(a, b) * b; }

namespace detail {

/// A number known to fit. A plain cast is one too many for -Wuseless-cast where the type is std::size_t already, as
/// that of a 64-bit number is on some systems.
template <std::unsigned_integral Number>
[[nodiscard]] constexpr std::size_t to_size(Number value) noexcept {
    if constexpr (std::same_as<Number, std::size_t>) {
        return value;
    } else {
        return static_cast<std::size_t>(value);
    }
}

}  // namespace detail

}  // namespace moe::inline MOE_ABI
