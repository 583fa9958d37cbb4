#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>

#include "encoding.hpp"
#include "float8.hpp"
#include "tensor_parts.hpp"

namespace moe::inline MOE_ABI::encodings {

/// Floats of 8 bits, whose rectangles of `block_outputs` x `block_inputs` have a scale each; those at the edges may be
/// smaller. DeepSeek has 128 x 128 (weight_scale_inv), others a scale an output (weight_scale, [out][1]: 1 x inputs) or
/// one for all (outputs x inputs).
///
///     weight   F8_E4M3 or F8_E5M2 [out][in]
///     scales   F32, BF16 or F16 [ceil(out / block_outputs)][ceil(in / block_inputs)]    value = weight * scale
///
/// The product rounds once. Codes that are NaN or infinite stay so.
class Fp8Matrix {
public:
    /// Throws Error(shape) naming the tensor whose bytes do not fit, Error(range) for blocks of nothing and naming a
    /// scale that is no number.
    Fp8Matrix(Float8 type, std::span<const std::byte> weight, const Scales& scales, std::size_t outputs,
              std::size_t inputs, std::size_t block_outputs, std::size_t block_inputs)
        : values_(values_of(type).data()),
          name_(type == Float8::e4m3 ? "F8_E4M3" : "F8_E5M2"),
          weight_(weight),
          scales_(scales),
          outputs_(outputs),
          inputs_(inputs),
          block_outputs_(block_outputs),
          block_inputs_(block_inputs) {
        ensure(type <= Float8::e5m2, ErrorCode::range, "fp8: no type has the number ", static_cast<int>(type));
        detail::confirm_matrix("fp8", outputs, inputs);
        detail::confirm_tensor("fp8", "weight", weight, outputs, inputs, 1);
        ensure(block_outputs > 0 && block_inputs > 0, ErrorCode::range, "fp8: scales of blocks of ", block_outputs,
               " x ", block_inputs, "; both must be at least 1");
        blocks_in_row_ = divide_up(inputs, block_inputs);
        scales_.confirm("fp8", "the scale", divide_up(outputs, block_outputs), blocks_in_row_);
    }

    [[nodiscard]] std::string_view encoding() const noexcept { return name_; }
    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }

    void decode(std::size_t output, std::size_t first, std::size_t n, float* values) const noexcept {
        const std::byte* const row = weight_.data() + output * inputs_;
        for (std::size_t k = first; k < first + n;) {
            const std::size_t block = k / block_inputs_;
            const std::size_t end = k + (std::min)(block_inputs_ - k % block_inputs_, first + n - k);
            const float scale = scales_[output / block_outputs_ * blocks_in_row_ + block];
            for (; k < end; ++k) {
                *values++ = values_[std::to_integer<unsigned char>(row[k])] * scale;
            }
        }
    }

    [[nodiscard]] bool overlaps(const ByteView& memory) const {
        return moe::overlaps(memory, bytes_of(weight_)) || moe::overlaps(memory, bytes_of(scales_.bytes()));
    }

private:
    const float* values_;
    std::string_view name_;
    std::span<const std::byte> weight_;
    Scales scales_;
    std::size_t outputs_;
    std::size_t inputs_;
    std::size_t block_outputs_;
    std::size_t block_inputs_;
    std::size_t blocks_in_row_ = 0;
};

static_assert(WeightEncoding<Fp8Matrix>);

}  // namespace moe::inline MOE_ABI::encodings
