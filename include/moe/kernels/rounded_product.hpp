#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>

#include "arch/matrix_unit.hpp"
#include "panel_product.hpp"
#include "weight_pairs.hpp"

#if MOE_MATRIX_UNIT

namespace moe::inline MOE_ABI {

namespace detail {

/// Tiles of rows of bfloat16 for the matrix unit: `height` rows each, the last one fewer.
class RoundedTiles {
public:
    /// Values [first, first + depth) of all rows, read where they are if they lie one after the other, else copied
    /// together to `copy`. (Rows a whole number of pages apart share one set of the first cache: 19.4 cycles a product,
    /// copied 16.6.) Fewer rows than a tile has are copied, too: the unit reads whole tiles.
    RoundedTiles(RowPointers rows, std::size_t height, std::size_t first, std::size_t depth, std::byte* copy) noexcept
        : height_(height) {
        const std::size_t skipped = first * sizeof(bfloat16);
        const std::size_t bytes = depth * sizeof(bfloat16);
        const std::size_t row_bytes = bytes + Prefetch::line;
        const std::size_t whole = rows.size() / height * height;
        const bool in_place = lie_evenly(rows);
        for (std::size_t r = in_place ? whole : 0; r < rows.size(); ++r) {
            std::memcpy(copy + r * row_bytes, rows[r] + skipped, bytes);
        }
        const std::byte* const from = in_place ? rows[0] + skipped : copy;
        stride_ = in_place && rows.size() > 1 ? static_cast<std::size_t>(rows[1] - rows[0]) : row_bytes;
        first_ = from;
        last_ = whole == rows.size() ? nullptr : copy + whole * row_bytes;
        last_stride_ = row_bytes;
    }

    struct Tile {
        const std::byte* first;
        std::size_t stride;
    };
    [[nodiscard]] MOE_ALWAYS_INLINE Tile tile(std::size_t t, bool last) const noexcept {
        return last && last_ != nullptr ? Tile{last_, last_stride_} : Tile{first_ + t * height_ * stride_, stride_};
    }

private:
    static bool lie_evenly(RowPointers rows) noexcept {
        if (rows.size() < 2) {
            return true;
        }
        const std::ptrdiff_t stride = rows[1] - rows[0];
        bool even = stride > 0 && static_cast<std::size_t>(stride) % Prefetch::page != 0;
        for (std::size_t r = 2; r < rows.size() && even; ++r) {
            even = rows[r] - rows[r - 1] == stride;
        }
        return even;
    }

    std::size_t height_;
    const std::byte* first_;
    std::size_t stride_;
    const std::byte* last_;  ///< of the tile that has fewer rows; null where all are whole
    std::size_t last_stride_;
};

/// Pairs of weights that are ready at a time: four steps of 32 values of k, 16 KB, stay in the first cache while they
/// are written and read. (Twice as many do not: to write them costs 220 cycles a step instead of 88.)
inline constexpr std::size_t ring_steps = 4;

/// Tiles of rows from which on all but the first ask for the next weights, page by page side by side (BlockPrefetch): a
/// panel comes 16 % sooner at 64 rows, 22 % at 128. With two tiles the first does so, from front to back: 11 % sooner.
inline constexpr std::size_t many_unit_tiles = 3;

/// A tile of rows times the pairs of `steps` steps, added to `sums` (height, 64) or, where these are `fresh`, to zero.
/// Calls before(s) before step s and after(s) behind it. Inlined: arguments that go through memory would wait for the
/// sums of the tile before.
template <class Before, class After>
MOE_ALWAYS_INLINE void multiply_rounded_tile(const RoundedTiles::Tile& rows, const std::byte* pairs, std::size_t steps,
                                             float* sums, bool fresh, const Before& before,
                                             const After& after) noexcept {
    using Unit = arch::MatrixUnit;
    std::atomic_signal_fence(std::memory_order_seq_cst);  // tiles are read by instructions the compiler cannot follow
    if (fresh) {
        Unit::clear();
    } else {
        Unit::load(sums);
    }
    for (std::size_t s = 0; s < steps; ++s) {
        before(s);
        Unit::multiply(rows.first + s * Unit::row_bytes, rows.stride, pairs + s % ring_steps * pair_group_bytes);
        after(s);
    }
    Unit::store(sums);
    std::atomic_signal_fence(std::memory_order_seq_cst);
}

}  // namespace detail

/// scratch.sums (n_panels, n_rows, 64) = rows of bfloat16 (Bfloat16Rows) times packed panels of F, weights that are not
/// bfloat16 rounded to it, on the matrix unit. Each sum is one chain from zero over steps of 32 values of k, which the
/// unit adds in its own order: the bits of a row do not depend on the others. Numbers below 2^-126 count as zero.
///
/// A panel is read from front to back. The first tile of rows is multiplied by each step of weights as soon as these
/// are pairs, so that making pairs, products and reading memory overlap; up to 16 rows that is all, and a panel comes
/// at 0.8 to 0.85 of what reading alone does. Other tiles follow every ring_steps steps.
///
/// Tried, cycles a product of tiles of 128 rows from the cache (12.3 at best, 38 here, of which 10 are the copying of
/// rows, 9 the way of sums to memory and back): pairs of a whole panel in the second-level cache with the sums in the
/// unit for all of k 40, two tiles of rows by 32 outputs 44, blocks of 256 values of k 43.
template <class F>
void multiply_rounded(RowPointers rows, std::size_t k, const PackedPanels& panels, const PanelScratch<float>& scratch) {
    using Unit = arch::MatrixUnit;
    using Weights = detail::WeightPairs<F>;
    constexpr std::size_t width = Panel<float>::width;
    constexpr std::size_t step_bytes = Weights::group_at(1) - Weights::group_at(0);
    constexpr std::size_t ahead_bytes = Prefetch::page;
    static_assert(detail::ring_steps * detail::pair_group_bytes <= Panel<float>::depth * width * sizeof(float));
    if (rows.empty()) {
        return;
    }
    const std::size_t n_tiles = divide_up(rows.size(), Unit::rows);
    const std::size_t height = divide_up(rows.size(), n_tiles);
    const std::size_t before_last = (n_tiles - 1) * height;
    const Unit::Session session(height);
    auto* const pairs = reinterpret_cast<std::byte*>(scratch.block.data());
    alignas(64) std::array<float, Unit::rows * width> last;  // sums of the last tile, which may have rows to spare
    const detail::BlockPrefetch prefetch =
        n_tiles < detail::many_unit_tiles
            ? detail::BlockPrefetch{}
            : detail::BlockPrefetch(detail::ring_steps * step_bytes, n_tiles - 1, detail::ring_steps);
    constexpr std::size_t part = PanelScratch<float>::unit_depth;
    for (std::size_t first = 0; first < k; first += part) {
        const std::size_t depth = (std::min)(part, k - first);
        const std::size_t n_steps = divide_up(depth, Unit::depth);
        const detail::RoundedTiles tiles(rows, height, first, n_steps * Unit::depth, scratch.split.data());
        for (std::size_t p = 0; p < panels.count; ++p) {
            float* const sums = scratch.sums_of(p, rows.size());
            float* const last_sums = sums + before_last * width;
            const std::size_t last_count = (rows.size() - before_last) * width;
            if (first != 0) {
                std::copy_n(last_sums, last_count, last.data());
            }
            const std::size_t block = n_tiles == 1 ? n_steps : detail::ring_steps;
            for (std::size_t begin = 0; begin < n_steps; begin += block) {
                const std::size_t steps = (std::min)(block, n_steps - begin);
                const std::size_t group = first / Unit::depth + begin;
                const bool fresh = group == 0;
                const auto make_pairs = [&](std::size_t s) MOE_INLINE_CALL {
                    const std::size_t valid = (std::min)(Unit::depth, depth - (begin + s) * Unit::depth);
                    Weights(panels[p], group + s, valid)
                        .store(pairs + s % detail::ring_steps * detail::pair_group_bytes);
                };
                // behind the products: before the pairs it costs a fifth, between them and the products a tenth
                const auto ask_ahead = [&](std::size_t s) MOE_INLINE_CALL {
                    const std::byte* const next = panels[p] + Weights::group_at(group + s) + ahead_bytes;
                    for (std::size_t i = 0; i < step_bytes; i += Prefetch::line) {
                        Prefetch::prefetch_line(next + i);
                    }
                };
                const auto multiply = [&](std::size_t t, const auto& before, const auto& after) MOE_INLINE_CALL {
                    const bool is_last = t + 1 == n_tiles;
                    detail::RoundedTiles::Tile tile = tiles.tile(t, is_last);
                    tile.first += begin * Unit::row_bytes;
                    detail::multiply_rounded_tile(tile, pairs, steps, is_last ? last.data() : sums + t * height * width,
                                                  fresh, before, after);
                };
                const auto nothing = [](std::size_t) MOE_INLINE_CALL {};
                if (n_tiles < detail::many_unit_tiles) {
                    multiply(0, make_pairs, ask_ahead);
                } else {
                    multiply(0, make_pairs, nothing);
                }
                const detail::BlockPrefetch next =
                    prefetch.from(panels[p] + Weights::group_at(group + detail::ring_steps));
                for (std::size_t t = 1; t < n_tiles; ++t) {
                    Prefetch ahead = next.tile(t - 1);
                    multiply(t, nothing, [&](std::size_t) MOE_INLINE_CALL { ahead.step(); });
                }
            }
            std::copy_n(last.data(), last_count, last_sums);
        }
    }
}

}  // namespace moe::inline MOE_ABI

#endif
