#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "../../config.hpp"

namespace moe::inline MOE_ABI::detail {

/// What the codes of IQ4_NL and IQ4_XS stand for: integers that lie denser near 0, where most weights are.
inline constexpr std::array<std::int8_t, 16> iq4_values{-127, -104, -83, -65, -49, -35, -22, -10,
                                                        1,    13,   25,  38,  53,  69,  89,  113};

/// Twice the value of a 4-bit float (one sign, two exponent bits, one of fraction), which is an integer. Minus zero is
/// plus zero.
inline constexpr std::array<std::int8_t, 16> fp4_values{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/// 2^(exponent - 128) for a byte: half of what E8M0 means by it, since the codes are doubled. 0 and 1 are subnormal.
[[nodiscard]] inline float power_of_two(unsigned exponent) noexcept {
    return std::bit_cast<float>(exponent < 2 ? 0x200000U << exponent : (exponent - 1) << 23U);
}

/// Half of an E4M3 number whose sign is ignored: 7 bits, of which the three lowest are the fraction. The NaN is 0, as
/// it is in ggml, but with a sign it is what its bits would say, 240.
[[nodiscard]] inline float half_of_e4m3(unsigned byte) noexcept {
    const unsigned exponent = (byte >> 3U) & 15U;
    const unsigned fraction = byte & 7U;
    if (byte == 0x7FU) {
        return 0.0F;
    }
    if (exponent == 0) {
        return static_cast<float>(fraction) * 0x1p-10F;
    }
    return std::bit_cast<float>(((exponent + 119U) << 23U) | (fraction << 20U));
}

}  // namespace moe::inline MOE_ABI::detail
