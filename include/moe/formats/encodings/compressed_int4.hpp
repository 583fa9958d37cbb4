#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "encoding.hpp"
#include "tensor_parts.hpp"

namespace moe::inline MOE_ABI::encodings {

/// The tensors of one projection. Codes and zero points are signed and stored 8 too high.
struct CompressedInt4Tensors {
    std::span<const std::byte> weight_packed;        ///< I32 [out][ceil(in / 8)]: code i of word c is input 8 c + i
    Scales weight_scale;                             ///< [out][groups]
    std::span<const std::byte> weight_zero_point{};  ///< I32 [ceil(out / 8)][groups], packed along the outputs, or none
    std::span<const std::byte> weight_g_idx{};       ///< I32 [in], the group of each input, or none: neighbours
};

/// The "pack-quantized" format of compressed-tensors with 4 bits: value = (q - zero) * scale, and (q - 8) * scale where
/// there are no zero points, with q and zero as they are stored. Exact with scales in F16 and BF16.
class CompressedInt4Matrix {
public:
    /// `group_size` is the number of inputs of a group: `inputs` for a scale an output. Throws Error(shape) naming the
    /// tensor whose bytes do not fit, Error(range) naming a scale or an index that cannot be.
    CompressedInt4Matrix(const CompressedInt4Tensors& tensors, std::size_t outputs, std::size_t inputs,
                         std::size_t group_size)
        : tensors_(tensors),
          outputs_(outputs),
          inputs_(inputs),
          groups_(name, inputs, group_size, tensors.weight_g_idx) {
        detail::confirm_matrix(name, outputs, inputs);
        detail::confirm_tensor(name, "weight_packed", tensors.weight_packed, outputs, divide_up(inputs, std::size_t{8}),
                               4);
        tensors_.weight_scale.confirm(name, "weight_scale", outputs, groups_.count());
        if (!tensors.weight_zero_point.empty()) {
            detail::confirm_tensor(name, "weight_zero_point", tensors.weight_zero_point,
                                   divide_up(outputs, std::size_t{8}), groups_.count(), 4);
        }
    }

    [[nodiscard]] static constexpr std::string_view encoding() noexcept { return name; }
    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }

    void decode(std::size_t output, std::size_t first, std::size_t n, float* values) const noexcept {
        const std::size_t row = output * divide_up(inputs_, std::size_t{8});
        for (std::size_t k = first; k < first + n; ++k) {
            const std::size_t group = groups_.of(k);
            const unsigned code = detail::code_at(tensors_.weight_packed, row + k / 8, k % 8);
            const unsigned zero =
                tensors_.weight_zero_point.empty()
                    ? 8U
                    : detail::code_at(tensors_.weight_zero_point, output / 8 * groups_.count() + group, output % 8);
            *values++ = static_cast<float>(static_cast<int>(code) - static_cast<int>(zero)) *
                        tensors_.weight_scale[output * groups_.count() + group];
        }
    }

    [[nodiscard]] bool overlaps(const ByteView& memory) const {
        return moe::overlapped(memory, {{"", bytes_of(tensors_.weight_packed)},
                                        {"", bytes_of(tensors_.weight_scale.bytes())},
                                        {"", bytes_of(tensors_.weight_zero_point)},
                                        {"", bytes_of(tensors_.weight_g_idx)}}) != nullptr;
    }

private:
    static constexpr const char* name = "compressed-tensors int4";

    CompressedInt4Tensors tensors_;
    std::size_t outputs_;
    std::size_t inputs_;
    detail::InputGroups groups_;
};

static_assert(WeightEncoding<CompressedInt4Matrix>);

}  // namespace moe::inline MOE_ABI::encodings
