#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"
#include "tables.hpp"

namespace moe::inline MOE_ABI::blocks {

/// 32 floats of 4 bits (E2M1) and an exponent: weight i is F(q_i) 2^(e - 128) with F twice their value. Exact, but that
/// e from 253 on makes the larger ones infinite. The Open Compute Project's MX formats 1.0 have a NaN for e = 255, ggml
/// a number.
///
///     0   e, one byte
///     1   q, 16 bytes, see detail::nibble_at
struct MXFP4 {
    static constexpr std::string_view name = "MXFP4";
    static constexpr std::uint32_t ggml_type = 39;
    static constexpr std::size_t block_values = 32;
    static constexpr std::size_t block_bytes = 17;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        const std::byte* const bytes = block.data();
        const float scale = detail::power_of_two(detail::byte_at(bytes, 0));
        for (std::size_t i = 0; i < block_values; ++i) {
            values[i] = static_cast<float>(detail::fp4_values[detail::nibble_at(bytes + 1, i)]) * scale;
        }
    }
};

}  // namespace moe::inline MOE_ABI::blocks
