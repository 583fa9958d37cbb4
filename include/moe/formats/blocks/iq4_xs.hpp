#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"
#include "tables.hpp"

namespace moe::inline MOE_ABI::blocks {

/// 256 codes of 4 bits into the table of IQ4_NL in 8 groups, each with a scale s of 6 bits: weight i is d (s - 32)
/// T(q_i), exactly.
///
///     0    d, binary16
///     2    upper two bits of s, group j at bit 2 j of 16
///     4    the other four, 4 bytes, two groups in each
///     8    q, 128 bytes, 16 a group, see detail::nibble_at
struct IQ4_XS {
    static constexpr std::string_view name = "IQ4_XS";
    static constexpr std::uint32_t ggml_type = 23;
    static constexpr std::size_t block_values = 256;
    static constexpr std::size_t block_bytes = 136;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        const std::byte* const bytes = block.data();
        const float scale = detail::half_at(bytes, 0);
        const unsigned uppers = detail::word_at(bytes, 2);
        for (std::size_t i = 0; i < block_values; ++i) {
            const std::size_t j = i / 32;
            const unsigned low = detail::nibble_of(detail::byte_at(bytes, 4 + j / 2), j % 2);
            const unsigned upper = (uppers >> (2 * j)) & 3U;
            const float step = scale * static_cast<float>(static_cast<int>(low | (upper << 4U)) - 32);
            values[i] = step * static_cast<float>(detail::iq4_values[detail::nibble_at(bytes + 8 + 16 * j, i % 32)]);
        }
    }
};

}  // namespace moe::inline MOE_ABI::blocks
