#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"

namespace moe::inline MOE_ABI::blocks {

/// 32 integers of 8 bits and a scale: weight i is q_i d, exactly.
///
///     0   d, binary16
///     2   q, 32 signed bytes; ggml writes no -128, but it is legal
struct Q8_0 {
    static constexpr std::string_view name = "Q8_0";
    static constexpr std::uint32_t ggml_type = 8;
    static constexpr std::size_t block_values = 32;
    static constexpr std::size_t block_bytes = 34;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        const std::byte* const bytes = block.data();
        const float scale = detail::half_at(bytes, 0);
        for (std::size_t i = 0; i < block_values; ++i) {
            values[i] = static_cast<float>(detail::signed_byte_at(bytes, 2 + i)) * scale;
        }
    }
};

}  // namespace moe::inline MOE_ABI::blocks
