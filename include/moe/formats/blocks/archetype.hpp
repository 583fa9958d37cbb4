#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "block.hpp"

namespace moe::inline MOE_ABI::blocks {

/// The smallest legal block format: copy it, rename it, and change what `decode` computes; then name it in the list of
/// block_type.hpp. This one has two weights in three bytes, a binary16 scale and two integers of four bits.
struct Archetype {
    /// As ggml spells it, in capitals.
    static constexpr std::string_view name = "ARCHETYPE";
    /// What the header of a GGUF file calls it.
    static constexpr std::uint32_t ggml_type = 0xFFFFFFFFU;
    /// Weights a block; the length of a row is a multiple of it.
    static constexpr std::size_t block_values = 2;
    /// Bytes a block.
    static constexpr std::size_t block_bytes = 3;

    /// The weights of one block: every bit as ggml's, in the order of operations that ggml has, so that the sign of a
    /// zero is the same too. Say here what of it rounds. Any bytes are legal input.
    static void decode(std::span<const std::byte, block_bytes> block, std::span<float, block_values> values) noexcept {
        const float scale = detail::half_at(block.data(), 0);
        const unsigned codes = detail::byte_at(block.data(), 2);
        values[0] = static_cast<float>(static_cast<int>(codes & 15U) - 8) * scale;
        values[1] = static_cast<float>(static_cast<int>(codes >> 4U) - 8) * scale;
    }
};

static_assert(BlockFormat<Archetype>);

}  // namespace moe::inline MOE_ABI::blocks
