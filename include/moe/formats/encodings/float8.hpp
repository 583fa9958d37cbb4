#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "../../config.hpp"

namespace moe::inline MOE_ABI::encodings {

/// The two floats of 8 bits: E4M3 (float8_e4m3fn: bias 7, no infinity, NaN is 0x7F and 0xFF, up to 448) and E5M2 (the
/// high byte of a binary16, with infinities).
enum class Float8 : unsigned char { e4m3, e5m2 };

namespace detail {

/// Sign, exponent and mantissa of `mantissa_bits`: exact, as a float has more of each.
[[nodiscard]] constexpr float decode_float8(unsigned code, unsigned mantissa_bits, int bias) noexcept {
    const unsigned exponent = (code & 0x7FU) >> mantissa_bits;
    const unsigned mantissa = code & ((1U << mantissa_bits) - 1);
    const unsigned sign = (code >> 7U) << 31U;
    const bool top = exponent == 0x7FU >> mantissa_bits;
    const bool has_infinity = mantissa_bits == 2;
    if (top && (has_infinity || mantissa == 7)) {
        return std::bit_cast<float>(sign | (has_infinity && mantissa == 0 ? 0x7F800000U : 0x7FC00000U));
    }
    // significand * 2^power, the power of two made of its bits
    const unsigned significand = exponent == 0 ? mantissa : mantissa | (1U << mantissa_bits);
    const int power = static_cast<int>(exponent == 0 ? 1 : exponent) - bias - static_cast<int>(mantissa_bits);
    const float magnitude =
        static_cast<float>(significand) * std::bit_cast<float>(static_cast<std::uint32_t>(power + 127) << 23U);
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
}

[[nodiscard]] constexpr std::array<float, 256> float8_values(unsigned mantissa_bits, int bias) noexcept {
    std::array<float, 256> values{};
    for (unsigned code = 0; code < 256; ++code) {
        values[code] = decode_float8(code, mantissa_bits, bias);
    }
    return values;
}

inline constexpr std::array<float, 256> e4m3_values = float8_values(3, 7);
inline constexpr std::array<float, 256> e5m2_values = float8_values(2, 15);

/// The sixteen floats of 4 bits, E2M1.
inline constexpr std::array<float, 16> e2m1_values{0.0F,  0.5F,  1.0F,  1.5F,  2.0F,  3.0F,  4.0F,  6.0F,
                                                   -0.0F, -0.5F, -1.0F, -1.5F, -2.0F, -3.0F, -4.0F, -6.0F};

}  // namespace detail

/// The values of all codes.
[[nodiscard]] constexpr const std::array<float, 256>& values_of(Float8 type) noexcept {
    return type == Float8::e4m3 ? detail::e4m3_values : detail::e5m2_values;
}

}  // namespace moe::inline MOE_ABI::encodings
