#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "../../core/half.hpp"

namespace moe::inline MOE_ABI {

/// A format whose weights lie in blocks of a fixed size, as ggml defines them and GGUF files hold them: see
/// archetype.hpp. A row of a tensor is a whole number of blocks, one behind the other, at any alignment.
template <class F>
concept BlockFormat = requires(std::span<const std::byte, F::block_bytes> block,
                               std::span<float, F::block_values> values) {
    { F::name } -> std::convertible_to<std::string_view>;
    { F::ggml_type } -> std::convertible_to<std::uint32_t>;
    { F::decode(block, values) }
    noexcept->std::same_as<void>;
};

namespace detail {

/// Byte `i` of a block.
[[nodiscard]] inline unsigned byte_at(const std::byte* block, std::size_t i) noexcept {
    return std::to_integer<unsigned>(block[i]);
}

/// Byte `i` of a block, read as a signed number.
[[nodiscard]] inline int signed_byte_at(const std::byte* block, std::size_t i) noexcept {
    return static_cast<std::int8_t>(std::to_integer<std::uint8_t>(block[i]));
}

/// The 16 bits at byte `i`, little-endian.
[[nodiscard]] inline unsigned word_at(const std::byte* block, std::size_t i) noexcept {
    return byte_at(block, i) | (byte_at(block, i + 1) << 8U);
}

/// The binary16 number at byte `i`: a scale or a minimum.
[[nodiscard]] inline float half_at(const std::byte* block, std::size_t i) noexcept {
    return to_float(float16{static_cast<std::uint16_t>(word_at(block, i))});
}

/// Bit `i` of a bit field.
[[nodiscard]] inline unsigned bit_at(const std::byte* bits, std::size_t i) noexcept {
    return (byte_at(bits, i / 8) >> (i % 8)) & 1U;
}

/// The low half of a byte for 0, the high one for 1.
[[nodiscard]] inline unsigned nibble_of(unsigned byte, std::size_t which) noexcept {
    return (byte >> (4 * which)) & 15U;
}

/// Code `i` of the 32 in 16 bytes, in the order of most formats: the low halves of all bytes, then the high ones.
[[nodiscard]] inline unsigned nibble_at(const std::byte* codes, std::size_t i) noexcept {
    return nibble_of(byte_at(codes, i % 16), i / 16);
}

}  // namespace detail
}  // namespace moe::inline MOE_ABI
