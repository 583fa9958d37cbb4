#pragma once

#include <cstddef>

#include "../core/index.hpp"
#include "../formats/quantized.hpp"
#include "tile.hpp"

namespace moe::inline MOE_ABI {

/// How the scale of some neighbouring weights is stored.
enum class ScaleForm : unsigned char {
    half,                 ///< binary16
    half_times_unsigned,  ///< a byte, times a binary16 number for 256 inputs
    half_times_signed,    ///< the same with a signed byte
    power_of_two,         ///< a byte e: 2^(e - 128)
    e4m3,                 ///< 7 bits of an E4M3 number: half of it
};

/// What is added to a weight after it was scaled.
enum class MinimumForm : unsigned char {
    none,
    half,                 ///< binary16
    half_times_unsigned,  ///< less a byte, times a binary16 number for 256 inputs
};

/// What the integers of a panel stand for.
enum class CodeTable : unsigned char {
    linear,  ///< themselves, less a zero point
    iq4,     ///< detail::iq4_values
    fp4,     ///< detail::fp4_values
};

/// How a panel of quantised weights is stored, as a value. A panel is 64 outputs; group after group of 32 inputs it has
/// the scales of its outputs, their minima where it has any, and then their codes. Four inputs of one output stand in
/// four neighbouring bytes, the operand of the dot product instructions.
///
/// 8 bits: input 4j + b of output c at byte (j * 64 + c) * 4 + b.
/// 4 bits: input 4j + b in the lower half of byte (j * 64 + c) * 4 + b, input 16 + 4j + b in the upper half.
///
/// Where 256 inputs share a factor, every eight groups stand behind the 64 factors of their scales and, if there are
/// any, the 64 of their minima, all of them binary16.
struct PanelKind {
    unsigned bits = 8;
    unsigned zero_point = 0;  ///< what is taken off a code that is linear
    CodeTable table = CodeTable::linear;
    std::size_t shared = 32;  ///< inputs that share a scale, 16 or 32
    ScaleForm scale = ScaleForm::half;
    MinimumForm minimum = MinimumForm::none;
    /// Codes of 4 bits in bytes, whose upper halves mean nothing where a table is looked up (arch::CodeLanes), and else
    /// are zero: for panels that are used once and then thrown away.
    bool padded = false;

    static constexpr std::size_t width = Panel<float>::width;
    static constexpr std::size_t factor_groups = 8;  ///< groups that share a factor

    [[nodiscard]] constexpr bool has_factor() const noexcept {
        return scale == ScaleForm::half_times_unsigned || scale == ScaleForm::half_times_signed;
    }
    [[nodiscard]] constexpr std::size_t factor_bytes() const noexcept {
        const std::size_t factors = (has_factor() ? 1U : 0U) + (minimum == MinimumForm::half_times_unsigned ? 1U : 0U);
        return factors * width * sizeof(float16);
    }
    [[nodiscard]] constexpr std::size_t minima_at() const noexcept {
        return quantization_group / shared * width * (scale == ScaleForm::half ? sizeof(float16) : 1);
    }
    [[nodiscard]] constexpr std::size_t codes_at() const noexcept {
        switch (minimum) {
            case MinimumForm::half: return minima_at() + width * sizeof(float16);
            case MinimumForm::half_times_unsigned: return minima_at() + quantization_group / shared * width;
            default: return minima_at();
        }
    }
    [[nodiscard]] constexpr std::size_t group_bytes() const noexcept {
        return codes_at() + width * quantization_group * bits / 8;
    }
    /// Where the factors of group `g` are.
    [[nodiscard]] constexpr std::size_t factors_at(std::size_t g) const noexcept {
        return g / factor_groups * (factor_bytes() + factor_groups * group_bytes());
    }
    /// Where group `g` begins.
    [[nodiscard]] constexpr std::size_t group_at(std::size_t g) const noexcept {
        return g * group_bytes() + (g / factor_groups + 1) * factor_bytes();
    }
    /// Bytes of a panel of `k` inputs.
    [[nodiscard]] constexpr std::size_t bytes(std::size_t k) const noexcept {
        const std::size_t groups = divide_up(k, quantization_group);
        return groups * group_bytes() + divide_up(groups, factor_groups) * factor_bytes();
    }
};

/// The kind of the panels that floats are quantised into: QuantizedPanel.
template <class Format>
inline constexpr PanelKind kind_of{.bits = Format::zero_point == 8 ? 4U : 8U,
                                   .zero_point = static_cast<unsigned>(Format::zero_point)};

}  // namespace moe::inline MOE_ABI
