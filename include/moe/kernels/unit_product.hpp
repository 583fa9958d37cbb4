#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>

#include "unit_block.hpp"

#if MOE_MATRIX_UNIT

namespace moe::inline MOE_ABI {

namespace detail {

/// Rows that are multiplied with vectors, which wait for memory better than the unit does.
inline constexpr std::size_t few_unit_rows = 2;

/// The weights of a block, to be made pairs.
struct UnitWeights {
    const std::byte* panel = nullptr;  ///< null: no block
    std::size_t group = 0;             ///< its first
    std::size_t depth = 0;
    std::byte* to = nullptr;

    /// Values [32 s, 32 s + 32) of k.
    MOE_NOINLINE void step(std::size_t s) const noexcept {
        const std::size_t first = s * pair_group;
        std::byte* const target = to + s * pair_group_bytes;
        if (first < depth) {
            WeightPairs<bfloat16>(panel, group + s, (std::min)(pair_group, depth - first)).store(target);
        } else {
            std::fill_n(target, pair_group_bytes, std::byte{0});
        }
    }
};

/// What a tile does between its steps: steps [step, end) of the next block's pairs, and requests for the block behind
/// that.
struct NextBlock {
    UnitWeights weights;
    std::size_t step;
    std::size_t end;
    Prefetch ahead;
};

/// `count` sums = or += those of a block. Not inlined: compilers do not know that FlushDenormals concerns it.
MOE_NOINLINE inline void add_block(const float* block_sums, std::size_t count, float* sums, bool add) noexcept {
    for (std::size_t i = 0; i < count; i += lanes<float>) {
        const Vector<float> sum = load(block_sums + i);
        store(sums + i, add ? Vector<float>(load(sums + i) + sum) : sum);
    }
}

/// Values [first, first + depth) of all rows, `height` to a tile; rows that a tile lacks are zero.
template <class Rows>
void put_unit_rows(RowPointers rows, std::size_t height, std::size_t first, std::size_t depth,
                   std::byte* target) noexcept {
    using Block = UnitBlock<Rows::parts>;
    for (std::size_t r = 0; r < round_up(rows.size(), height); ++r) {
        std::byte* const row = target + r / height * Block::rows_bytes + r % height * arch::MatrixUnit::row_bytes;
        if (r < rows.size()) {
            Rows::put_tiles(rows[r], first, depth, row);
        } else {
            for (std::size_t i = 0; i < Block::rows_bytes; i += Block::tile) {
                std::fill_n(row + i, arch::MatrixUnit::row_bytes, std::byte{0});
            }
        }
    }
}

/// sums (count, 64) = or += a tile of rows times the weights of a block.
template <class Rows>
MOE_NOINLINE void multiply_unit_tile(const std::byte* rows, const std::byte* weights, std::size_t steps,
                                     std::size_t count, float* sums, bool add, NextBlock next) noexcept {
    constexpr std::size_t width = Panel<float>::width;
    alignas(64) std::array<float, arch::MatrixUnit::rows * width> block;
    std::atomic_signal_fence(std::memory_order_seq_cst);  // tiles are read by instructions the compiler cannot follow
    arch::MatrixUnit::clear();
    for (std::size_t s = 0; s < steps; ++s) {
        Rows::multiply(rows + s * UnitBlock<Rows::parts>::row_step, weights + s * pair_group_bytes,
                       [&] { next.ahead.step(); });
        if (next.step < next.end) {
            next.weights.step(next.step++);
        }
    }
    for (; next.step < next.end; ++next.step) {
        next.weights.step(next.step);
    }
    arch::MatrixUnit::store(block.data());
    std::atomic_signal_fence(std::memory_order_seq_cst);
    add_block(block.data(), count * width, sums, add);
}

/// Adds to c (64) what Rows::multiply adds to a row of the unit's sums, with the same bits: each product of tiles is
/// two chains of fused multiply-adds, over the even and the odd values of k, that start from zero, and their sum is
/// added (Intel's manual, TDPBF16PS). `x` holds 32 values in parts `stride` apart, zero where there is no weight.
/// Requests 2 KB ahead, as multiply_tiles.
template <class Rows>
MOE_NOINLINE void multiply_unit_step(const float* x, std::size_t stride, const std::byte* panel, std::size_t group,
                                     std::size_t valid, float* c) noexcept {
    constexpr std::size_t parts = Rows::parts;
    constexpr std::size_t vectors = Panel<float>::vectors;
    constexpr std::size_t lines =
        (WeightPairs<bfloat16>::group_at(1) - WeightPairs<bfloat16>::group_at(0)) / Prefetch::line;
    const std::byte* const codes = panel + WeightPairs<bfloat16>::group_at(group);
    constexpr std::size_t ahead = 2048;
    const __m512i upper_half = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
    __m512 sum[2][parts][vectors];
    MOE_UNROLL
    for (std::size_t i = 0; i < 2 * parts; ++i) {
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; ++v) {
            sum[i / parts][i % parts][v] = _mm512_setzero_ps();
        }
    }
    const WeightPairs<bfloat16> weights(panel, group, valid);
    for (std::size_t k = 0; k < round_up(valid, std::size_t{2}); k += 2) {
        for (std::size_t line = k * lines / pair_group; line < (k + 2) * lines / pair_group; ++line) {
            prefetch_part<Prefetch::line, 1>(codes + ahead + line * Prefetch::line, 0);
        }
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; v += 2) {
            __m512i pair[2];
            weights.get(k, v / 2, pair);
            MOE_UNROLL
            for (std::size_t i = 0; i < 2; ++i) {
                const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(pair[i], 16));
                const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(pair[i], upper_half));
                MOE_UNROLL
                for (std::size_t part = 0; part < parts; ++part) {
                    const float* const values = x + part * stride + k;
                    sum[0][part][v + i] = _mm512_fmadd_ps(_mm512_set1_ps(values[0]), even, sum[0][part][v + i]);
                    sum[1][part][v + i] = _mm512_fmadd_ps(_mm512_set1_ps(values[1]), odd, sum[1][part][v + i]);
                }
            }
        }
    }
    MOE_UNROLL
    for (std::size_t v = 0; v < vectors; ++v) {
        __m512 value = _mm512_loadu_ps(c + v * lanes<float>);
        MOE_UNROLL
        for (std::size_t i = 0; i < parts; ++i) {
            const std::size_t part = Rows::part_order(v, i);
            value = _mm512_add_ps(value, _mm512_add_ps(sum[0][part][v], sum[1][part][v]));
        }
        _mm512_storeu_ps(c + v * lanes<float>, value);
    }
}

/// The product of a few rows without the unit, step by step of up to four panels side by side (see multiply_tiles).
template <class Rows>
void multiply_unit_few(RowPointers rows, std::size_t k, const PackedPanels& panels,
                       const PanelScratch<float>& scratch) {
    using Block = UnitBlock<Rows::parts>;
    constexpr std::size_t most = 4;
    constexpr std::size_t width = Panel<float>::width;
    constexpr std::size_t step = arch::MatrixUnit::depth;
    std::array<float, few_unit_rows * Rows::parts * Block::depth> x;
    std::array<float, most * few_unit_rows * width> sums;
    for (std::size_t first = 0; first < k; first += Block::depth) {
        const std::size_t depth = (std::min)(Block::depth, k - first);
        for (std::size_t r = 0; r < rows.size(); ++r) {
            Rows::put_values(rows[r], first, depth, &x[r * Rows::parts * Block::depth]);
        }
        for (std::size_t p0 = 0; p0 < panels.count; p0 += most) {
            const std::size_t count = (std::min)(most, panels.count - p0);
            sums.fill(0.0F);
            for (std::size_t at = 0; at < depth; at += step) {
                for (std::size_t p = 0; p < count; ++p) {
                    for (std::size_t r = 0; r < rows.size(); ++r) {
                        multiply_unit_step<Rows>(&x[r * Rows::parts * Block::depth + at], Block::depth, panels[p0 + p],
                                                 (first + at) / pair_group, (std::min)(step, depth - at),
                                                 &sums[(p * rows.size() + r) * width]);
                    }
                }
            }
            for (std::size_t p = 0; p < count; ++p) {
                add_block(&sums[p * rows.size() * width], rows.size() * width, scratch.sums_of(p0 + p, rows.size()),
                          first != 0);
            }
        }
    }
}

/// The product of rows and packed panels on the matrix unit, the same for any number of rows: summed in float32 over
/// blocks of Panel<float>::depth values of k, which are added in order of k. Rows of a tile do not meet, and any number
/// of rows takes this way: the bits of a row do not depend on the others. Numbers below 2^-126 count as zero.
template <class Rows>
void multiply_unit(RowPointers rows, std::size_t k, const PackedPanels& panels, const PanelScratch<float>& scratch) {
    using Block = UnitBlock<Rows::parts>;
    using Unit = arch::MatrixUnit;
    if (rows.empty()) {
        return;
    }
    const arch::FlushDenormals flush;  // as the unit does
    if (rows.size() <= few_unit_rows) {
        return multiply_unit_few<Rows>(rows, k, panels, scratch);
    }
    const std::size_t height = divide_up(rows.size(), divide_up(rows.size(), Unit::rows));
    const std::size_t n_tiles = divide_up(rows.size(), height);
    const Unit::Session session(height);
    constexpr std::size_t steps = Block::depth / Unit::depth;
    constexpr std::size_t block_bytes = WeightPairs<bfloat16>::group_at(steps) - WeightPairs<bfloat16>::group_at(0);
    const std::size_t n_blocks = divide_up(k, Block::depth) * panels.count;  // a block of each panel, then the next
    static_assert(2 * Block::weight_bytes <= Block::depth * Panel<float>::width * sizeof(float));
    const auto block = [&](std::size_t j) -> UnitWeights {
        if (j >= n_blocks) {
            return {};
        }
        const std::size_t b = j / panels.count;
        return {panels[j % panels.count], b * steps, (std::min)(Block::depth, k - b * Block::depth),
                reinterpret_cast<std::byte*>(scratch.block.data()) + j % 2 * Block::weight_bytes};
    };
    const BlockPrefetch prefetch(block_bytes, n_tiles, steps * Unit::products_of_three);
    UnitWeights weights = block(0);
    for (std::size_t s = 0; s < (n_blocks > 0 ? steps : 0); ++s) {
        weights.step(s);
    }
    for (std::size_t j = 0; j < n_blocks; ++j) {
        const std::size_t first = j / panels.count * Block::depth;
        if (j % panels.count == 0) {
            put_unit_rows<Rows>(rows, height, first, weights.depth, scratch.split.data());
        }
        const UnitWeights next = block(j + 1);
        const std::size_t next_steps = next.panel == nullptr ? 0 : steps;
        const UnitWeights behind = block(j + 2);
        const std::byte* const beyond = behind.panel == nullptr
                                            ? panels[panels.count + j + 2 - n_blocks]
                                            : behind.panel + WeightPairs<bfloat16>::group_at(behind.group);
        for (std::size_t t = 0; t < n_tiles; ++t) {
            const std::size_t r = t * height;
            float* const sums = scratch.sums_of(j % panels.count, rows.size()) + r * Panel<float>::width;
            multiply_unit_tile<Rows>(
                scratch.split.data() + t * Block::rows_bytes, weights.to, divide_up(weights.depth, Unit::depth),
                (std::min)(height, rows.size() - r), sums, first != 0,
                {next, next_steps * t / n_tiles, next_steps * (t + 1) / n_tiles, prefetch.from(beyond).tile(t)});
        }
        weights = next;
    }
}

}  // namespace detail

}  // namespace moe::inline MOE_ABI

#endif
