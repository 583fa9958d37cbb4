#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>

#include "split_rows.hpp"

#if MOE_MATRIX_UNIT

namespace moe::inline MOE_ABI {

namespace detail {

/// Rows that are multiplied with vectors, which wait for memory better than the unit does.
inline constexpr std::size_t few_split_rows = 2;

/// The weights of a block, to be put with pairs of k side by side: element (k, column) at (k / 2 * 64 + column) * 2 +
/// k % 2, zero up to whole steps.
struct PairedWeights {
    const bfloat16* from = nullptr;  ///< (depth, 64); null: no block
    std::size_t depth = 0;
    std::byte* to = nullptr;

    /// Values [32 s, 32 s + 32) of k.
    MOE_ALWAYS_INLINE void step(std::size_t s) const noexcept {
        constexpr std::size_t width = Panel<float>::width;
        // words 0, 32, 1, 33, ...: columns of one value of k and of the next
        const __m512i lower = _mm512_add_epi32(_mm512_mullo_epi32(lane_numbers(), _mm512_set1_epi32(0x00010001)),
                                               _mm512_set1_epi32(0x00200000));
        const __m512i upper = _mm512_add_epi32(lower, _mm512_set1_epi32(0x00100010));
        std::byte* target = to + s * SplitBlock::weight_step;
        for (std::size_t k = s * arch::MatrixUnit::depth; k < (s + 1) * arch::MatrixUnit::depth;
             k += 2, target += arch::MatrixUnit::pair_bytes) {
            MOE_UNROLL
            for (std::size_t half = 0; half < 2; ++half) {
                const bfloat16* const row = from + k * width + half * 32;
                const __m512i even = k < depth ? _mm512_loadu_si512(row) : _mm512_setzero_si512();
                const __m512i odd = k + 1 < depth ? _mm512_loadu_si512(row + width) : _mm512_setzero_si512();
                _mm512_storeu_si512(target + half * 128, _mm512_permutex2var_epi16(even, lower, odd));
                _mm512_storeu_si512(target + half * 128 + 64, _mm512_permutex2var_epi16(even, upper, odd));
            }
        }
    }
};

/// What a tile does between its steps: steps [step, end) of the next block's pairs, and requests for the block behind
/// that.
struct NextBlock {
    PairedWeights weights;
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

/// sums (count, 64) = or += a tile of rows times the weights of a block.
MOE_NOINLINE inline void multiply_split_tile(const std::byte* rows, const std::byte* weights, std::size_t steps,
                                             std::size_t count, float* sums, bool add, NextBlock next) noexcept {
    constexpr std::size_t width = Panel<float>::width;
    alignas(64) std::array<float, arch::MatrixUnit::rows * width> block;
    std::atomic_signal_fence(std::memory_order_seq_cst);  // tiles are read by instructions the compiler cannot follow
    arch::MatrixUnit::clear();
    for (std::size_t s = 0; s < steps; ++s) {
        arch::MatrixUnit::multiply(rows + s * SplitBlock::row_step, weights + s * SplitBlock::weight_step,
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

/// Adds to c (64) what MatrixUnit::multiply adds to a row of its sums, with the same bits: each product of tiles is two
/// chains of fused multiply-adds, over the even and the odd values of k, that start from zero, and their sum is added
/// (Intel's manual, TDPBF16PS). `x` holds `depth` <= 32 values in three parts `stride` apart. Requests 2 KB ahead, as
/// multiply_tiles.
MOE_NOINLINE inline void multiply_split_step(const float* x, std::size_t stride, const bfloat16* weights,
                                             std::size_t depth, float* c) noexcept {
    constexpr std::size_t parts = SplitBlock::parts;
    constexpr std::size_t vectors = Panel<float>::vectors;
    constexpr std::size_t row_bytes = Panel<float>::width * sizeof(bfloat16);
    constexpr std::size_t ahead = 2048;
    __m512 sum[2][parts][vectors];
    MOE_UNROLL
    for (std::size_t i = 0; i < 2 * parts; ++i) {
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; ++v) {
            sum[i / parts][i % parts][v] = _mm512_setzero_ps();
        }
    }
    for (std::size_t first = 0; first < depth; first += 2) {
        MOE_UNROLL
        for (std::size_t odd = 0; odd < 2; ++odd) {
            const std::size_t k = first + odd;
            if (k == depth) {
                break;
            }
            const bfloat16* const row = weights + k * Panel<float>::width;
            MOE_UNROLL
            for (std::size_t v = 0; v < vectors; ++v) {
                prefetch_part<row_bytes, vectors>(reinterpret_cast<const std::byte*>(row) + ahead, v);
                const __m512 weight = arch::load_floats(row + v * lanes<float>);
                MOE_UNROLL
                for (std::size_t part = 0; part < parts; ++part) {
                    sum[odd][part][v] =
                        _mm512_fmadd_ps(_mm512_set1_ps(x[part * stride + k]), weight, sum[odd][part][v]);
                }
            }
        }
    }
    MOE_UNROLL
    for (std::size_t v = 0; v < vectors; ++v) {
        __m512 value = _mm512_loadu_ps(c + v * lanes<float>);
        MOE_UNROLL
        for (std::size_t i = 0; i < parts; ++i) {
            const std::size_t part = SplitBlock::part_order(v, i);
            value = _mm512_add_ps(value, _mm512_add_ps(sum[0][part][v], sum[1][part][v]));
        }
        _mm512_storeu_ps(c + v * lanes<float>, value);
    }
}

/// The product of a few rows without the unit, step by step of up to four panels side by side (see multiply_tiles).
inline void multiply_split_few(RowPointers rows, std::size_t k, const PackedPanels& panels,
                               const PanelScratch<float>& scratch) {
    using Block = SplitBlock;
    constexpr std::size_t most = 4;
    constexpr std::size_t width = Panel<float>::width;
    constexpr std::size_t step = arch::MatrixUnit::depth;
    std::array<float, few_split_rows * Block::parts * Block::depth> x;
    std::array<float, most * few_split_rows * width> sums;
    for (std::size_t first = 0; first < k; first += Block::depth) {
        const std::size_t depth = (std::min)(Block::depth, k - first);
        for (std::size_t r = 0; r < rows.size(); ++r) {
            split_values(reinterpret_cast<const float*>(rows[r]) + first, depth, &x[r * Block::parts * Block::depth]);
        }
        for (std::size_t p0 = 0; p0 < panels.count; p0 += most) {
            const std::size_t count = (std::min)(most, panels.count - p0);
            sums.fill(0.0F);
            for (std::size_t at = 0; at < depth; at += step) {
                for (std::size_t p = 0; p < count; ++p) {
                    const auto* const weights =
                        reinterpret_cast<const bfloat16*>(panels[p0 + p]) + (first + at) * width;
                    for (std::size_t r = 0; r < rows.size(); ++r) {
                        multiply_split_step(&x[r * Block::parts * Block::depth + at], Block::depth, weights,
                                            (std::min)(step, depth - at), &sums[(p * rows.size() + r) * width]);
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

}  // namespace detail

/// The product of multiply_packed<bfloat16> on the matrix unit. Each activation is the sum of three bfloat16, so that
/// all products are exact; they are summed in float32 over blocks of Panel<float>::depth values of k, which are added
/// in order of k. Rows of a tile do not meet, and any number of rows takes this way: the bits of a row do not depend on
/// the others. Numbers below 2^-126 count as zero.
///
/// From the cache 2 to 3 times as fast as multiply_packed, from 8 rows on. The unit and memory do not work at once as
/// well as multiply-adds and memory do: up to some 16 rows an expert it is slower. Tried: making pairs and requesting
/// lines 2 KB ahead between the products of tiles (12 to 26 % slower); requests in bursts between steps (15 %); blocks
/// of 256 values of k (13 %).
inline void multiply_split(RowPointers rows, std::size_t k, const PackedPanels& panels,
                           const PanelScratch<float>& scratch) {
    using Block = detail::SplitBlock;
    using Unit = arch::MatrixUnit;
    if (rows.empty()) {
        return;
    }
    const arch::FlushDenormals flush;  // as the unit does
    if (rows.size() <= detail::few_split_rows) {
        return detail::multiply_split_few(rows, k, panels, scratch);
    }
    const std::size_t height = divide_up(rows.size(), divide_up(rows.size(), Unit::rows));
    const std::size_t n_tiles = divide_up(rows.size(), height);
    const Unit::Session session(height);
    constexpr std::size_t block_bytes = Block::depth * Panel<float>::width * sizeof(bfloat16);
    constexpr std::size_t steps = Block::depth / Unit::depth;
    const std::size_t n_blocks = divide_up(k, Block::depth) * panels.count;  // a block of each panel, then the next
    static_assert(2 * Block::weight_bytes <= Block::depth * Panel<float>::width * sizeof(float));
    const auto block = [&](std::size_t j) -> detail::PairedWeights {
        if (j >= n_blocks) {
            return {};
        }
        const std::size_t b = j / panels.count;
        return {reinterpret_cast<const bfloat16*>(panels[j % panels.count] + b * block_bytes),
                (std::min)(Block::depth, k - b * Block::depth),
                reinterpret_cast<std::byte*>(scratch.block.data()) + j % 2 * Block::weight_bytes};
    };
    const detail::BlockPrefetch prefetch(block_bytes, n_tiles, steps * Unit::products);
    detail::PairedWeights weights = block(0);
    for (std::size_t s = 0; s < (n_blocks > 0 ? steps : 0); ++s) {
        weights.step(s);
    }
    for (std::size_t j = 0; j < n_blocks; ++j) {
        const std::size_t first = j / panels.count * Block::depth;
        if (j % panels.count == 0) {
            detail::split_rows(rows, height, first, weights.depth, scratch.split.data());
        }
        const detail::PairedWeights next = block(j + 1);
        const std::size_t next_steps = next.from == nullptr ? 0 : steps;
        const detail::PairedWeights behind = block(j + 2);
        const std::byte* const beyond = behind.from == nullptr ? panels[panels.count + j + 2 - n_blocks]
                                                               : reinterpret_cast<const std::byte*>(behind.from);
        for (std::size_t t = 0; t < n_tiles; ++t) {
            const std::size_t r = t * height;
            float* const sums = scratch.sums_of(j % panels.count, rows.size()) + r * Panel<float>::width;
            detail::multiply_split_tile(
                scratch.split.data() + t * Block::rows_bytes, weights.to, divide_up(weights.depth, Unit::depth),
                (std::min)(height, rows.size() - r), sums, first != 0,
                {next, next_steps * t / n_tiles, next_steps * (t + 1) / n_tiles, prefetch.from(beyond).tile(t)});
        }
        weights = next;
    }
}

}  // namespace moe::inline MOE_ABI

#endif
