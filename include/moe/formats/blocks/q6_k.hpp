#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"
#include "k_groups.hpp"

namespace moe::inline MOE_ABI::blocks {

/// 256 integers of 6 bits in 16 groups, each with a signed scale s of 8 bits: weight i is d s (q_i - 32), exactly.
///
///     0    low four bits of q, 128 bytes: each 64 have half of the block, weights 64 and on of it in their high halves
///     128  the other two, 64 bytes, see detail::quarter_at
///     192  s, 16 signed bytes
///     208  d, binary16
struct Q6_K {
    static constexpr std::string_view name = "Q6_K";
    static constexpr std::uint32_t ggml_type = 14;
    static constexpr std::size_t block_values = 256;
    static constexpr std::size_t block_bytes = 210;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        const std::byte* const bytes = block.data();
        const float scale = detail::half_at(bytes, 208);
        for (std::size_t i = 0; i < block_values; ++i) {
            const std::size_t half = i / 128;
            const std::size_t within = i % 128;
            const unsigned low = detail::nibble_of(detail::byte_at(bytes, 64 * half + within % 64), within / 64);
            const unsigned code = low | (detail::quarter_at(bytes + 128, i) << 4U);
            const float step = scale * static_cast<float>(detail::signed_byte_at(bytes, 192 + i / 16));
            values[i] = step * static_cast<float>(static_cast<int>(code) - 32);
        }
    }
};

}  // namespace moe::inline MOE_ABI::blocks
