#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"

namespace moe::inline MOE_ABI::blocks {

/// bfloat16, the upper half of a float32, exactly.
struct BF16 {
    static constexpr std::string_view name = "BF16";
    static constexpr std::uint32_t ggml_type = 30;
    static constexpr std::size_t block_values = 1;
    static constexpr std::size_t block_bytes = 2;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        values[0] = to_float(bfloat16{static_cast<std::uint16_t>(detail::word_at(block.data(), 0))});
    }
};

}  // namespace moe::inline MOE_ABI::blocks
