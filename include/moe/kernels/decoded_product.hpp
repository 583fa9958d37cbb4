#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "panel_decoder.hpp"
#include "panel_product.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// Vectors of outputs that are decoded side by side: their sums, scales, minima and codes stay in registers.
template <std::size_t Rows>
[[nodiscard]] constexpr std::size_t decoded_vectors() {
    std::size_t vectors = Panel<float>::vectors;
    while (vectors > 1 && (Rows + 3) * vectors + 6 > vector_registers) {
        vectors /= 2;
    }
    return vectors;
}

/// Asks for the lines of `Bytes` bytes.
template <std::size_t Bytes>
MOE_ALWAYS_INLINE void ask_for(const std::byte* memory) noexcept {
    MOE_UNROLL
    for (std::size_t i = 0; i < Bytes; i += Prefetch::line) {
        prefetch_part<Prefetch::line, 1>(memory + i, 0);
    }
}

/// sums (Rows, 64), of `Vectors` vectors from `first` on, = or += x (Rows, 32) * one group. Calls ask(at) before the
/// codes at byte `at` of the group are read, to ask memory for some of what follows.
template <PanelKind kind, std::size_t Rows, std::size_t Vectors, class Ask>
MOE_ALWAYS_INLINE void multiply_group(const PanelDecoder<kind>& decoder, const std::array<const float*, Rows>& x,
                                      const std::byte* factors, const std::byte* group, std::size_t first,
                                      float* MOE_RESTRICT sums, bool add, Ask&& ask) noexcept {
    using D = PanelDecoder<kind>;
    std::array<std::array<Vector<float>, Vectors>, Rows> sum;
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        MOE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            sum[r][v] = add ? load(sums + r * Panel<float>::width + (first + v) * lanes<float>) : Vector<float>(0.0F);
        }
    }
    std::array<Vector<float>, Vectors> scale;
    std::array<Vector<float>, Vectors> minimum;
    const auto pass = [&]<std::size_t Pass>() MOE_INLINE_CALL {
        if constexpr (Pass == 0 || kind.shared == 16) {
            MOE_UNROLL
            for (std::size_t v = 0; v < Vectors; ++v) {
                scale[v] = D::template scale<Pass>(factors, group, first + v);
                minimum[v] = D::template minimum<Pass>(factors, group, first + v);
            }
        }
        for (std::size_t j = 0; j < D::steps; ++j) {
            const std::size_t at = D::template codes_at<Pass>(j) + first * 4 * lanes<float>;
            if (kind.bits == 8 || Pass == 0) {
                ask(at);
            }
            typename D::Codes codes[Vectors];  // no std::array: see quantized_tile.hpp
            MOE_UNROLL
            for (std::size_t v = 0; v < Vectors; ++v) {
                codes[v] = D::template prepared<Pass>(group + at + v * 4 * lanes<float>);
            }
            const auto input = [&]<int B>() MOE_INLINE_CALL {
                std::array<Vector<float>, Vectors> weight;
                MOE_UNROLL
                for (std::size_t v = 0; v < Vectors; ++v) {
                    weight[v] = decoder.template weight<Pass, B>(codes[v], scale[v], minimum[v]);
                }
                MOE_UNROLL
                for (std::size_t r = 0; r < Rows; ++r) {
                    const Vector<float> value(x[r][Pass * 16 + 4 * j + B]);
                    MOE_UNROLL
                    for (std::size_t v = 0; v < Vectors; ++v) {
                        sum[r][v] = multiply_add<float>(value, weight[v], sum[r][v]);
                    }
                }
            };
            input.template operator()<0>();
            input.template operator()<1>();
            input.template operator()<2>();
            input.template operator()<3>();
        }
    };
    pass.template operator()<0>();
    pass.template operator()<1>();
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        MOE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            store(sums + r * Panel<float>::width + (first + v) * lanes<float>, sum[r][v]);
        }
    }
}

/// The same of the last group of a panel, of which `depth` inputs exist.
template <PanelKind kind, std::size_t Rows>
MOE_NOINLINE void multiply_last_group(const std::array<const float*, Rows>& x, const std::byte* factors,
                                      const std::byte* group, std::size_t depth, float* sums, bool add) noexcept {
    std::array<float, quantization_group * Panel<float>::width> weights;
    decode_panel_group<kind>(factors, group, weights.data());
    for (std::size_t r = 0; r < Rows; ++r) {
        multiply_row_step(x[r], weights.data(), weights.data(), depth, sums + r * Panel<float>::width, add);
    }
}

/// Up to four panels take turns group by group: memory gives several streams faster than one, and between turns the
/// sums of a panel are in the first cache. Requests 2 KB ahead, as in multiply_quantized_tiles.
template <PanelKind kind, std::size_t Rows>
MOE_NOINLINE void multiply_decoded_rows(const std::byte* const* rows, std::size_t k, const PackedPanels& panels,
                                        std::size_t first_panel, std::size_t count, float* c,
                                        std::size_t stride) noexcept {
    constexpr std::size_t most = 4;
    constexpr std::size_t ahead = 2048;
    constexpr std::size_t width = Panel<float>::width;
    constexpr std::size_t vectors = decoded_vectors<Rows>();
    const PanelDecoder<kind> decoder;
    std::array<std::array<float, Rows * width>, most> sums;
    std::array<const float*, Rows> x;
    for (std::size_t block = 0; block < k; block += Panel<float>::depth) {
        const std::size_t end = (std::min)(block + Panel<float>::depth, k);
        for (std::size_t at = block; at < end; at += quantization_group) {
            const std::size_t group = kind.group_at(at / quantization_group);
            const std::size_t factors_at = kind.factors_at(at / quantization_group);
            for (std::size_t r = 0; r < Rows; ++r) {
                x[r] = reinterpret_cast<const float*>(rows[r]) + at;
            }
            for (std::size_t p = 0; p < count; ++p) {
                const std::byte* const from = panels[first_panel + p] + group;
                const std::byte* const factors = panels[first_panel + p] + factors_at;
                if (end - at < quantization_group) {
                    multiply_last_group<kind, Rows>(x, factors, from, end - at, sums[p].data(), at != block);
                    continue;
                }
                const std::byte* const other = panels[first_panel + (p + count / 2) % count] + group + ahead;
                ask_for<kind.codes_at()>(other);
                const auto ask = [&](std::size_t at_byte) MOE_INLINE_CALL {
                    prefetch_part<vectors * 4 * lanes<float>, 1>(other + at_byte, 0);
                };
                for (std::size_t v = 0; v < Panel<float>::vectors; v += vectors) {
                    multiply_group<kind, Rows, vectors>(decoder, x, factors, from, v, sums[p].data(), at != block, ask);
                }
            }
        }
        for (std::size_t p = 0; p < count; ++p) {
            float* const target = c + p * stride;
            for (std::size_t i = 0; i < Rows * width; i += lanes<float>) {
                const Vector<float> sum = load(sums[p].data() + i);
                store(target + i, block != 0 ? Vector<float>(load(target + i) + sum) : sum);
            }
        }
    }
}

template <PanelKind kind, std::size_t Rows>
void multiply_decoded_side_by_side(RowPointers rows, std::size_t k, const PackedPanels& panels,
                                   const PanelScratch<float>& scratch) {
    for (std::size_t first = 0; first < panels.count; first += 4) {
        const std::size_t count = (std::min)(std::size_t{4}, panels.count - first);
        multiply_decoded_rows<kind, Rows>(rows.data(), k, panels, first, count, scratch.sums_of(first, Rows),
                                          Rows * Panel<float>::width);
    }
}

}  // namespace detail

/// multiply_packed with panels of codes, their weights as floats: float accuracy against these, and the order of
/// summation of tile.hpp. For the rows of one tile they are decoded in registers, for more once a block, into scratch.
template <PanelKind kind>
void multiply_decoded(RowPointers rows, std::size_t k, const PackedPanels& panels, const PanelScratch<float>& scratch) {
    if (rows.size() <= Panel<float>::tile_rows) {
        if (!rows.empty()) {
            with_rows(rows.size(), [&]<std::size_t Rows>() {
                detail::multiply_decoded_side_by_side<kind, Rows>(rows, k, panels, scratch);
            });
        }
        return;
    }
    constexpr std::size_t groups = Panel<float>::depth / quantization_group;
    constexpr std::size_t block_bytes = kind.group_at(groups) - kind.group_at(0);
    const detail::BlockPrefetch prefetch(block_bytes, detail::n_tiles(rows.size()),
                                         Panel<float>::depth / Prefetch::interval);
    const std::size_t n_blocks = divide_up(k, Panel<float>::depth);
    detail::for_each_block(
        panels, n_blocks, 0, [&](std::size_t i, std::size_t b, const std::byte* panel, const std::byte* next_panel) {
            const std::size_t first = b * Panel<float>::depth;
            const std::size_t depth = (std::min)(Panel<float>::depth, k - first);
            for (std::size_t g = 0; g * quantization_group < depth; ++g) {
                const std::size_t group = b * groups + g;
                decode_panel_group<kind>(panel + kind.factors_at(group), panel + kind.group_at(group),
                                         scratch.block.data() + g * quantization_group * Panel<float>::width);
            }
            // what follows is the same block of the next panel, or the next one of the first
            const bool last = i + 1 == panels.count;
            const std::size_t block = last ? (b + 1 < n_blocks ? b + 1 : 0) : b;
            detail::multiply_block<float>(rows, first, scratch.block.data(), depth, scratch.sums_of(i, rows.size()),
                                          prefetch.from(next_panel + kind.group_at(block * groups)), i == 0);
        });
}

}  // namespace moe::inline MOE_ABI
