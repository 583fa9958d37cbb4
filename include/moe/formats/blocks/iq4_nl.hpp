#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"
#include "tables.hpp"

namespace moe::inline MOE_ABI::blocks {

/// 32 codes of 4 bits into a table of integers, and a scale: weight i is T(q_i) d, exactly.
///
///     0   d, binary16
///     2   q, 16 bytes, see detail::nibble_at
struct IQ4_NL {
    static constexpr std::string_view name = "IQ4_NL";
    static constexpr std::uint32_t ggml_type = 20;
    static constexpr std::size_t block_values = 32;
    static constexpr std::size_t block_bytes = 18;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        const std::byte* const bytes = block.data();
        const float scale = detail::half_at(bytes, 0);
        for (std::size_t i = 0; i < block_values; ++i) {
            values[i] = scale * static_cast<float>(detail::iq4_values[detail::nibble_at(bytes + 2, i)]);
        }
    }
};

}  // namespace moe::inline MOE_ABI::blocks
