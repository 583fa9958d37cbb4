#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "decoded_product.hpp"
#include "panel_product.hpp"
#include "quantized_tile.hpp"

namespace moe::inline MOE_ABI {

/// multiply_packed with quantised panels, their weights as floats: float accuracy against the dequantised weights.
template <class Format>
void multiply_dequantized(RowPointers rows, std::size_t k, const PackedPanels& panels,
                          const PanelScratch<float>& scratch) {
    moe::multiply_decoded<kind_of<Format>>(rows, k, panels, scratch);
}

namespace detail {

template <class C, std::size_t Rows>
void multiply_quantized_side_by_side(RowPointers rows, const QuantizedRows& layout, const PackedPanels& panels,
                                     const PanelScratch<float>& scratch) {
    constexpr std::size_t most = 4;
    constexpr bool row_in_registers = vector_registers >= 32 && arch::IntegerLanes::size == 16;
    for (std::size_t first = 0; first < panels.count; first += most) {
        const std::size_t count = (std::min)(most, panels.count - first);
        std::array<const std::byte*, most> panel{};
        for (std::size_t p = 0; p < count; ++p) {
            panel[p] = panels[first + p];
        }
        float* const sums = scratch.sums_of(first, Rows);
        if constexpr (Rows == 1 && row_in_registers) {
            if (count == most) {
                multiply_quantized_row<C, most>(rows[0], layout, panel.data(), sums, Panel<float>::width);
                continue;
            }
        }
        multiply_quantized_tiles<C, Rows>(rows.data(), layout, panel.data(), count, sums, Rows * Panel<float>::width);
    }
}

/// Up to tile_rows rows, which leave registers for any number of panels: their sums are in memory.
template <class C>
void multiply_one_quantized_tile(RowPointers rows, const QuantizedRows& layout, const PackedPanels& panels,
                                 const PanelScratch<float>& scratch) {
    if (!rows.empty()) {
        with_rows(rows.size(),
                  [&]<std::size_t Rows>() { multiply_quantized_side_by_side<C, Rows>(rows, layout, panels, scratch); });
    }
}

}  // namespace detail

/// The same with quantised rows and integer dot products; see multiply_quantized_tile for the order of summation.
template <class Format>
void multiply_quantized(RowPointers rows, std::size_t k, const PackedPanels& panels,
                        const PanelScratch<float>& scratch) {
    // 8 groups of 8-bit codes are 17 KB: they stay in the first level with the rows that stream past them
    constexpr std::size_t block_groups = Panel<float>::depth / 16;
    constexpr std::size_t group_bytes = QuantizedPanel<Format>::group_bytes;
    const QuantizedRows layout{k};
    if (rows.size() <= Panel<float>::tile_rows) {
        return detail::multiply_one_quantized_tile<Codes<Format>>(rows, layout, panels, scratch);
    }
    const bool expands = Format::zero_point == 8 && rows.size() > max_register_rows;
    const detail::BlockPrefetch prefetch(block_groups * group_bytes, detail::n_tiles(rows.size()), block_groups);
    detail::for_each_block(
        panels, divide_up(layout.groups(), block_groups), block_groups * group_bytes,
        [&](std::size_t i, std::size_t b, const std::byte* at, const std::byte* next) {
            const std::size_t first = b * block_groups;
            const std::size_t groups = (std::min)(block_groups, layout.groups() - first);
            const auto tiles = [&]<class C>(C, const std::byte* codes) {
                detail::for_each_tile(rows.size(), [&](std::size_t r, std::size_t count, std::size_t index) {
                    multiply_quantized_tile<C>(count, rows.data() + r, layout, first, codes, groups,
                                               scratch.sums_of(i, rows.size()) + r * Panel<float>::width, first != 0,
                                               prefetch.from(next).tile(index));
                });
            };
            if (!expands) {
                return tiles(Codes<Format>{}, at);
            }
            if constexpr (Format::zero_point == 8) {
                auto* const expanded = reinterpret_cast<std::byte*>(scratch.block.data());
                static_assert(block_groups * QuantizedPanel<Int8>::group_bytes <=
                              Panel<float>::depth * Panel<float>::width * sizeof(float));
                for (std::size_t g = 0; g < groups; ++g) {
                    detail::expand_codes(at + g * group_bytes, expanded + g * QuantizedPanel<Int8>::group_bytes);
                }
                tiles(Codes<Format, true>{}, expanded);
            }
        });
}

}  // namespace moe::inline MOE_ABI
