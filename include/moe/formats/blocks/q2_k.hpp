#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"
#include "k_groups.hpp"

namespace moe::inline MOE_ABI::blocks {

/// 256 integers of 2 bits in 16 groups, each with a scale s and a minimum m of 4 bits: weight i is d s q_i - e m. Both
/// products are exact, their difference rounds.
///
///     0    s in the low halves of 16 bytes, m in the high ones, one byte a group
///     16   q, 64 bytes, see detail::quarter_at
///     80   d, binary16
///     82   e, binary16
struct Q2_K {
    static constexpr std::string_view name = "Q2_K";
    static constexpr std::uint32_t ggml_type = 10;
    static constexpr std::size_t block_values = 256;
    static constexpr std::size_t block_bytes = 84;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        const std::byte* const bytes = block.data();
        const float scale = detail::half_at(bytes, 80);
        const float minimum = detail::half_at(bytes, 82);
        for (std::size_t i = 0; i < block_values; ++i) {
            const unsigned group = detail::byte_at(bytes, i / 16);
            const unsigned code = detail::quarter_at(bytes + 16, i);
            const float step = scale * static_cast<float>(group & 15U);
            values[i] = step * static_cast<float>(code) - minimum * static_cast<float>(group >> 4U);
        }
    }
};

}  // namespace moe::inline MOE_ABI::blocks
