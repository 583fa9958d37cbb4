#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "../formats/block_parts.hpp"
#include "panel_kind.hpp"

namespace moe::inline MOE_ABI {

/// Panels that keep what a block format has, number for number: how they are stored, and how a block becomes part of
/// one. The floats of such a panel have the bits that the format's decode() gives.
template <class Block>
struct BlockPanel;

template <>
struct BlockPanel<blocks::Q8_0> {
    static constexpr PanelKind kind{.bits = 8, .zero_point = 128};
};
template <>
struct BlockPanel<blocks::Q4_0> {
    static constexpr PanelKind kind{.bits = 4, .zero_point = 8};
};
template <>
struct BlockPanel<blocks::Q5_0> {
    static constexpr PanelKind kind{.bits = 8, .zero_point = 128};
};
template <>
struct BlockPanel<blocks::Q4_1> {
    static constexpr PanelKind kind{.bits = 4, .minimum = MinimumForm::half};
};
template <>
struct BlockPanel<blocks::Q5_1> {
    static constexpr PanelKind kind{.bits = 8, .minimum = MinimumForm::half};
};
template <>
struct BlockPanel<blocks::Q4_K> {
    static constexpr PanelKind kind{
        .bits = 4, .scale = ScaleForm::half_times_unsigned, .minimum = MinimumForm::half_times_unsigned};
};
template <>
struct BlockPanel<blocks::Q5_K> {
    static constexpr PanelKind kind{
        .bits = 8, .scale = ScaleForm::half_times_unsigned, .minimum = MinimumForm::half_times_unsigned};
};
template <>
struct BlockPanel<blocks::Q6_K> {
    static constexpr PanelKind kind{.bits = 8, .zero_point = 32, .shared = 16, .scale = ScaleForm::half_times_signed};
};
template <>
struct BlockPanel<blocks::Q2_K> {
    static constexpr PanelKind kind{
        .bits = 4, .shared = 16, .scale = ScaleForm::half_times_unsigned, .minimum = MinimumForm::half_times_unsigned};
};
template <>
struct BlockPanel<blocks::Q3_K> {
    static constexpr PanelKind kind{.bits = 4, .zero_point = 4, .shared = 16, .scale = ScaleForm::half_times_signed};
};
template <>
struct BlockPanel<blocks::IQ4_NL> {
    static constexpr PanelKind kind{.bits = 4, .table = CodeTable::iq4};
};
template <>
struct BlockPanel<blocks::IQ4_XS> {
    static constexpr PanelKind kind{.bits = 4, .table = CodeTable::iq4, .scale = ScaleForm::half_times_signed};
};
template <>
struct BlockPanel<blocks::MXFP4> {
    static constexpr PanelKind kind{.bits = 4, .table = CodeTable::fp4, .scale = ScaleForm::power_of_two};
};
template <>
struct BlockPanel<blocks::NVFP4> {
    static constexpr PanelKind kind{.bits = 4, .table = CodeTable::fp4, .shared = 16, .scale = ScaleForm::e4m3};
};

/// The formats that have panels of codes.
template <class F>
concept CodedBlock = requires {
    BlockPanel<F>::kind;
};

namespace detail {

inline void put_half(std::byte* target, std::size_t i, std::uint16_t bits) noexcept {
    std::memcpy(target + i * sizeof bits, &bits, sizeof bits);
}

/// Group `g` of a block into group `target` of a panel, as output `c`, whose codes are zero so far.
template <PanelKind kind>
void put_group(const BlockParts& parts, std::size_t g, std::size_t c, std::byte* target) noexcept {
    constexpr std::size_t width = PanelKind::width;
    constexpr std::size_t subgroups = quantization_group / kind.shared;
    for (std::size_t s = 0; s < subgroups; ++s) {
        if constexpr (kind.scale == ScaleForm::half) {
            put_half(target, c, parts.scale);
        } else {
            target[s * width + c] = std::byte{parts.scales[g * subgroups + s]};
        }
        if constexpr (kind.minimum == MinimumForm::half) {
            put_half(target + kind.minima_at(), c, parts.minimum);
        } else if constexpr (kind.minimum == MinimumForm::half_times_unsigned) {
            target[kind.minima_at() + s * width + c] = std::byte{parts.minima[g * subgroups + s]};
        }
    }
    std::byte* const codes = target + kind.codes_at();
    for (std::size_t i = 0; i < quantization_group; ++i) {
        const bool upper = kind.bits == 4 && i >= quantization_group / 2;
        const std::size_t at = upper ? i - quantization_group / 2 : i;
        codes[(at / 4 * width + c) * 4 + at % 4] |= std::byte{parts.codes[g * quantization_group + i]}
                                                    << (upper ? 4 : 0);
    }
}

/// A row of blocks as output `c` of a panel that is zero where this output is.
template <CodedBlock Block>
void put_row(const std::byte* blocks, std::size_t k, std::size_t c, std::byte* panel) noexcept {
    constexpr PanelKind kind = BlockPanel<Block>::kind;
    constexpr std::size_t groups = Block::block_values / quantization_group;
    for (std::size_t b = 0; b * Block::block_values < k; ++b) {
        BlockParts parts;
        moe::split_block(Block{}, blocks + b * Block::block_bytes, parts);
        if constexpr (kind.factor_bytes() > 0) {
            std::byte* const factors = panel + kind.factors_at(b * groups);
            put_half(factors, c, parts.scale);
            if constexpr (kind.minimum == MinimumForm::half_times_unsigned) {
                put_half(factors, PanelKind::width + c, parts.minimum);
            }
        }
        for (std::size_t g = 0; g < groups; ++g) {
            put_group<kind>(parts, g, c, panel + kind.group_at(b * groups + g));
        }
    }
}

/// The first of the blocks of a row whose scale or minimum is no finite number, or `n_blocks`.
template <CodedBlock Block>
[[nodiscard]] std::size_t first_bad_block(const std::byte* blocks, std::size_t n_blocks) noexcept {
    constexpr PanelKind kind = BlockPanel<Block>::kind;
    constexpr unsigned infinite = 0x7C00U;
    for (std::size_t b = 0; b < n_blocks; ++b) {
        BlockParts parts;
        moe::split_block(Block{}, blocks + b * Block::block_bytes, parts);
        const bool no_number = kind.scale == ScaleForm::power_of_two && parts.scales[0] == 255;
        if (no_number || (parts.scale & infinite) == infinite || (parts.minimum & infinite) == infinite) {
            return b;
        }
    }
    return n_blocks;
}

}  // namespace detail

/// Calls function.operator()<Block>() with the format of that number, if it has panels of codes; returns whether.
template <class Function>
bool with_coded_block(std::uint32_t ggml_type, Function&& function) {
    const auto attempt = [&]<class Block>() {
        if (ggml_type != Block::ggml_type) {
            return false;
        }
        function.template operator()<Block>();
        return true;
    };
    const auto any_of = [&]<class... Blocks>() { return (attempt.template operator()<Blocks>() || ...); };
    return any_of.template operator()<blocks::Q8_0, blocks::Q4_0, blocks::Q5_0, blocks::Q4_1, blocks::Q5_1,
                                      blocks::Q4_K, blocks::Q5_K, blocks::Q6_K, blocks::Q2_K, blocks::Q3_K,
                                      blocks::IQ4_NL, blocks::IQ4_XS, blocks::MXFP4, blocks::NVFP4>();
}

}  // namespace moe::inline MOE_ABI
