#pragma once

#include <bit>
#include <cstdint>

#include "../config.hpp"

namespace moe::inline MOE_ABI {

/// bfloat16: the upper half of a float32. Storage only; arithmetic happens in float. (g++ 12 has no type for it.)
struct bfloat16 {
    std::uint16_t bits = 0;
    friend constexpr bool operator==(bfloat16, bfloat16) = default;
};

/// IEEE 754 binary16. Storage only; arithmetic happens in float. (clang 14 has no type for it on x86.)
struct float16 {
    std::uint16_t bits = 0;
    friend constexpr bool operator==(float16, float16) = default;
};

[[nodiscard]] constexpr float to_float(bfloat16 value) noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16U);
}

/// Nearest bfloat16, ties to even; a NaN stays a (quiet) NaN.
[[nodiscard]] constexpr bfloat16 to_bfloat16(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
        return {static_cast<std::uint16_t>((bits >> 16U) | 0x40U)};
    }
    return {static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U)};
}

/// Exact: every binary16 value, subnormals included, is a float32.
[[nodiscard]] constexpr float to_float(float16 value) noexcept {
    const std::uint32_t sign = (value.bits & 0x8000U) << 16U;
    const std::uint32_t exponent = (value.bits >> 10U) & 0x1FU;
    const std::uint32_t fraction = value.bits & 0x3FFU;
    if (exponent == 0x1FU) {  // infinity, or a NaN made quiet as hardware does
        const std::uint32_t quiet = fraction != 0 ? 0x400000U : 0U;
        return std::bit_cast<float>(sign | 0x7F800000U | quiet | (fraction << 13U));
    }
    if (exponent == 0) {  // zero and subnormals: fraction * 2^-24
        const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
        return sign != 0 ? -magnitude : magnitude;
    }
    return std::bit_cast<float>(sign | ((exponent + 112U) << 23U) | (fraction << 13U));
}

/// Nearest binary16, ties to even; overflow becomes infinity, a NaN stays a (quiet) NaN.
[[nodiscard]] constexpr float16 to_float16(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((bits >> 16U) & 0x8000U);
    const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) {
        return {static_cast<std::uint16_t>(sign | 0x7E00U | ((magnitude >> 13U) & 0x1FFU))};
    }
    if (magnitude >= 0x477FF000U) {  // rounds to 2^16 or more
        return {static_cast<std::uint16_t>(sign | 0x7C00U)};
    }
    if (magnitude < 0x38800000U) {  // below 2^-14: a multiple of 2^-24; adding 0.5 rounds it in the float unit
        const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
        return {static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U))};
    }
    const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13U) & 1U);
    return {static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13U))};
}

}  // namespace moe::inline MOE_ABI
