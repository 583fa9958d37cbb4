#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"
#include "tables.hpp"

namespace moe::inline MOE_ABI::blocks {

/// 64 floats of 4 bits (E2M1) in 4 groups, each with a scale of 8 bits (E4M3 without its sign): weight i is F(q_i) s
/// with F twice their value and s half of the scale's. Exact. A factor that files have besides lies in another tensor.
///
///     0   scales, 4 bytes
///     4   q, 32 bytes, 8 a group: its first 8 in their low halves, the others in the high ones
struct NVFP4 {
    static constexpr std::string_view name = "NVFP4";
    static constexpr std::uint32_t ggml_type = 40;
    static constexpr std::size_t block_values = 64;
    static constexpr std::size_t block_bytes = 36;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        const std::byte* const bytes = block.data();
        for (std::size_t i = 0; i < block_values; ++i) {
            const std::size_t group = i / 16;
            const std::size_t within = i % 16;
            const unsigned code = detail::nibble_of(detail::byte_at(bytes, 4 + 8 * group + within % 8), within / 8);
            const float scale = detail::half_of_e4m3(detail::byte_at(bytes, group));
            values[i] = static_cast<float>(detail::fp4_values[code]) * scale;
        }
    }
};

}  // namespace moe::inline MOE_ABI::blocks
