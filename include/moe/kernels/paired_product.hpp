#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "bfloat16_rows.hpp"
#include "panel_product.hpp"
#include "weight_pairs.hpp"

#if MOE_BFLOAT16_PRODUCTS

namespace moe::inline MOE_ABI {

namespace detail {

/// The pair of inputs k and k + 1 of a row in every lane.
[[nodiscard]] MOE_ALWAYS_INLINE __m512i broadcast_pair(const std::byte* row, std::size_t k) noexcept {
    std::int32_t pair;
    std::memcpy(&pair, row + k * sizeof(bfloat16), sizeof pair);
    return _mm512_set1_epi32(pair);
}

/// c (Rows, 64) = or += rows times `depth` inputs of pairs in scratch; depth even.
template <std::size_t Rows>
MOE_NOINLINE void multiply_pair_tile(const std::byte* const* rows, const std::byte* pairs, std::size_t depth, float* c,
                                     bool add, Prefetch ahead) noexcept {
    constexpr std::size_t vectors = Panel<float>::vectors;
    std::array<const std::byte*, Rows> row;
    __m512 sum[Rows][vectors];
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        row[r] = rows[r];
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; ++v) {
            sum[r][v] = _mm512_setzero_ps();
        }
    }
    for (std::size_t k = 0; k < depth; k += 2, pairs += Panel<float>::width * 4) {
        if (k % Prefetch::interval == 0) {
            ahead.step();
        }
        __m512i weight[vectors];
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; ++v) {
            weight[v] = _mm512_loadu_si512(pairs + v * 64);
        }
        MOE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
            const __m512i x = broadcast_pair(row[r], k);
            MOE_UNROLL
            for (std::size_t v = 0; v < vectors; ++v) {
                sum[r][v] = arch::add_pair_products(sum[r][v], x, weight[v]);
            }
        }
    }
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; ++v) {
            float* const target = c + r * Panel<float>::width + v * 16;
            _mm512_storeu_ps(target, add ? _mm512_add_ps(_mm512_loadu_ps(target), sum[r][v]) : sum[r][v]);
        }
    }
}

/// A block of `Panels` panels side by side for few rows, pairs made in registers: see multiply_tiles. Sums of a panel
/// stand `stride` values apart.
template <class F, std::size_t Rows, std::size_t Panels>
MOE_NOINLINE void multiply_paired_block(const std::byte* const* rows, const std::byte* const* panels, std::size_t depth,
                                        float* c, std::size_t stride, bool add) noexcept {
    constexpr std::size_t vectors = Panel<float>::vectors;
    constexpr std::size_t group_bytes = WeightPairs<F>::group_at(1) - WeightPairs<F>::group_at(0);
    constexpr std::size_t lines = group_bytes / Prefetch::line;
    constexpr std::size_t ahead = 2048;
    __m512 sum[Panels][Rows][vectors];
    MOE_UNROLL
    for (std::size_t i = 0; i < Panels * Rows * vectors; ++i) {
        sum[i / (Rows * vectors)][i / vectors % Rows][i % vectors] = _mm512_setzero_ps();
    }
    for (std::size_t first = 0; first < depth; first += pair_group) {
        const std::size_t valid = (std::min)(pair_group, depth - first);
        const std::size_t at = first / pair_group * group_bytes;
        for (std::size_t quad = 0; quad < pair_group; quad += 4) {
            MOE_UNROLL
            for (std::size_t p = 0; p < Panels; ++p) {
                const WeightPairs<F> weights(panels[p], first / pair_group, valid);
                const std::byte* const other = panels[(p + Panels / 2) % Panels] + at + ahead;
                for (std::size_t i = quad * lines / pair_group; i < (quad + 4) * lines / pair_group; ++i) {
                    prefetch_part<Prefetch::line, 1>(other + i * Prefetch::line, 0);
                }
                MOE_UNROLL
                for (std::size_t k = quad; k < quad + 4; k += 2) {
                    MOE_UNROLL
                    for (std::size_t half = 0; half < 2; ++half) {
                        __m512i weight[2];
                        weights.get(k, half, weight);
                        MOE_UNROLL
                        for (std::size_t r = 0; r < Rows; ++r) {
                            const __m512i x = broadcast_pair(rows[r], first + k);
                            MOE_UNROLL
                            for (std::size_t i = 0; i < 2; ++i) {
                                sum[p][r][2 * half + i] =
                                    arch::add_pair_products(sum[p][r][2 * half + i], x, weight[i]);
                            }
                        }
                    }
                }
            }
        }
    }
    MOE_UNROLL
    for (std::size_t i = 0; i < Panels * Rows * vectors; ++i) {
        const std::size_t p = i / (Rows * vectors);
        const std::size_t r = i / vectors % Rows;
        float* const target = c + p * stride + r * Panel<float>::width + i % vectors * 16;
        const __m512 value = sum[p][r][i % vectors];
        _mm512_storeu_ps(target, add ? _mm512_add_ps(_mm512_loadu_ps(target), value) : value);
    }
}

template <class F, std::size_t Rows, std::size_t Panels>
void multiply_paired_panels(RowPointers rows, std::size_t k, const PackedPanels& panels, std::size_t& first,
                            const PanelScratch<float>& scratch) {
    for (; first + Panels <= panels.count; first += Panels) {
        for (std::size_t at = 0; at < k; at += Panel<float>::depth) {
            std::array<const std::byte*, Rows> row;
            std::array<const std::byte*, Panels> panel;
            for (std::size_t r = 0; r < Rows; ++r) {
                row[r] = rows[r] + at * sizeof(bfloat16);
            }
            for (std::size_t p = 0; p < Panels; ++p) {
                panel[p] = panels[first + p] + WeightPairs<F>::group_at(at / pair_group);
            }
            multiply_paired_block<F, Rows, Panels>(row.data(), panel.data(), (std::min)(Panel<float>::depth, k - at),
                                                   scratch.sums_of(first, Rows), Rows * Panel<float>::width, at != 0);
        }
    }
}

/// Rows up to which pairs are made in registers, for more in scratch. With 32 to 64 tokens of 128 experts, 4 to 6 rows
/// in registers are 5 to 8 % faster for 16-bit weights and 6 to 8 % slower for 4-bit codes.
template <class F>
inline constexpr std::size_t register_pair_rows = 0;  // what only store() knows of
template <WeightElement F>
inline constexpr std::size_t register_pair_rows<F> = Panel<float>::tile_rows;
template <class F>
    requires requires { F::zero_point; }
inline constexpr std::size_t register_pair_rows<F> = 3;

template <class F, std::size_t Rows>
void multiply_few_paired(RowPointers rows, std::size_t k, const PackedPanels& panels,
                         const PanelScratch<float>& scratch) {
    constexpr std::size_t most = Rows == 1 ? 4 : Rows == 2 ? 2 : 1;  // what the registers hold
    std::size_t first = 0;
    multiply_paired_panels<F, Rows, most>(rows, k, panels, first, scratch);
    if constexpr (most > 1) {
        multiply_paired_panels<F, Rows, 1>(rows, k, panels, first, scratch);
    }
}

/// The product of multiply_bfloat16 with vectors. Order of summation, whatever the number of rows: within a block of
/// Panel<float>::depth inputs pair by pair from zero, each as the instruction does it; the sums of blocks are added in
/// order of k.
template <class F>
void multiply_paired(RowPointers rows, std::size_t k, const PackedPanels& panels, const PanelScratch<float>& scratch) {
    using P = Panel<float>;
    if (rows.empty()) {
        return;
    }
    if (rows.size() <= register_pair_rows<F>) {
        return with_rows(rows.size(), [&]<std::size_t Rows>() {
            if constexpr (Rows <= register_pair_rows<F>) {
                multiply_few_paired<F, Rows>(rows, k, panels, scratch);
            }
        });
    }
    constexpr std::size_t groups = P::depth / pair_group;
    constexpr std::size_t block_bytes = WeightPairs<F>::group_at(groups) - WeightPairs<F>::group_at(0);
    const std::size_t n_blocks = divide_up(k, P::depth);
    static_assert(P::depth / pair_group * pair_group_bytes <= P::depth * P::width * sizeof(float));
    auto* const pairs = reinterpret_cast<std::byte*>(scratch.block.data());
    const BlockPrefetch prefetch(block_bytes, n_tiles(rows.size()), P::depth / Prefetch::interval);
    for_each_block(panels, n_blocks, 0,
                   [&](std::size_t i, std::size_t b, const std::byte* panel, const std::byte* next_panel) {
                       const std::size_t first = b * P::depth;
                       const std::size_t depth = (std::min)(P::depth, k - first);
                       for (std::size_t g = 0; g * pair_group < depth; ++g) {
                           WeightPairs<F>(panel, b * groups + g, (std::min)(pair_group, depth - g * pair_group))
                               .store(pairs + g * pair_group_bytes);
                       }
                       // what follows is the same block of the next panel, or the next one of the first
                       const bool last = i + 1 == panels.count;
                       const std::size_t behind = last ? (b + 1 < n_blocks ? b + 1 : 0) : b;
                       const std::byte* const next = next_panel + WeightPairs<F>::group_at(behind * groups);
                       for_each_tile(rows.size(), [&](std::size_t r, std::size_t count, std::size_t index) {
                           if (i == 0) {
                               prefetch_rows(rows, r + count, first * sizeof(bfloat16), depth * sizeof(bfloat16));
                           }
                           std::array<const std::byte*, P::tile_rows> row{};
                           for (std::size_t j = 0; j < count; ++j) {
                               row[j] = rows[r + j] + first * sizeof(bfloat16);
                           }
                           with_rows(count, [&]<std::size_t Rows>() {
                               multiply_pair_tile<Rows>(row.data(), pairs, round_up(depth, std::size_t{2}),
                                                        scratch.sums_of(i, rows.size()) + r * P::width, b > 0,
                                                        prefetch.from(next).tile(index));
                           });
                       });
                   });
}

}  // namespace detail

}  // namespace moe::inline MOE_ABI

#endif
