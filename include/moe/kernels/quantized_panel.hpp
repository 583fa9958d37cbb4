#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../core/index.hpp"
#include "../formats/quantized.hpp"
#include "panel_decoder.hpp"
#include "tile.hpp"

namespace moe::inline MOE_ABI {

/// A panel of quantised weights: group after group of 32 inputs, each the binary16 scales of the panel's 64 outputs and
/// then their codes. Four inputs of one output stand in four neighbouring bytes, the operand of the dot product
/// instructions.
///
/// Int8: input 4j + b of output c at byte (j * 64 + c) * 4 + b.
/// Int4: input 4j + b in the lower half of byte (j * 64 + c) * 4 + b, input 16 + 4j + b in the upper half.
template <class Format>
struct QuantizedPanel {
    static constexpr std::size_t width = Panel<float>::width;
    static constexpr std::size_t scale_bytes = width * sizeof(float16);
    static constexpr std::size_t code_bytes = width * quantization_group / (Format::zero_point == 8 ? 2 : 1);
    static constexpr std::size_t group_bytes = scale_bytes + code_bytes;

    /// Bytes of `k` inputs.
    [[nodiscard]] static constexpr std::size_t bytes(std::size_t k) noexcept {
        return divide_up(k, quantization_group) * group_bytes;
    }
};

/// Quantises `depth` <= 32 inputs of a panel, (depth, 64) floats at `block`, into one group; missing inputs are zero.
template <class Format>
void encode_group(const float* block, std::size_t depth, std::byte* target) noexcept {
    using P = QuantizedPanel<Format>;
    std::byte* const codes = target + P::scale_bytes;
    std::fill_n(codes, P::code_bytes, std::byte{0});
    for (std::size_t c = 0; c < P::width; ++c) {
        std::array<float, quantization_group> column{};
        for (std::size_t k = 0; k < depth; ++k) {
            column[k] = block[k * P::width + c];
        }
        const QuantizedGroup group = quantize_group(Format{}, column);
        std::memcpy(target + c * sizeof(float16), &group.scale, sizeof(float16));
        for (std::size_t k = 0; k < quantization_group; ++k) {
            const bool upper = Format::zero_point == 8 && k >= quantization_group / 2;
            const std::size_t at = upper ? k - quantization_group / 2 : k;
            codes[(at / 4 * P::width + c) * 4 + at % 4] |= std::byte{group.codes[k]} << (upper ? 4 : 0);
        }
    }
}

namespace detail {

/// The codes of one group as bytes, in the order of Int8: what Int4 becomes once for several tiles.
inline void expand_codes(const std::byte* group, std::byte* target) noexcept {
    using P = QuantizedPanel<Int4>;
    std::memcpy(target, group, P::scale_bytes);
    const std::byte* const MOE_RESTRICT source = group + P::scale_bytes;
    std::byte* const MOE_RESTRICT codes = target + P::scale_bytes;
    for (std::size_t i = 0; i < P::code_bytes; ++i) {
        codes[i] = source[i] & std::byte{0x0F};
        codes[P::code_bytes + i] = source[i] >> 4;
    }
}

}  // namespace detail

/// The weights of one group as floats, (32, 64) at `target`: exact.
template <class Format>
inline void decode_group(const std::byte* group, float* target) noexcept {
    moe::decode_panel_group<kind_of<Format>>(group, group, target);
}

}  // namespace moe::inline MOE_ABI
