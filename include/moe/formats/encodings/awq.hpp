#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "encoding.hpp"
#include "tensor_parts.hpp"

namespace moe::inline MOE_ABI::encodings {

/// The tensors of one projection. Code i of word c is output 8 c + order[i], the order 0 2 4 6 1 3 5 7.
struct AwqTensors {
    std::span<const std::byte> qweight;  ///< I32 [in][out / 8]
    std::span<const std::byte> qzeros;   ///< I32 [groups][out / 8]
    Scales scales;                       ///< [groups][out]
};

/// AWQ with 4 bits, version "gemm": value = scale * (q - zero). Exact with scales in F16 and BF16; frameworks that
/// compute in these round it.
class AwqMatrix {
public:
    /// `group_size` is the number of inputs of a group, `inputs` where the configuration says -1. Throws Error(shape)
    /// naming the tensor whose bytes do not fit and outputs that are no multiple of 8, Error(range) naming a scale that
    /// is no number.
    AwqMatrix(const AwqTensors& tensors, std::size_t outputs, std::size_t inputs, std::size_t group_size)
        : tensors_(tensors), outputs_(outputs), inputs_(inputs), groups_("AWQ", inputs, group_size, {}) {
        detail::confirm_matrix("AWQ", outputs, inputs, 8);
        detail::confirm_tensor("AWQ", "qweight", tensors.qweight, inputs, outputs / 8, 4);
        detail::confirm_tensor("AWQ", "qzeros", tensors.qzeros, groups_.count(), outputs / 8, 4);
        tensors_.scales.confirm("AWQ", "scales", groups_.count(), outputs);
    }

    [[nodiscard]] static constexpr std::string_view encoding() noexcept { return "AWQ int4"; }
    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }

    void decode(std::size_t output, std::size_t first, std::size_t n, float* values) const noexcept {
        constexpr std::array<std::size_t, 8> code_of_output{0, 4, 1, 5, 2, 6, 3, 7};
        const std::size_t words = outputs_ / 8;
        const std::size_t which = code_of_output[output % 8];
        for (std::size_t k = first; k < first + n; ++k) {
            const std::size_t group = groups_.of(k);
            const unsigned code = detail::code_at(tensors_.qweight, k * words + output / 8, which);
            const unsigned zero = detail::code_at(tensors_.qzeros, group * words + output / 8, which);
            *values++ = tensors_.scales[group * outputs_ + output] *
                        static_cast<float>(static_cast<int>(code) - static_cast<int>(zero));
        }
    }

    [[nodiscard]] bool overlaps(const ByteView& memory) const {
        return moe::overlapped(memory, {{"", bytes_of(tensors_.qweight)},
                                        {"", bytes_of(tensors_.qzeros)},
                                        {"", bytes_of(tensors_.scales.bytes())}}) != nullptr;
    }

private:
    AwqTensors tensors_;
    std::size_t outputs_;
    std::size_t inputs_;
    detail::InputGroups groups_;
};

static_assert(WeightEncoding<AwqMatrix>);

}  // namespace moe::inline MOE_ABI::encodings
