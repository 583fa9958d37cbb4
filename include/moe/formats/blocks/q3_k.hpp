#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"
#include "k_groups.hpp"

namespace moe::inline MOE_ABI::blocks {

/// 256 integers of 3 bits in 16 groups, each with a scale s of 6 bits: weight i is d (s - 32) (q_i - 4), exactly.
///
///     0    third bits of q, 32 bytes: bit j of byte l belongs to weight 32 j + l
///     32   the other two, 64 bytes, see detail::quarter_at
///     96   low four bits of s, 8 bytes: groups 0 to 7 in their low halves, 8 to 15 in the high ones
///     104  the other two, 4 bytes: byte j has those of groups j, j + 4, j + 8 and j + 12
///     108  d, binary16
struct Q3_K {
    static constexpr std::string_view name = "Q3_K";
    static constexpr std::uint32_t ggml_type = 11;
    static constexpr std::size_t block_values = 256;
    static constexpr std::size_t block_bytes = 110;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        const std::byte* const bytes = block.data();
        const float scale = detail::half_at(bytes, 108);
        for (std::size_t i = 0; i < block_values; ++i) {
            const std::size_t group = i / 16;
            const unsigned low = detail::nibble_of(detail::byte_at(bytes, 96 + group % 8), group / 8);
            const unsigned high = (detail::byte_at(bytes, 104 + group % 4) >> (2 * (group / 4))) & 3U;
            const unsigned third = (detail::byte_at(bytes, i % 32) >> (i / 32)) & 1U;
            const int code = static_cast<int>(detail::quarter_at(bytes + 32, i) | (third << 2U)) - 4;
            const float step = scale * static_cast<float>(static_cast<int>(low | (high << 4U)) - 32);
            values[i] = step * static_cast<float>(code);
        }
    }
};

}  // namespace moe::inline MOE_ABI::blocks
