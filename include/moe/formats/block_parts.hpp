#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "block_type.hpp"

namespace moe::inline MOE_ABI {

/// What a block of codes consists of, its integers as they are in the file: for those who lay them out anew.
struct BlockParts {
    std::uint16_t scale = 0;                ///< binary16: of the whole block; 0 for formats that have none
    std::uint16_t minimum = 0;              ///< the same of the minima
    std::array<std::uint8_t, 16> scales{};  ///< of the groups of a block, signed or not; E8M0 and E4M3 as well
    std::array<std::uint8_t, 16> minima{};  ///< of the groups
    std::array<std::uint8_t, 256> codes{};  ///< unsigned; of Q8_0 plus 128
};

namespace detail {

[[nodiscard]] inline std::uint16_t bits_at(const std::byte* block, std::size_t i) noexcept {
    return static_cast<std::uint16_t>(word_at(block, i));
}
[[nodiscard]] inline std::uint8_t code_of(unsigned value) noexcept { return static_cast<std::uint8_t>(value); }

/// The codes of a block of 32 of 4 bits, or of 5 whose fifth are at `fifth`.
inline void split_nibbles(const std::byte* codes, const std::byte* fifth, BlockParts& parts) noexcept {
    for (std::size_t i = 0; i < 32; ++i) {
        parts.codes[i] = code_of(nibble_at(codes, i) | (fifth != nullptr ? bit_at(fifth, i) << 4U : 0U));
    }
}

/// What Q4_K and Q5_K have in common; `codes` are the lower four bits.
inline void split_k_groups(const std::byte* block, const std::byte* codes, BlockParts& parts) noexcept {
    parts.scale = bits_at(block, 0);
    parts.minimum = bits_at(block, 2);
    for (std::size_t j = 0; j < 8; ++j) {
        const KGroup group = k_group(block + 4, j);
        parts.scales[j] = code_of(group.scale);
        parts.minima[j] = code_of(group.minimum);
        for (std::size_t l = 0; l < 32; ++l) {
            parts.codes[32 * j + l] = code_of(nibble_of(byte_at(codes, 32 * (j / 2) + l), j % 2));
        }
    }
}

}  // namespace detail

/// One overload for each format; the layouts are told in blocks/.
inline void split_block(blocks::Q8_0, const std::byte* block, BlockParts& parts) noexcept {
    parts.scale = detail::bits_at(block, 0);
    for (std::size_t i = 0; i < 32; ++i) {
        parts.codes[i] = detail::code_of(detail::byte_at(block, 2 + i) ^ 0x80U);
    }
}
inline void split_block(blocks::Q4_0, const std::byte* block, BlockParts& parts) noexcept {
    parts.scale = detail::bits_at(block, 0);
    detail::split_nibbles(block + 2, nullptr, parts);
}
/// Its zero point is 16: as bytes with that of Q8_0, 128.
inline void split_block(blocks::Q5_0, const std::byte* block, BlockParts& parts) noexcept {
    parts.scale = detail::bits_at(block, 0);
    detail::split_nibbles(block + 6, block + 2, parts);
    for (std::size_t i = 0; i < 32; ++i) {
        parts.codes[i] = detail::code_of(parts.codes[i] + 112U);
    }
}
inline void split_block(blocks::Q4_1, const std::byte* block, BlockParts& parts) noexcept {
    parts.scale = detail::bits_at(block, 0);
    parts.minimum = detail::bits_at(block, 2);
    detail::split_nibbles(block + 4, nullptr, parts);
}
inline void split_block(blocks::Q5_1, const std::byte* block, BlockParts& parts) noexcept {
    parts.scale = detail::bits_at(block, 0);
    parts.minimum = detail::bits_at(block, 2);
    detail::split_nibbles(block + 8, block + 4, parts);
}
inline void split_block(blocks::IQ4_NL, const std::byte* block, BlockParts& parts) noexcept {
    parts.scale = detail::bits_at(block, 0);
    detail::split_nibbles(block + 2, nullptr, parts);
}
inline void split_block(blocks::MXFP4, const std::byte* block, BlockParts& parts) noexcept {
    parts.scales[0] = detail::code_of(detail::byte_at(block, 0));
    detail::split_nibbles(block + 1, nullptr, parts);
}
/// The NaN of a scale is 0, as it is when it is decoded, and no scale has a sign.
inline void split_block(blocks::NVFP4, const std::byte* block, BlockParts& parts) noexcept {
    for (std::size_t i = 0; i < 64; ++i) {
        const std::size_t group = i / 16;
        const unsigned scale = detail::byte_at(block, group);
        parts.scales[group] = detail::code_of(scale == 0x7FU ? 0U : scale & 0x7FU);
        parts.codes[i] = detail::code_of(detail::nibble_of(detail::byte_at(block, 4 + 8 * group + i % 8), i % 16 / 8));
    }
}
inline void split_block(blocks::Q4_K, const std::byte* block, BlockParts& parts) noexcept {
    detail::split_k_groups(block, block + 16, parts);
}
inline void split_block(blocks::Q5_K, const std::byte* block, BlockParts& parts) noexcept {
    detail::split_k_groups(block, block + 48, parts);
    for (std::size_t i = 0; i < 256; ++i) {
        const unsigned fifth = (detail::byte_at(block, 16 + i % 32) >> (i / 32)) & 1U;
        parts.codes[i] = detail::code_of(parts.codes[i] | (fifth << 4U));
    }
}
inline void split_block(blocks::Q6_K, const std::byte* block, BlockParts& parts) noexcept {
    parts.scale = detail::bits_at(block, 208);
    for (std::size_t g = 0; g < 16; ++g) {
        parts.scales[g] = detail::code_of(detail::byte_at(block, 192 + g));
    }
    for (std::size_t i = 0; i < 256; ++i) {
        const unsigned low = detail::nibble_of(detail::byte_at(block, 64 * (i / 128) + i % 64), i % 128 / 64);
        parts.codes[i] = detail::code_of(low | (detail::quarter_at(block + 128, i) << 4U));
    }
}
inline void split_block(blocks::IQ4_XS, const std::byte* block, BlockParts& parts) noexcept {
    parts.scale = detail::bits_at(block, 0);
    const unsigned uppers = detail::word_at(block, 2);
    for (std::size_t j = 0; j < 8; ++j) {
        const unsigned low = detail::nibble_of(detail::byte_at(block, 4 + j / 2), j % 2);
        parts.scales[j] = detail::code_of((low | (((uppers >> (2 * j)) & 3U) << 4U)) - 32U);
    }
    for (std::size_t i = 0; i < 256; ++i) {
        parts.codes[i] = detail::code_of(detail::nibble_at(block + 8 + 16 * (i / 32), i % 32));
    }
}
inline void split_block(blocks::Q2_K, const std::byte* block, BlockParts& parts) noexcept {
    parts.scale = detail::bits_at(block, 80);
    parts.minimum = detail::bits_at(block, 82);
    for (std::size_t g = 0; g < 16; ++g) {
        parts.scales[g] = detail::code_of(detail::byte_at(block, g) & 15U);
        parts.minima[g] = detail::code_of(detail::byte_at(block, g) >> 4U);
    }
    for (std::size_t i = 0; i < 256; ++i) {
        parts.codes[i] = detail::code_of(detail::quarter_at(block + 16, i));
    }
}
inline void split_block(blocks::Q3_K, const std::byte* block, BlockParts& parts) noexcept {
    parts.scale = detail::bits_at(block, 108);
    for (std::size_t g = 0; g < 16; ++g) {
        const unsigned low = detail::nibble_of(detail::byte_at(block, 96 + g % 8), g / 8);
        const unsigned high = (detail::byte_at(block, 104 + g % 4) >> (2 * (g / 4))) & 3U;
        parts.scales[g] = detail::code_of((low | (high << 4U)) - 32U);
    }
    for (std::size_t i = 0; i < 256; ++i) {
        const unsigned third = (detail::byte_at(block, i % 32) >> (i / 32)) & 1U;
        parts.codes[i] = detail::code_of(detail::quarter_at(block + 32, i) | (third << 2U));
    }
}

}  // namespace moe::inline MOE_ABI
