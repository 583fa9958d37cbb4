#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "encoding.hpp"
#include "float8.hpp"
#include "tensor_parts.hpp"

namespace moe::inline MOE_ABI::encodings {

/// MXFP4 as GPT-OSS is published: floats of 4 bits in groups of 32 with a power of two. (GGUF files have the same
/// numbers in another order, and the powers beside them: BlockMatrix.)
///
///     blocks   U8 [out][in / 32][16]   input 2 j of a group in the low half of byte j, 2 j + 1 in the high one
///     scales   U8 [out][in / 32]       value = e2m1 * 2^(scale - 127), exact; beyond what a float can hold, infinite
///
/// A tensor of gate and up has their rows in turns: interleaved(EncodedStack).
class Mxfp4Matrix {
public:
    /// Throws Error(shape) naming the tensor whose bytes do not fit, Error(range) naming a scale of 255, which is NaN.
    Mxfp4Matrix(std::span<const std::byte> blocks, std::span<const std::byte> scales, std::size_t outputs,
                std::size_t inputs)
        : blocks_(blocks), scales_(scales), outputs_(outputs), inputs_(inputs) {
        detail::confirm_matrix("MXFP4", outputs, inputs, 1, group);
        detail::confirm_tensor("MXFP4", "blocks", blocks, outputs, inputs / group, group / 2);
        detail::confirm_tensor("MXFP4", "scales", scales, outputs, inputs / group, 1);
        for (std::size_t i = 0; i < scales.size(); ++i) {
            ensure(scales[i] != std::byte{255}, ErrorCode::range, "MXFP4: scale ", i / (inputs / group), ", ",
                   i % (inputs / group), " is 255, which is NaN");
        }
    }

    [[nodiscard]] static constexpr std::string_view encoding() noexcept { return "MXFP4"; }
    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }

    void decode(std::size_t output, std::size_t first, std::size_t n, float* values) const noexcept {
        const std::size_t row = output * inputs_;
        for (std::size_t k = row + first; k < row + first + n; ++k) {
            const unsigned byte = std::to_integer<unsigned>(blocks_[k / 2]);
            *values++ = detail::e2m1_values[(byte >> (4 * (k % 2))) & 15U] * power_of_two(scales_[k / group]);
        }
    }

    [[nodiscard]] bool overlaps(const ByteView& memory) const {
        return moe::overlaps(memory, bytes_of(blocks_)) || moe::overlaps(memory, bytes_of(scales_));
    }

private:
    static constexpr std::size_t group = 32;

    [[nodiscard]] static float power_of_two(std::byte exponent) noexcept {
        const auto bits = std::to_integer<std::uint32_t>(exponent) << 23U;
        return std::bit_cast<float>(bits == 0 ? 0x00400000U : bits);  // 2^-127 is subnormal
    }

    std::span<const std::byte> blocks_;
    std::span<const std::byte> scales_;
    std::size_t outputs_;
    std::size_t inputs_;
};

static_assert(WeightEncoding<Mxfp4Matrix>);

}  // namespace moe::inline MOE_ABI::encodings
