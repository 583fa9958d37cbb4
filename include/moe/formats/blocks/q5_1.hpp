#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"

namespace moe::inline MOE_ABI::blocks {

/// 32 integers of 5 bits, a scale and a minimum: weight i is q_i d + m. The product is exact, the sum rounds.
///
///     0   d, binary16
///     2   m, binary16
///     4   fifth bits of q, weight i at bit i of 32
///     8   the other four, 16 bytes, see detail::nibble_at
struct Q5_1 {
    static constexpr std::string_view name = "Q5_1";
    static constexpr std::uint32_t ggml_type = 7;
    static constexpr std::size_t block_values = 32;
    static constexpr std::size_t block_bytes = 24;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        const std::byte* const bytes = block.data();
        const float scale = detail::half_at(bytes, 0);
        const float minimum = detail::half_at(bytes, 2);
        for (std::size_t i = 0; i < block_values; ++i) {
            const unsigned code = detail::nibble_at(bytes + 8, i) | (detail::bit_at(bytes + 4, i) << 4U);
            values[i] = static_cast<float>(code) * scale + minimum;
        }
    }
};

}  // namespace moe::inline MOE_ABI::blocks
