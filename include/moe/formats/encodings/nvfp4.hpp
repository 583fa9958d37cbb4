#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>

#include "encoding.hpp"
#include "float8.hpp"
#include "tensor_parts.hpp"

namespace moe::inline MOE_ABI::encodings {

/// What the scale of a whole NVFP4 tensor does: ModelOpt writes one to multiply with (weight_scale_2),
/// compressed-tensors its reciprocal (weight_global_scale).
enum class GlobalScale : unsigned char { multiplies, divides };

/// NVFP4 of safetensors files: floats of 4 bits, groups of 16 with a scale of 8 bits, one scale for all.
///
///     weight or weight_packed   U8 [out][in / 2]         input 2 j in the low half of byte j, 2 j + 1 in the high one
///     weight_scale              F8_E4M3 [out][in / 16]
///     weight_scale_2 or weight_global_scale   F32        value = e2m1 * (scale * global), or e2m1 * (scale / global)
///
/// Both operations round, in that order.
class Nvfp4Matrix {
public:
    /// Throws Error(shape) naming the tensor whose bytes do not fit, Error(range) naming a scale that is no number and
    /// a global one that is 0 or less.
    Nvfp4Matrix(std::span<const std::byte> weight, std::span<const std::byte> scales, float global, GlobalScale does,
                std::size_t outputs, std::size_t inputs)
        : weight_(weight), scales_(scales), global_(global), does_(does), outputs_(outputs), inputs_(inputs) {
        ensure(does <= GlobalScale::divides, ErrorCode::range, "NVFP4: no use of the global scale has the number ",
               static_cast<int>(does));
        detail::confirm_matrix("NVFP4", outputs, inputs, 1, group);
        detail::confirm_tensor("NVFP4", "weight", weight, outputs, inputs / 2, 1);
        detail::confirm_tensor("NVFP4", "weight_scale", scales, outputs, inputs / group, 1);
        ensure(detail::is_finite(global) && global > 0, ErrorCode::range, "NVFP4: the global scale is ", global);
        for (std::size_t i = 0; i < scales.size(); ++i) {
            ensure((scales[i] & std::byte{0x7F}) != std::byte{0x7F}, ErrorCode::range, "NVFP4: weight_scale ",
                   i / (inputs / group), ", ", i % (inputs / group), " is NaN");
        }
    }

    [[nodiscard]] static constexpr std::string_view encoding() noexcept { return "NVFP4"; }
    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }

    void decode(std::size_t output, std::size_t first, std::size_t n, float* values) const noexcept {
        const std::size_t end = output * inputs_ + first + n;
        for (std::size_t k = end - n; k < end;) {
            const float scale = detail::e4m3_values[std::to_integer<unsigned char>(scales_[k / group])];
            const float both = does_ == GlobalScale::multiplies ? scale * global_ : scale / global_;
            const std::size_t stop = k + (std::min)(group - k % group, end - k);
            for (; k < stop; ++k) {
                const unsigned byte = std::to_integer<unsigned>(weight_[k / 2]);
                *values++ = detail::e2m1_values[(byte >> (4 * (k % 2))) & 15U] * both;
            }
        }
    }

    [[nodiscard]] bool overlaps(const ByteView& memory) const {
        return moe::overlaps(memory, bytes_of(weight_)) || moe::overlaps(memory, bytes_of(scales_));
    }

private:
    static constexpr std::size_t group = 16;

    std::span<const std::byte> weight_;
    std::span<const std::byte> scales_;
    float global_;
    GlobalScale does_;
    std::size_t outputs_;
    std::size_t inputs_;
};

static_assert(WeightEncoding<Nvfp4Matrix>);

}  // namespace moe::inline MOE_ABI::encodings
