#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <span>
#include <type_traits>

#include "../core/index.hpp"
#include "../core/workspace.hpp"
#include "arch/matrix_unit.hpp"
#include "block_prefetch.hpp"
#include "tile.hpp"

namespace moe::inline MOE_ABI {

/// Rows of one task: enough that a panel is reused many times, few enough that their sums stay in the second-level
/// cache.
inline constexpr std::size_t max_task_rows = 192;

/// Panels multiplied together: for each block of k, the rows' values are fetched from far memory for the first panel
/// and found in the first caches by the others. Their sums, 48 KB a panel at most, share the second level.
inline constexpr std::size_t max_task_panels = 8;

/// Rows that multiply several panels of floats side by side (multiply_tiles); tried with four to six, 8 % slower.
inline constexpr std::size_t few_rows = 3;

/// Rows up to which 16-bit weights are converted, and 4-bit codes expanded, in registers, for each tile anew; for more
/// it is done once a block, in scratch, and meanwhile nothing is asked of memory. With 8 rows registers are 16 % faster
/// (int4: 10 %), with 32 rows 5 % slower.
inline constexpr std::size_t max_register_rows = 4 * Panel<float>::tile_rows;

/// Panels of a task when there are `n_panels` to multiply in all: few where that would leave a worker without enough
/// tasks to end with the others. Where experts have few rows each, whole groups of panels that go side by side.
[[nodiscard]] constexpr std::size_t panels_per_task(std::size_t n_panels, std::size_t n_workers,
                                                    std::size_t rows) noexcept {
    const bool few = rows <= few_rows;
    const std::size_t tasks_per_worker = few ? 8 : 32;
    const std::size_t even = std::clamp<std::size_t>(n_panels / (n_workers * tasks_per_worker), 1, max_task_panels);
    return few ? std::bit_floor(even) : even;
}

/// Rows of activations, one pointer each: to values of the compute type, or to the bytes of a quantised row.
using RowPointers = std::span<const std::byte* const>;

/// Scratch of one worker.
template <class T>
struct PanelScratch {
    std::span<T> block;                ///< (Panel<T>::depth, Panel<T>::width): a block gathered, converted or expanded
    std::span<T> sums;                 ///< (max_task_panels, n_rows <= max_task_rows, Panel<T>::width)
    std::span<const std::byte*> rows;  ///< (max_task_rows)
    std::span<std::byte> split;        ///< rows copied together for the matrix unit, whole or split

    /// Values of k of which rows of bfloat16 are copied together for the matrix unit: 0.4 MB of max_task_rows of them,
    /// in a second-level cache of 2 MB.
    static constexpr std::size_t unit_depth = 1024;

    /// Bytes of `rows` rows for the matrix unit: a block as three bfloat16 a value, or unit_depth as one each, in
    /// strides that are no multiple of a page.
    [[nodiscard]] static constexpr std::size_t split_bytes(std::size_t rows) noexcept {
        return arch::MatrixUnit::present && std::is_same_v<T, float>
                   ? rows * (std::max)(Panel<T>::depth * 3 * sizeof(bfloat16),
                                       unit_depth * sizeof(bfloat16) + Prefetch::line)
                   : 0;
    }

    [[nodiscard]] static PanelScratch take(Arena& arena) {
        return {arena.take<T>(Panel<T>::depth * Panel<T>::width),
                arena.take<T>(max_task_panels * max_task_rows * Panel<T>::width),
                arena.take<const std::byte*>(max_task_rows), arena.take<std::byte>(split_bytes(max_task_rows))};
    }

    /// The sums of panel `i` of a product of `n_rows` rows: (n_rows, Panel<T>::width).
    [[nodiscard]] T* sums_of(std::size_t i, std::size_t n_rows) const noexcept {
        return sums.data() + i * n_rows * Panel<T>::width;
    }
};

/// `count` neighbouring packed panels, `stride` bytes from one to the next.
struct PackedPanels {
    const std::byte* first;
    std::size_t count;
    std::size_t stride;

    [[nodiscard]] const std::byte* operator[](std::size_t i) const noexcept { return first + i * stride; }
};

namespace detail {

[[nodiscard]] constexpr std::size_t n_tiles(std::size_t n_rows) noexcept {
    return divide_up(n_rows, Panel<float>::tile_rows);
}

/// Calls tile(first_row, n_rows, index) for rows cut into tiles of almost equal height: 64 rows are tiles of 5 and 6,
/// not ten of 6 and one of 4.
template <class Tile>
MOE_ALWAYS_INLINE void for_each_tile(std::size_t n_rows, Tile&& tile) {
    const std::size_t tiles = n_tiles(n_rows);
    const std::size_t height = n_rows / tiles;
    const std::size_t higher = n_rows % tiles;
    for (std::size_t i = 0, first = 0; i < tiles; ++i) {
        const std::size_t rows = height + (i < higher ? 1 : 0);
        tile(first, rows, i);
        first += rows;
    }
}

/// Asks for `bytes` bytes, from byte `first` on, of the rows of the tile behind row `r`. For the first panel of
/// several, whose rows come from far memory; without it 512 tokens are 5 % slower, 2048 10 %. Tried and no
/// faster: the same for integers; copying the rows of a block together once for all panels.
inline void prefetch_rows(RowPointers rows, std::size_t r, std::size_t first, std::size_t bytes) noexcept {
    const std::size_t end = (std::min)(rows.size(), r + Panel<float>::tile_rows);
    for (; r < end; ++r) {
        for (std::size_t at = 0; at < bytes; at += Prefetch::line) {
            prefetch_part<Prefetch::line, 1>(rows[r] + first + at, 0);
        }
    }
}

/// The tiles of one block of float weights, from input `first` on, into `sums`. `fresh`: no panel has read these values
/// of the rows before.
template <class W, class Ahead>
void multiply_block(RowPointers rows, std::size_t first, const W* weights, std::size_t depth, ComputeType<W>* sums,
                    const Ahead& prefetch, bool fresh) {
    using T = ComputeType<W>;
    for_each_tile(rows.size(), [&](std::size_t r, std::size_t count, std::size_t index) {
        if (fresh) {
            prefetch_rows(rows, r + count, first * sizeof(T), depth * sizeof(T));
        }
        std::array<const T*, Panel<T>::tile_rows> at{};
        for (std::size_t i = 0; i < count; ++i) {
            at[i] = reinterpret_cast<const T*>(rows[r + i]) + first;
        }
        multiply_tile(count, at.data(), weights, depth, sums + r * Panel<T>::width, first != 0, prefetch.tile(index));
    });
}

/// Calls block(i, b, at, next) for block b of panel i, a block of each panel before the next of any: `at` is the
/// block's first byte and `next` that of the one after it.
template <class Block>
void for_each_block(const PackedPanels& panels, std::size_t n_blocks, std::size_t block_bytes, Block&& block) {
    for (std::size_t b = 0; b < n_blocks; ++b) {
        for (std::size_t i = 0; i < panels.count; ++i) {
            const bool last = i + 1 == panels.count;
            const std::byte* const next = last && b + 1 < n_blocks ? panels[0] + (b + 1) * block_bytes
                                                                   : panels[i + 1] + (last ? 0 : b) * block_bytes;
            block(i, b, panels[i] + b * block_bytes, next);
        }
    }
}

/// Panels [first, first + Panels) from front to back, side by side.
template <std::size_t Rows, std::size_t Panels, class W>
void multiply_side_by_side(RowPointers rows, std::size_t k, const PackedPanels& panels, std::size_t first,
                           const PanelScratch<ComputeType<W>>& scratch) {
    using T = ComputeType<W>;
    for (std::size_t at = 0; at < k; at += Panel<T>::depth) {
        std::array<const T*, Rows> row;
        std::array<const W*, Panels> panel;
        for (std::size_t r = 0; r < Rows; ++r) {
            row[r] = reinterpret_cast<const T*>(rows[r]) + at;
        }
        for (std::size_t p = 0; p < Panels; ++p) {
            panel[p] = reinterpret_cast<const W*>(panels[first + p]) + at * Panel<T>::width;
        }
        multiply_tiles<Rows, Panels>(row.data(), panel.data(), (std::min)(Panel<T>::depth, k - at),
                                     scratch.sums_of(first, Rows), Rows * Panel<T>::width, at != 0);
    }
}

/// One row times all panels, four of which take turns every few values of k: memory gives several streams faster than
/// one, and between turns the sums of a panel are in the first cache. A token reaches 0.89 to 0.94 of what reading
/// alone does on AVX2, one panel after the other 0.79 to 0.86.
template <class W>
void multiply_row_in_turns(RowPointers rows, std::size_t k, const PackedPanels& panels,
                           const PanelScratch<ComputeType<W>>& scratch) {
    using T = ComputeType<W>;
    constexpr std::size_t most = 4;
    constexpr std::size_t step = 16;
    constexpr std::size_t width = Panel<T>::width;
    const T* const x = reinterpret_cast<const T*>(rows[0]);
    std::array<std::array<T, width>, most> sums;
    for (std::size_t first = 0; first < panels.count; first += most) {
        const std::size_t count = (std::min)(most, panels.count - first);
        for (std::size_t block = 0; block < k; block += Panel<T>::depth) {
            const std::size_t end = (std::min)(block + Panel<T>::depth, k);
            for (std::size_t at = block; at < end; at += step) {
                for (std::size_t p = 0; p < count; ++p) {
                    const auto weights = [&](std::size_t i) {
                        return reinterpret_cast<const W*>(panels[first + i]) + at * width;
                    };
                    multiply_row_step(x + at, weights(p), weights((p + count / 2) % count), (std::min)(step, end - at),
                                      sums[p].data(), at != block);
                }
            }
            for (std::size_t p = 0; p < count; ++p) {
                T* const target = scratch.sums_of(first + p, 1);
                for (std::size_t c = 0; c < width; c += lanes<T>) {
                    const Vector<T> sum = load(sums[p].data() + c);
                    store(target + c, block != 0 ? Vector<T>(load(target + c) + sum) : sum);
                }
            }
        }
    }
}

/// All panels, as many side by side as the registers allow.
template <std::size_t Rows, class W>
void multiply_few_rows(RowPointers rows, std::size_t k, const PackedPanels& panels,
                       const PanelScratch<ComputeType<W>>& scratch) {
    constexpr std::size_t most = side_panels<ComputeType<W>>(Rows);
    std::size_t first = 0;
    for (; first + most <= panels.count; first += most) {
        multiply_side_by_side<Rows, most, W>(rows, k, panels, first, scratch);
    }
    if constexpr (most > 2) {
        for (; first + 2 <= panels.count; first += 2) {
            multiply_side_by_side<Rows, 2, W>(rows, k, panels, first, scratch);
        }
    }
    for (; first < panels.count; ++first) {
        multiply_side_by_side<Rows, 1, W>(rows, k, panels, first, scratch);
    }
}

}  // namespace detail

/// scratch.sums (n_panels, n_rows, width) = rows (n_rows, k) * panels (k, width), with packed panels of float, double
/// or 16-bit weights. 16-bit weights are converted in registers for a few tiles and once into scratch for more.
template <class W>
void multiply_packed(RowPointers rows, std::size_t k, const PackedPanels& panels,
                     const PanelScratch<ComputeType<W>>& scratch) {
    using T = ComputeType<W>;
    constexpr std::size_t block_bytes = Panel<T>::depth * Panel<T>::width * sizeof(W);
    const bool in_registers = std::is_same_v<W, T> || (loads_converted<W> && rows.size() <= max_register_rows);
    if (in_registers) {
        switch (rows.size()) {
            case 1:
                if constexpr (side_panels<T>(1) == 1 && tile_vectors<T>(1) == Panel<T>::vectors) {
                    return detail::multiply_row_in_turns<W>(rows, k, panels, scratch);
                }
                return detail::multiply_few_rows<1, W>(rows, k, panels, scratch);
            case 2: return detail::multiply_few_rows<2, W>(rows, k, panels, scratch);
            case 3: return detail::multiply_few_rows<3, W>(rows, k, panels, scratch);
            default: break;
        }
    }
    const detail::BlockPrefetch prefetch(block_bytes, detail::n_tiles(rows.size()),
                                         Panel<T>::depth / Prefetch::interval);
    detail::for_each_block(
        panels, divide_up(k, Panel<T>::depth), block_bytes,
        [&](std::size_t i, std::size_t b, const std::byte* at, const std::byte* next) {
            const std::size_t first = b * Panel<T>::depth;
            const std::size_t depth = (std::min)(Panel<T>::depth, k - first);
            const W* const weights = reinterpret_cast<const W*>(at);
            T* const sums = scratch.sums_of(i, rows.size());
            if (in_registers) {
                detail::multiply_block<W>(rows, first, weights, depth, sums, prefetch.from(next), i == 0);
            } else {
                convert_run(weights, depth * Panel<T>::width, scratch.block.data());
                detail::multiply_block<T>(rows, first, scratch.block.data(), depth, sums, prefetch.from(next), i == 0);
            }
        });
}

}  // namespace moe::inline MOE_ABI
