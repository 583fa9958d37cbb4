#pragma once

#include <cstddef>

#include "block.hpp"

namespace moe::inline MOE_ABI::detail {

/// The two bits of weight `i` of 256 in 64 bytes: each half of the block has 32 bytes, and a byte the bits of weights
/// l, l + 32, l + 64 and l + 96 of its half.
[[nodiscard]] inline unsigned quarter_at(const std::byte* quarters, std::size_t i) noexcept {
    const std::size_t within = i % 128;
    return (byte_at(quarters, 32 * (i / 128) + within % 32) >> (2 * (within / 32))) & 3U;
}

/// What a group of 32 weights has of its own in Q4_K and Q5_K: integers of 6 bits.
struct KGroup {
    unsigned scale;
    unsigned minimum;
};

/// Group `j` of 8 out of the 12 bytes that hold them. Groups 0 to 3 have the lower six bits of a byte each, bytes 0 to
/// 3 for scales and 4 to 7 for minima. Groups 4 to 7 have the halves of bytes 8 to 11, low for scales and high for
/// minima, and as their upper two bits those that the first eight bytes have left.
[[nodiscard]] inline KGroup k_group(const std::byte* packed, std::size_t j) noexcept {
    if (j < 4) {
        return {byte_at(packed, j) & 63U, byte_at(packed, j + 4) & 63U};
    }
    const unsigned low = byte_at(packed, j + 4);
    return {(low & 15U) | ((byte_at(packed, j - 4) >> 6U) << 4U), (low >> 4U) | ((byte_at(packed, j) >> 6U) << 4U)};
}

}  // namespace moe::inline MOE_ABI::detail
