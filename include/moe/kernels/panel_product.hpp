#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <type_traits>

#include "../core/index.hpp"
#include "../core/workspace.hpp"
#include "quantized_tile.hpp"
#include "tile.hpp"

namespace moe::inline MOE_ABI {

/// Rows of one task: enough that a panel is reused many times, few enough that their sums stay in the second-level
/// cache.
inline constexpr std::size_t max_task_rows = 192;

/// Rows of activations, one pointer each: to values of the compute type, or to the bytes of a quantised row.
using RowPointers = std::span<const std::byte* const>;

/// Scratch of one worker.
template <class T>
struct PanelScratch {
    std::span<T> block;                ///< (Panel<T>::depth, Panel<T>::width): a block gathered, converted or expanded
    std::span<T> sums;                 ///< (max_task_rows, Panel<T>::width)
    std::span<const std::byte*> rows;  ///< (max_task_rows)

    static constexpr std::size_t block_size = Panel<T>::depth * Panel<T>::width;
    static constexpr std::size_t sums_size = max_task_rows * Panel<T>::width;

    [[nodiscard]] static PanelScratch take(Arena& arena) {
        return {arena.take<T>(block_size), arena.take<T>(sums_size), arena.take<const std::byte*>(max_task_rows)};
    }
};

namespace detail {

/// Calls tile(first_row, n_rows, index) for rows cut into tiles of almost equal height: 64 rows are tiles of 5 and 6,
/// not ten of 6 and one of 4.
template <class Tile>
MOE_ALWAYS_INLINE void for_each_tile(std::size_t n_rows, Tile&& tile) {
    const std::size_t n_tiles = divide_up(n_rows, Panel<float>::tile_rows);
    std::size_t first = 0;
    for (std::size_t i = 0; i < n_tiles; ++i) {
        const std::size_t end = n_rows * (i + 1) / n_tiles;
        tile(first, end - first, i);
        first = end;
    }
}

/// What tile `index` of `n_tiles` asks for while it works on a block: its share of the block that follows, spread over
/// `steps` steps of the kernel, in whole lines a step.
[[nodiscard]] inline Prefetch share_of(const std::byte* next, std::size_t bytes, std::size_t index, std::size_t n_tiles,
                                       std::size_t steps) noexcept {
    const std::size_t lines = divide_up(bytes, Prefetch::line);
    const std::size_t per_step = divide_up(lines, std::min<std::size_t>(n_tiles, 4) * steps);
    const std::size_t begin = index * per_step * steps;
    return begin < lines ? Prefetch{next + begin * Prefetch::line, per_step} : Prefetch{};
}

/// The tiles of one block of float weights.
template <class W>
void multiply_block(RowPointers rows, std::size_t first, const W* weights, std::size_t depth,
                    const PanelScratch<ComputeType<W>>& scratch, const std::byte* next, std::size_t next_bytes) {
    using T = ComputeType<W>;
    const std::size_t n_tiles = divide_up(rows.size(), Panel<T>::tile_rows);
    for_each_tile(rows.size(), [&](std::size_t r, std::size_t count, std::size_t index) {
        std::array<const T*, Panel<T>::tile_rows> at{};
        for (std::size_t i = 0; i < count; ++i) {
            at[i] = reinterpret_cast<const T*>(rows[r + i]) + first;
        }
        multiply_tile(count, at.data(), weights, depth, scratch.sums.data() + r * Panel<T>::width, first != 0,
                      share_of(next, next_bytes, index, n_tiles, Panel<T>::depth));
    });
}

}  // namespace detail

/// scratch.sums (n_rows, width) = rows (n_rows, k) * panel (k, width), with weights gathered block by block:
/// `gather(first, depth, buffer)` fills (depth, width).
template <class T, class Gather>
void multiply_gathered(RowPointers rows, std::size_t k, const PanelScratch<T>& scratch, Gather&& gather) {
    for (std::size_t first = 0; first < k; first += Panel<T>::depth) {
        const std::size_t depth = std::min(Panel<T>::depth, k - first);
        gather(first, depth, scratch.block.data());
        detail::multiply_block<T>(rows, first, scratch.block.data(), depth, scratch, nullptr, 0);
    }
}

/// The same with a packed panel of float, double or 16-bit weights. 16-bit weights are converted in registers for one
/// tile and once into scratch for more.
template <class W>
void multiply_packed(RowPointers rows, std::size_t k, const W* panel, const PanelScratch<ComputeType<W>>& scratch) {
    using T = ComputeType<W>;
    constexpr std::size_t block_bytes = Panel<T>::depth * Panel<T>::width * sizeof(W);
    for (std::size_t first = 0; first < k; first += Panel<T>::depth) {
        const std::size_t depth = std::min(Panel<T>::depth, k - first);
        const W* const weights = panel + first * Panel<T>::width;
        const auto* const next = reinterpret_cast<const std::byte*>(weights) + block_bytes;
        if constexpr (!std::is_same_v<W, T>) {
            if (!loads_converted<W> || rows.size() > Panel<T>::tile_rows) {
                convert_run(weights, depth * Panel<T>::width, scratch.block.data());
                detail::multiply_block<T>(rows, first, scratch.block.data(), depth, scratch, next, block_bytes);
                continue;
            }
        }
        detail::multiply_block<W>(rows, first, weights, depth, scratch, next, block_bytes);
    }
}

/// The same with a quantised panel, its weights as floats: float accuracy against the dequantised weights.
template <class Format>
void multiply_dequantized(RowPointers rows, std::size_t k, const std::byte* panel, const PanelScratch<float>& scratch) {
    constexpr std::size_t groups = Panel<float>::depth / quantization_group;
    constexpr std::size_t group_bytes = QuantizedPanel<Format>::group_bytes;
    for (std::size_t first = 0; first < k; first += Panel<float>::depth) {
        const std::size_t depth = std::min(Panel<float>::depth, k - first);
        const std::byte* const block = panel + first / quantization_group * group_bytes;
        for (std::size_t g = 0; g * quantization_group < depth; ++g) {
            decode_group<Format>(block + g * group_bytes,
                                 scratch.block.data() + g * quantization_group * Panel<float>::width);
        }
        detail::multiply_block<float>(rows, first, scratch.block.data(), depth, scratch, block + groups * group_bytes,
                                      groups * group_bytes);
    }
}

/// The same with quantised rows and integer dot products; see multiply_quantized_tile for the order of summation.
template <class Format>
void multiply_quantized(RowPointers rows, std::size_t k, const std::byte* panel, const PanelScratch<float>& scratch) {
    // 8 groups of 8-bit codes are 17 KB: they stay in the first level with the rows that stream past them
    constexpr std::size_t block_groups = Panel<float>::depth / 16;
    constexpr std::size_t steps = block_groups * (Format::zero_point == 8 ? 4 : 8);
    constexpr std::size_t group_bytes = QuantizedPanel<Format>::group_bytes;
    const QuantizedRows layout{k};
    const std::size_t n_tiles = divide_up(rows.size(), Panel<float>::tile_rows);
    for (std::size_t first = 0; first < layout.groups(); first += block_groups) {
        const std::size_t groups = std::min(block_groups, layout.groups() - first);
        const std::byte* const block = panel + first * group_bytes;
        const auto tiles = [&]<class C>(C, const std::byte* codes, std::size_t n_steps) {
            detail::for_each_tile(rows.size(), [&](std::size_t r, std::size_t count, std::size_t index) {
                multiply_quantized_tile<C>(count, rows.data() + r, layout, first, codes, groups,
                                           scratch.sums.data() + r * Panel<float>::width, first != 0,
                                           detail::share_of(block + block_groups * group_bytes,
                                                            block_groups * group_bytes, index, n_tiles, n_steps));
            });
        };
        if constexpr (Format::zero_point == 8) {
            if (n_tiles > 1) {
                auto* const expanded = reinterpret_cast<std::byte*>(scratch.block.data());
                static_assert(block_groups * QuantizedPanel<Int8>::group_bytes <=
                              PanelScratch<float>::block_size * sizeof(float));
                for (std::size_t g = 0; g < groups; ++g) {
                    detail::expand_codes(block + g * group_bytes, expanded + g * QuantizedPanel<Int8>::group_bytes);
                }
                tiles(Codes<Format, true>{}, expanded, 2 * steps);
                continue;
            }
        }
        tiles(Codes<Format>{}, block, steps);
    }
}

}  // namespace moe::inline MOE_ABI
