#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <utility>

#include "arch/turned_bytes.hpp"
#include "block_panel.hpp"
#include "panel_decoder.hpp"

namespace moe::inline MOE_ABI {

/// How blocks lie in a panel that is made of them where they are used, and is gone after: every code has a byte, so
/// that nothing is put together which the product would take apart. The floats of such a panel have the bits that the
/// format's decode() gives.
template <CodedBlock Block>
[[nodiscard]] constexpr PanelKind turned_kind() noexcept {
    PanelKind kind = BlockPanel<Block>::kind;
    kind.padded = kind.bits == 4;
    kind.bits = 8;
    if (Block::ggml_type == blocks::Q8_0::ggml_type) {
        kind.zero_point = 0;  // signed
    } else if (Block::ggml_type == blocks::Q5_0::ggml_type) {
        kind.zero_point = 16;
    }
    return kind;
}

namespace detail {

using arch::moved_down;
using arch::repeat_byte;
using arch::TurnedBytes;
using arch::Words;

/// lanes<float> rows of blocks, `stride` bytes apart.
struct TurnedRows {
    const std::byte* first;
    std::size_t stride;

    [[nodiscard]] TurnedRows from(std::size_t byte) const noexcept { return {first + byte, stride}; }
    /// 16 bytes of each from `byte` on.
    [[nodiscard]] MOE_ALWAYS_INLINE TurnedBytes turned(std::size_t byte) const noexcept {
        return arch::turn_bytes(first + byte, stride);
    }
};

/// Where a block of such rows goes: lanes<float> columns of a panel from `column` on, from group `group` on.
template <PanelKind kind>
struct PanelColumns {
    std::byte* panel;
    std::size_t column;
    std::size_t group;

    static constexpr std::size_t width = PanelKind::width;
    static constexpr bool upper_halves_count = !arch::CodeLanes::permutes_floats;

    /// Four inputs from 4 `j` on of group `g`.
    MOE_ALWAYS_INLINE void codes(std::size_t g, std::size_t j, const Words& words) const noexcept {
        arch::store_words(at(g) + kind.codes_at() + (j * width + column) * 4, words);
    }
    /// The lower, or the upper, half of each byte, as padded codes.
    MOE_ALWAYS_INLINE void low_nibbles(std::size_t g, std::size_t j, const Words& words) const noexcept {
        codes(g, j, upper_halves_count ? arch::low_nibbles(words) : words);
    }
    MOE_ALWAYS_INLINE void high_nibbles(std::size_t g, std::size_t j, const Words& words) const noexcept {
        codes(g, j, upper_halves_count ? arch::high_nibbles(words) : moved_down<4>(words));
    }
    /// 32 codes of group `g` in the order of most formats.
    MOE_ALWAYS_INLINE void nibbles(std::size_t g, const TurnedBytes& bytes) const noexcept {
        MOE_UNROLL
        for (std::size_t j = 0; j < 4; ++j) {
            low_nibbles(g, j, bytes.word[j]);
            high_nibbles(g, 4 + j, bytes.word[j]);
        }
    }

    /// Scales, or minima, 4 `i` to 4 `i` + 3 of a block, a byte each.
    MOE_ALWAYS_INLINE void scales(std::size_t i, const Words& words) const noexcept { bytes_of_groups(0, i, words); }
    MOE_ALWAYS_INLINE void minima(std::size_t i, const Words& words) const noexcept {
        bytes_of_groups(kind.minima_at(), i, words);
    }
    /// The same of binary16 numbers, one a block, in the lower half of each lane.
    MOE_ALWAYS_INLINE void half_scale(const Words& words) const noexcept {
        arch::store_low_halves(at(0) + 2 * column, words);
    }
    MOE_ALWAYS_INLINE void half_minimum(const Words& words) const noexcept {
        arch::store_low_halves(at(0) + kind.minima_at() + 2 * column, words);
    }
    MOE_ALWAYS_INLINE void factor(std::size_t which, const Words& words) const noexcept {
        arch::store_low_halves(factors(which), words);
    }
    /// Out of one place of each row, one after the other. Where the scale stands at the front of a small block, turning
    /// over its first 16 bytes for it is 7 % faster (Q4_0, Q8_0).
    MOE_ALWAYS_INLINE void copy_scales(const TurnedRows& rows) const noexcept {
        constexpr std::size_t bytes = kind.scale == ScaleForm::half ? 2 : 1;
        copy<bytes>(rows, at(0) + bytes * column);
    }
    MOE_ALWAYS_INLINE void copy_factor(std::size_t which, const TurnedRows& rows) const noexcept {
        copy<2>(rows, factors(which));
    }

private:
    [[nodiscard]] std::byte* at(std::size_t g) const noexcept { return panel + kind.group_at(group + g); }
    [[nodiscard]] std::byte* factors(std::size_t which) const noexcept {
        return panel + kind.factors_at(group) + 2 * (which * width + column);
    }
    MOE_ALWAYS_INLINE void bytes_of_groups(std::size_t from, std::size_t i, const Words& words) const noexcept {
        constexpr std::size_t of_group = quantization_group / kind.shared;
        std::array<std::byte*, 4> target;
        MOE_UNROLL
        for (std::size_t b = 0; b < 4; ++b) {
            const std::size_t s = 4 * i + b;
            target[b] = at(s / of_group) + from + s % of_group * width + column;
        }
        arch::store_byte_columns(target, words);
    }
    template <std::size_t Bytes>
    static MOE_ALWAYS_INLINE void copy(const TurnedRows& rows, std::byte* target) noexcept {
        MOE_UNROLL
        for (std::size_t o = 0; o < lanes<float>; ++o) {
            std::memcpy(target + Bytes * o, rows.first + o * rows.stride, Bytes);
        }
    }
};

/// Bit 4 J + b of each lane as bit 4 of byte b.
template <std::size_t J>
[[nodiscard]] MOE_ALWAYS_INLINE Words spread_bits(const Words& bits) noexcept {
    const Words four = moved_down<4 * J>(bits) & Words(15);
    return ((four << 4) | (four << 11) | (four << 18) | (four << 25)) & repeat_byte(16);
}

/// Calls each.operator()<I>() for I < N.
template <std::size_t N, class Each>
MOE_ALWAYS_INLINE void for_constants(Each&& each) {
    const auto call = [&]<std::size_t... I>(std::index_sequence<I...>) MOE_INLINE_CALL {
        (each.template operator()<I>(), ...);
    };
    call(std::make_index_sequence<N>());
}

/// 32 codes of 4 bits and a fifth of each.
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_five_bits(const TurnedBytes& lower, const Words& fifth,
                                      const PanelColumns<kind>& to) noexcept {
    for_constants<4>([&]<std::size_t J>() MOE_INLINE_CALL {
        to.codes(0, J, arch::low_nibbles(lower.word[J]) | spread_bits<J>(fifth));
        to.codes(0, J + 4, arch::high_nibbles(lower.word[J]) | spread_bits<J + 4>(fifth));
    });
}

/// Bytes 0 to 63 less 32, as signed bytes.
[[nodiscard]] MOE_ALWAYS_INLINE Words less_32(const Words& bytes) noexcept {
    const Words flipped = bytes ^ repeat_byte(32);
    const Words negative = flipped & repeat_byte(32);
    return flipped | (negative << 1) | (negative << 2);
}

/// What Q4_K and Q5_K have in common, see k_group().
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_k_groups(const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    const TurnedBytes head = rows.turned(0);
    to.factor(0, head.word[0]);
    to.factor(1, moved_down<16>(head.word[0]));
    to.scales(0, head.word[1] & repeat_byte(63));
    to.minima(0, head.word[2] & repeat_byte(63));
    to.scales(1, arch::low_nibbles(head.word[3]) | (moved_down<2>(head.word[1]) & repeat_byte(0x30)));
    to.minima(1, arch::high_nibbles(head.word[3]) | (moved_down<2>(head.word[2]) & repeat_byte(0x30)));
}

/// A block of each of some rows into a panel of turned_kind(). One overload for each format; the layouts are told in
/// formats/blocks/. Nothing outside of the blocks is read.
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::Q8_0, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    to.half_scale(rows.turned(0).word[0]);
    MOE_UNROLL
    for (std::size_t q = 0; q < 2; ++q) {
        const TurnedBytes codes = rows.turned(2 + 16 * q);
        MOE_UNROLL
        for (std::size_t j = 0; j < 4; ++j) {
            to.codes(0, 4 * q + j, codes.word[j]);
        }
    }
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::Q4_0, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    to.half_scale(rows.turned(0).word[0]);
    to.nibbles(0, rows.turned(2));
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::IQ4_NL, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    to.half_scale(rows.turned(0).word[0]);
    to.nibbles(0, rows.turned(2));
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::MXFP4, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    to.copy_scales(rows);
    to.nibbles(0, rows.turned(1));
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::Q4_1, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    const Words factors = rows.turned(0).word[0];
    to.half_scale(factors);
    to.half_minimum(moved_down<16>(factors));
    to.nibbles(0, rows.turned(4));
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::Q5_0, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    to.copy_scales(rows);
    turn_five_bits(rows.turned(6), rows.turned(2).word[0], to);
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::Q5_1, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    const TurnedBytes head = rows.turned(0);
    to.half_scale(head.word[0]);
    to.half_minimum(moved_down<16>(head.word[0]));
    turn_five_bits(rows.turned(8), head.word[1], to);
}
/// The NaN of a scale is 0, and no scale has a sign: as split_block() has it.
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::NVFP4, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    const Words scales = rows.turned(0).word[0];
    Words numbers(0);
    for_constants<4>([&]<std::size_t I>() MOE_INLINE_CALL {
        const Words scale = moved_down<8 * I>(scales) & Words(255);
        const Words nan(0x7F);
        const Words kept = (Words(0) - (scale ^ nan)) >> 31;  // xsimd 8.1 selects no int with AVX-512 at -O0
        numbers = numbers | ((scale & nan & kept) << static_cast<int>(8 * I));
    });
    to.scales(0, numbers);
    MOE_UNROLL
    for (std::size_t i = 0; i < 2; ++i) {
        // 16 inputs in two vectors, 8 in their lower halves and 8 in the upper ones, then 16 more
        const TurnedBytes codes = rows.turned(4 + 16 * i);
        MOE_UNROLL
        for (std::size_t j = 0; j < 4; ++j) {
            to.low_nibbles(i, j / 2 * 4 + j % 2, codes.word[j]);
            to.high_nibbles(i, j / 2 * 4 + 2 + j % 2, codes.word[j]);
        }
    }
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::Q4_K, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    turn_k_groups(rows, to);
    for (std::size_t q = 0; q < 8; ++q) {  // 16 inputs of each of two groups
        const TurnedBytes codes = rows.turned(16 + 16 * q);
        const std::size_t g = q / 2 * 2;
        MOE_UNROLL
        for (std::size_t j = 0; j < 4; ++j) {
            to.low_nibbles(g, q % 2 * 4 + j, codes.word[j]);
            to.high_nibbles(g + 1, q % 2 * 4 + j, codes.word[j]);
        }
    }
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::Q5_K, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    turn_k_groups(rows, to);
    const Words one = repeat_byte(16);
    for (std::size_t q = 0; q < 2; ++q) {
        const TurnedBytes fifth = rows.turned(16 + 16 * q);
        for_constants<4>([&]<std::size_t P>() MOE_INLINE_CALL {
            const TurnedBytes lower = rows.turned(48 + 32 * P + 16 * q);
            MOE_UNROLL
            for (std::size_t j = 0; j < 4; ++j) {
                const Words bits = P < 2                ? fifth.word[j] << static_cast<int>(P < 2 ? 4 - 2 * P : 0)
                                   : moved_down < P < 2 ? 0
                                                        : 2 * P - 4 > (fifth.word[j]);
                to.codes(2 * P, 4 * q + j, arch::low_nibbles(lower.word[j]) | (bits & one));
                to.codes(2 * P + 1, 4 * q + j, arch::high_nibbles(lower.word[j]) | (moved_down<1>(bits) & one));
            }
        });
    }
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::Q6_K, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    to.copy_factor(0, rows.from(208));
    const TurnedBytes scales = rows.turned(192);
    MOE_UNROLL
    for (std::size_t i = 0; i < 4; ++i) {
        to.scales(i, scales.word[i]);
    }
    const Words two = repeat_byte(0x30);
    for (std::size_t part = 0; part < 4; ++part) {  // 16 inputs of each group of a half
        const std::size_t half = part / 2;
        const std::size_t q = part % 2;
        const TurnedBytes upper = rows.turned(128 + 32 * half + 16 * q);
        const TurnedBytes first = rows.turned(64 * half + 16 * q);
        const TurnedBytes second = rows.turned(64 * half + 32 + 16 * q);
        MOE_UNROLL
        for (std::size_t j = 0; j < 4; ++j) {
            const Words& u = upper.word[j];
            const std::size_t g = 4 * half;
            to.codes(g, 4 * q + j, arch::low_nibbles(first.word[j]) | ((u << 4) & two));
            to.codes(g + 1, 4 * q + j, arch::low_nibbles(second.word[j]) | ((u << 2) & two));
            to.codes(g + 2, 4 * q + j, arch::high_nibbles(first.word[j]) | (u & two));
            to.codes(g + 3, 4 * q + j, arch::high_nibbles(second.word[j]) | (moved_down<2>(u) & two));
        }
    }
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::IQ4_XS, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    const TurnedBytes head = rows.turned(0);
    to.factor(0, head.word[0]);
    for_constants<2>([&]<std::size_t Half>() MOE_INLINE_CALL {
        Words scales(0);
        for_constants<4>([&]<std::size_t I>() MOE_INLINE_CALL {
            constexpr std::size_t group = 4 * Half + I;
            const Words low = moved_down<4 * group>(head.word[1]) & Words(15);
            const Words upper = moved_down<16 + 2 * group>(head.word[0]) & Words(3);
            scales = scales | ((low | (upper << 4)) << static_cast<int>(8 * I));
        });
        to.scales(Half, less_32(scales));
    });
    for (std::size_t g = 0; g < 8; ++g) {
        to.nibbles(g, rows.turned(8 + 16 * g));
    }
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::Q2_K, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    to.copy_factor(0, rows.from(80));
    to.copy_factor(1, rows.from(82));
    const TurnedBytes groups = rows.turned(0);
    MOE_UNROLL
    for (std::size_t i = 0; i < 4; ++i) {
        to.scales(i, arch::low_nibbles(groups.word[i]));
        to.minima(i, arch::high_nibbles(groups.word[i]));
    }
    for (std::size_t q = 0; q < 4; ++q) {  // 16 inputs of each group of a half
        const TurnedBytes codes = rows.turned(16 + 16 * q);
        for_constants<4>([&]<std::size_t I>() MOE_INLINE_CALL {
            MOE_UNROLL
            for (std::size_t j = 0; j < 4; ++j) {
                to.codes(q / 2 * 4 + I, q % 2 * 4 + j, moved_down<2 * I>(codes.word[j]) & repeat_byte(3));
            }
        });
    }
}
template <PanelKind kind>
MOE_ALWAYS_INLINE void turn_block(blocks::Q3_K, const TurnedRows& rows, const PanelColumns<kind>& to) noexcept {
    to.copy_factor(0, rows.from(108));
    // the last bytes of the codes, then the scales: from there on a block would end too soon
    const TurnedBytes tail = rows.turned(92);
    for_constants<4>([&]<std::size_t Q>() MOE_INLINE_CALL {
        const Words& lower = tail.word[1 + Q % 2];
        const Words upper = moved_down<2 * Q>(tail.word[3]) & repeat_byte(3);
        to.scales(Q, less_32((Q < 2 ? arch::low_nibbles(lower) : arch::high_nibbles(lower)) | (upper << 4)));
    });
    for_constants<4>([&]<std::size_t Q>() MOE_INLINE_CALL {  // 16 inputs of each group of a half
        constexpr std::size_t half = Q / 2;
        constexpr std::size_t q = Q % 2;
        const TurnedBytes third = rows.turned(16 * q);
        const TurnedBytes codes = rows.turned(32 + 16 * Q);
        for_constants<4>([&]<std::size_t I>() MOE_INLINE_CALL {
            MOE_UNROLL
            for (std::size_t j = 0; j < 4; ++j) {
                const Words upper = moved_down<4 * half + I>(third.word[j]) & repeat_byte(1);
                to.codes(4 * half + I, 4 * q + j, (moved_down<2 * I>(codes.word[j]) & repeat_byte(3)) | (upper << 2));
            }
        });
    });
}

}  // namespace detail
}  // namespace moe::inline MOE_ABI
