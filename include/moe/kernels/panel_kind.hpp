#pragma once

#include <cstddef>

#include "../core/index.hpp"
#include "../formats/quantized.hpp"
#include "tile.hpp"

namespace moe::inline MOE_ABI {

/// How the scale of some neighbouring weights is stored.
enum class ScaleForm : unsigned char {
    half,  ///< binary16
};

/// What is added to a weight after it was scaled.
enum class MinimumForm : unsigned char {
    none,
};

/// What the integers of a panel stand for.
enum class CodeTable : unsigned char {
    linear,  ///< themselves, less a zero point
};

/// How a panel of quantised weights is stored, as a value. A panel is 64 outputs; group after group of 32 inputs it has
/// the scales of its outputs, their minima where it has any, and then their codes. Four inputs of one output stand in
/// four neighbouring bytes, the operand of the dot product instructions.
///
/// 8 bits: input 4j + b of output c at byte (j * 64 + c) * 4 + b.
/// 4 bits: input 4j + b in the lower half of byte (j * 64 + c) * 4 + b, input 16 + 4j + b in the upper half.
struct PanelKind {
    unsigned bits = 8;
    unsigned zero_point = 0;  ///< what is taken off a code
    CodeTable table = CodeTable::linear;
    ScaleForm scale = ScaleForm::half;
    MinimumForm minimum = MinimumForm::none;

    static constexpr std::size_t width = Panel<float>::width;

    [[nodiscard]] constexpr std::size_t scale_bytes() const noexcept { return width * sizeof(float16); }
    [[nodiscard]] constexpr std::size_t codes_at() const noexcept { return scale_bytes(); }
    [[nodiscard]] constexpr std::size_t group_bytes() const noexcept {
        return codes_at() + width * quantization_group * bits / 8;
    }
    /// Where group `g` begins.
    [[nodiscard]] constexpr std::size_t group_at(std::size_t g) const noexcept { return g * group_bytes(); }
};

/// The kind of the panels that floats are quantised into: QuantizedPanel.
template <class Format>
inline constexpr PanelKind kind_of{.bits = Format::zero_point == 8 ? 4U : 8U,
                                   .zero_point = static_cast<unsigned>(Format::zero_point)};

}  // namespace moe::inline MOE_ABI
