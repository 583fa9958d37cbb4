#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "block.hpp"

namespace moe::inline MOE_ABI::blocks {

/// float32 as it is.
struct F32 {
    static constexpr std::string_view name = "F32";
    static constexpr std::uint32_t ggml_type = 0;
    static constexpr std::size_t block_values = 1;
    static constexpr std::size_t block_bytes = 4;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        std::memcpy(values.data(), block.data(), block_bytes);
    }
};

}  // namespace moe::inline MOE_ABI::blocks
