#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"

namespace moe::inline MOE_ABI::blocks {

/// IEEE 754 binary16, exactly; a NaN becomes quiet.
struct F16 {
    static constexpr std::string_view name = "F16";
    static constexpr std::uint32_t ggml_type = 1;
    static constexpr std::size_t block_values = 1;
    static constexpr std::size_t block_bytes = 2;

    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        values[0] = detail::half_at(block.data(), 0);
    }
};

}  // namespace moe::inline MOE_ABI::blocks
