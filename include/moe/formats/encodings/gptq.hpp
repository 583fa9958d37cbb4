#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "encoding.hpp"
#include "tensor_parts.hpp"

namespace moe::inline MOE_ABI::encodings {

/// How the zero points of a GPTQ checkpoint are stored: less one, as AutoGPTQ began, or as they are
/// (checkpoint_format "gptq_v2").
enum class GptqZeros : unsigned char { less_one, as_they_are };

/// The tensors of one projection.
struct GptqTensors {
    std::span<const std::byte> qweight;  ///< I32 [in / 8][out]: code i of word r is input 8 r + i
    std::span<const std::byte> qzeros;   ///< I32 [groups][out / 8]: code i of word c is output 8 c + i
    Scales scales;                       ///< [groups][out]
    std::span<const std::byte> g_idx{};  ///< I32 [in], the group of each input, or none: neighbours
};

/// GPTQ with 4 bits: value = scale * (q - zero), with `zero` the stored one and 1 (16 where 15 is stored). Exact with
/// scales in F16 and BF16; frameworks that compute in these round it.
class GptqMatrix {
public:
    /// `group_size` is the number of inputs of a group, `inputs` where the configuration says -1. Throws Error(shape)
    /// naming the tensor whose bytes do not fit and sizes that are no multiples of 8, Error(range) naming a scale or an
    /// index that cannot be.
    GptqMatrix(const GptqTensors& tensors, std::size_t outputs, std::size_t inputs, std::size_t group_size,
               GptqZeros zeros = GptqZeros::less_one)
        : tensors_(tensors),
          outputs_(outputs),
          inputs_(inputs),
          added_(zeros == GptqZeros::less_one ? 1 : 0),
          groups_("GPTQ", inputs, group_size, tensors.g_idx) {
        ensure(zeros <= GptqZeros::as_they_are, ErrorCode::range, "GPTQ: no way to store zeros has the number ",
               static_cast<int>(zeros));
        detail::confirm_matrix("GPTQ", outputs, inputs, 8, 8);
        detail::confirm_tensor("GPTQ", "qweight", tensors.qweight, inputs / 8, outputs, 4);
        detail::confirm_tensor("GPTQ", "qzeros", tensors.qzeros, groups_.count(), outputs / 8, 4);
        tensors_.scales.confirm("GPTQ", "scales", groups_.count(), outputs);
    }

    [[nodiscard]] static constexpr std::string_view encoding() noexcept { return "GPTQ int4"; }
    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }

    void decode(std::size_t output, std::size_t first, std::size_t n, float* values) const noexcept {
        for (std::size_t k = first; k < first + n; ++k) {
            const std::size_t group = groups_.of(k);
            const unsigned code = detail::code_at(tensors_.qweight, k / 8 * outputs_ + output, k % 8);
            const unsigned zero = detail::code_at(tensors_.qzeros, group * (outputs_ / 8) + output / 8, output % 8);
            *values++ = tensors_.scales[group * outputs_ + output] *
                        static_cast<float>(static_cast<int>(code) - static_cast<int>(zero) - added_);
        }
    }

    [[nodiscard]] bool overlaps(const ByteView& memory) const {
        return moe::overlapped(memory, {{"", bytes_of(tensors_.qweight)},
                                        {"", bytes_of(tensors_.qzeros)},
                                        {"", bytes_of(tensors_.scales.bytes())},
                                        {"", bytes_of(tensors_.g_idx)}}) != nullptr;
    }

private:
    GptqTensors tensors_;
    std::size_t outputs_;
    std::size_t inputs_;
    int added_;
    detail::InputGroups groups_;
};

static_assert(WeightEncoding<GptqMatrix>);

}  // namespace moe::inline MOE_ABI::encodings
