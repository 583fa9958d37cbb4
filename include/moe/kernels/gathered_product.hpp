#pragma once

#include <algorithm>
#include <cstddef>

#include "../core/function_ref.hpp"
#include "panel_product.hpp"

namespace moe::inline MOE_ABI {

/// Panels that are gathered block by block from where their weights lie. Both are called with inputs [first, first +
/// depth) of a panel.
template <class T>
struct GatheredPanels {
    /// Fills `block` (depth, Panel<T>::width).
    FunctionRef<void(std::size_t panel, std::size_t first, std::size_t depth, T* block)> gather;
    /// Says where that reads, so that it is asked of memory while the block before is multiplied: rows of weights are
    /// far apart, and without it 64 rows of a float layer that is no cache's take a third longer.
    FunctionRef<FarBlock(std::size_t panel, std::size_t first, std::size_t depth)> locate = nowhere;

    static constexpr auto nowhere = [](std::size_t, std::size_t, std::size_t) { return FarBlock{}; };
};

/// multiply_packed with weights gathered block by block.
template <class T>
void multiply_gathered(RowPointers rows, std::size_t k, std::size_t n_panels, const PanelScratch<T>& scratch,
                       const GatheredPanels<T>& panels) {
    constexpr std::size_t steps = Panel<T>::depth / Prefetch::interval;
    for (std::size_t first = 0; first < k; first += Panel<T>::depth) {
        const std::size_t depth = (std::min)(Panel<T>::depth, k - first);
        for (std::size_t i = 0; i < n_panels; ++i) {
            panels.gather(i, first, depth, scratch.block.data());
            FarBlock next{};
            if (i + 1 < n_panels) {
                next = panels.locate(i + 1, first, depth);
            } else if (first + depth < k) {
                next = panels.locate(0, first + depth, (std::min)(Panel<T>::depth, k - first - depth));
            }
            detail::multiply_block<T>(rows, first, scratch.block.data(), depth, scratch.sums_of(i, rows.size()),
                                      detail::GatherPrefetch(next, detail::n_tiles(rows.size()), steps), i == 0);
        }
    }
}

}  // namespace moe::inline MOE_ABI
