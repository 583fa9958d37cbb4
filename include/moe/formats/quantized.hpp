#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../core/half.hpp"

namespace moe::inline MOE_ABI {

/// Weights of 8 and 4 bits: groups of 32 neighbours along the input share a binary16 scale, and each weight is a small
/// integer times it. Floats become the blocks of GGUF's Q8_0 and Q4_0 that ggml makes of them without an importance
/// matrix (quantize_row_q8_0_ref and quantize_row_q4_0_ref): codes from the scale before it is rounded to binary16,
/// although the rounded one would give a smaller error, because GGUF's codes are these. Blocks that came about
/// otherwise do not survive a detour over floats: those made with an importance matrix (one in five of Q4_0 changes),
/// and those whose largest code is not the largest there is. Scale times integer is exact in float32: 11 bits times 8.
inline constexpr std::size_t quantization_group = 32;

/// 8 bits: integers -127..127.
struct Int8 {
    /// What is added to an integer to store it unsigned.
    static constexpr int zero_point = 128;
};

/// 4 bits: integers -8..7.
struct Int4 {
    static constexpr int zero_point = 8;
};

/// Most that quantisation changes a weight by, of a group whose largest magnitude is `largest`:
///
///     Int8  s / 2 + 127 e,  s = largest / 127          Int4  s + 8 e,  s = largest / 8
///
/// with e = max(2^-11 s, 2^-25), the rounding of the scale to binary16, for scales that binary16 holds (s < 65520). The
/// second term is small from a largest magnitude of 0.0078 on (Int4: 0.00049); below it the scale is subnormal and the
/// error a growing part of the weights, which are all 0 from 3.7e-6 (Int4: 2.3e-7) down. Int4's first term is s / 2 but
/// for weights beyond 7.5 s of the sign that has no code 8.
[[nodiscard]] constexpr double quantization_error(Int8, double largest) noexcept {
    const double scale = largest / 127;
    return scale / 2 + 127 * (std::max)(scale * 0x1p-11, 0x1p-25);
}
[[nodiscard]] constexpr double quantization_error(Int4, double largest) noexcept {
    const double scale = largest / 8;
    return scale + 8 * (std::max)(scale * 0x1p-11, 0x1p-25);
}

/// One group: weight i is (codes[i] - Format::zero_point) * scale.
struct QuantizedGroup {
    float16 scale{};
    std::array<std::uint8_t, quantization_group> codes{};
};

namespace detail {

/// 1 / scale, or 0 where that would be infinite: weights so small are all zero. No division traps.
[[nodiscard]] inline float inverse_scale(float scale) noexcept {
    constexpr float largest_without = 0x1p-128F;  // whose inverse is 2^128, beyond float
    return std::fabs(scale) > largest_without ? 1.0F / scale : 0.0F;
}

}  // namespace detail

/// scale = max |x| / 127, code = x / scale to the nearest, halves away from zero. A NaN or infinity makes the scale
/// NaN; a scale beyond binary16, of weights above 8 million, is infinite.
[[nodiscard]] inline QuantizedGroup quantize_group(Int8, std::span<const float, quantization_group> x) noexcept {
    float largest = 0.0F;
    bool finite = true;
    for (const float value : x) {
        largest = (std::max)(largest, std::fabs(value));
        finite = finite && std::isfinite(value);
    }
    QuantizedGroup group;
    const float scale = largest / 127.0F;
    group.scale = finite ? to_float16(scale) : float16{0x7E00U};
    const float inverse = finite ? detail::inverse_scale(scale) : 0.0F;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const float code = finite ? std::round(x[i] * inverse) : 0.0F;
        group.codes[i] = static_cast<std::uint8_t>(static_cast<int>(code) + Int8::zero_point);
    }
    return group;
}

/// scale = x / -8 of the x of largest magnitude, which so becomes -8 exactly; code = x / scale to the nearest, at most
/// 7. A NaN or infinity makes the scale NaN; a scale beyond binary16, of
/// weights above half a million, is infinite.
[[nodiscard]] inline QuantizedGroup quantize_group(Int4, std::span<const float, quantization_group> x) noexcept {
    float largest = 0.0F;
    bool finite = true;
    for (const float value : x) {
        largest = std::fabs(value) > std::fabs(largest) ? value : largest;
        finite = finite && std::isfinite(value);
    }
    QuantizedGroup group;
    const float scale = largest / -8.0F;
    group.scale = finite ? to_float16(scale) : float16{0x7E00U};
    const float inverse = finite ? detail::inverse_scale(scale) : 0.0F;
    for (std::size_t i = 0; i < x.size(); ++i) {
        // In double the product is exact, so that codes do not depend on whether the compiler fuses it with the sum.
        const double shifted = static_cast<double>(x[i]) * static_cast<double>(inverse) + 8.5;
        const float code = finite ? (std::min)(15.0F, std::floor(static_cast<float>(shifted))) : 8.0F;
        group.codes[i] = static_cast<std::uint8_t>(code);
    }
    return group;
}

/// Weight i of a group: exact.
template <class Format>
[[nodiscard]] inline float dequantize(const QuantizedGroup& group, std::size_t i) noexcept {
    return static_cast<float>(static_cast<int>(group.codes[i]) - Format::zero_point) * to_float(group.scale);
}

}  // namespace moe::inline MOE_ABI
