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
/// integer times it. The values are those of GGUF's Q8_0 and Q4_0 (ggml, quantize_row_q8_0_ref and
/// quantize_row_q4_0_ref), so that quantised checkpoints and quantised floats agree. Scale times integer is exact in
/// float32: 11 bits times 8.
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

/// One group: weight i is (codes[i] - Format::zero_point) * scale.
struct QuantizedGroup {
    float16 scale{};
    std::array<std::uint8_t, quantization_group> codes{};
};

namespace detail {

/// 1 / scale, or 0 where that would be infinite: weights so small are all zero.
[[nodiscard]] inline float inverse_scale(float scale) noexcept {
    const float inverse = 1.0F / scale;
    return std::isfinite(inverse) ? inverse : 0.0F;
}

}  // namespace detail

/// scale = max |x| / 127, code = x / scale to the nearest, halves away from zero. The error of a weight is at most half
/// a scale (and the rounding of the scale itself: 2^-11). A NaN or infinity makes the scale NaN; a scale beyond
/// binary16, of weights above 8 million, is infinite.
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
/// 7: of the other sign up to a whole scale is lost. A NaN or infinity makes the scale NaN; a scale beyond binary16, of
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
