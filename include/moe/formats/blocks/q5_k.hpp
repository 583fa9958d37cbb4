#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"
#include "k_groups.hpp"

namespace moe::inline MOE_ABI::blocks {

/// 256 integers of 5 bits in 8 groups, each with a scale s and a minimum m of 6 bits: weight i is d s q_i - e m. Both
/// products are exact, their difference rounds.
///
///     0    d, binary16
///     2    e, binary16
///     4    s and m, 12 bytes, see detail::k_group
///     16   fifth bits of q, 32 bytes: bit j of byte l belongs to weight 32 j + l
///     48   the other four, 128 bytes: each 32 have two groups, the first in their low halves
struct Q5_K {
    static constexpr std::string_view name = "Q5_K";
    static constexpr std::uint32_t ggml_type = 13;
    static constexpr std::size_t block_values = 256;
    static constexpr std::size_t block_bytes = 176;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        const std::byte* const bytes = block.data();
        const float scale = detail::half_at(bytes, 0);
        const float minimum = detail::half_at(bytes, 2);
        for (std::size_t i = 0; i < block_values; ++i) {
            const std::size_t j = i / 32;
            const detail::KGroup group = detail::k_group(bytes + 4, j);
            const unsigned low = detail::nibble_of(detail::byte_at(bytes, 48 + 32 * (j / 2) + i % 32), j % 2);
            const unsigned fifth = (detail::byte_at(bytes, 16 + i % 32) >> j) & 1U;
            const float step = scale * static_cast<float>(group.scale);
            values[i] = step * static_cast<float>(low | (fifth << 4U)) - minimum * static_cast<float>(group.minimum);
        }
    }
};

}  // namespace moe::inline MOE_ABI::blocks
