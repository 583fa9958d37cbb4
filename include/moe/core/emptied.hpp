#pragma once

#include <utility>

#include "../config.hpp"

namespace moe::inline MOE_ABI {

/// A value that moves take along: what was moved from holds T{}. A class whose size is one is empty after a move, and
/// can say so, with the move constructor that the compiler makes.
template <class T>
class Emptied {
public:
    constexpr Emptied() = default;
    constexpr explicit Emptied(T value) noexcept : value_(value) {}
    constexpr Emptied(const Emptied&) = default;
    constexpr Emptied& operator=(const Emptied&) = default;
    constexpr Emptied(Emptied&& other) noexcept : value_(std::exchange(other.value_, T{})) {}
    constexpr Emptied& operator=(Emptied&& other) noexcept {
        value_ = std::exchange(other.value_, T{});
        return *this;
    }
    constexpr ~Emptied() = default;

    [[nodiscard]] constexpr T get() const noexcept { return value_; }

private:
    T value_{};
};

}  // namespace moe::inline MOE_ABI
