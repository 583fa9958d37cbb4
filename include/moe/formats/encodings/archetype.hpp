#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "../../core/error.hpp"
#include "../../core/index.hpp"
#include "encoding.hpp"

namespace moe::inline MOE_ABI::encodings {

/// The smallest legal encoding of a checkpoint's weights: copy it, rename it, and change what the constructor takes and
/// holds against each other, and what `decode` computes. This one has signed bytes and one scale for all:
///
///     weight   I8 [out][in]    value = q * scale
class Archetype {
public:
    /// Throws Error naming the sizes that disagree and the value that none can be.
    Archetype(std::span<const std::byte> weight, float scale, std::size_t outputs, std::size_t inputs)
        : weight_(weight), scale_(scale), outputs_(outputs), inputs_(inputs) {
        ensure(outputs > 0 && inputs > 0 && weight.size() == checked_multiply(outputs, inputs), ErrorCode::shape,
               "archetype: ", weight.size(), " bytes are not ", outputs, " x ", inputs);
        ensure(scale - scale == 0, ErrorCode::range, "archetype: the scale is ", scale);  // neither NaN nor infinity
    }

    /// What messages and descriptions call it.
    [[nodiscard]] static constexpr std::string_view encoding() noexcept { return "archetype"; }
    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }

    /// Inputs [first, first + n) of one output. Every bit as the framework has it that wrote the checkpoint; say here
    /// what of it rounds. Reads nothing but these, at any alignment.
    void decode(std::size_t output, std::size_t first, std::size_t n, float* values) const noexcept {
        const std::byte* const row = weight_.data() + output * inputs_ + first;
        for (std::size_t i = 0; i < n; ++i) {
            values[i] = static_cast<float>(static_cast<std::int8_t>(row[i])) * scale_;
        }
    }

    /// Whether `memory` has bytes in common with the weights.
    [[nodiscard]] bool overlaps(const ByteView& memory) const { return moe::overlaps(memory, bytes_of(weight_)); }

private:
    std::span<const std::byte> weight_;
    float scale_;
    std::size_t outputs_;
    std::size_t inputs_;
};

static_assert(WeightEncoding<Archetype>);

}  // namespace moe::inline MOE_ABI::encodings
