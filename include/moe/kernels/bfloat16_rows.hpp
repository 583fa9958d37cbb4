#pragma once

#include <algorithm>
#include <cstddef>

#include "../core/half.hpp"
#include "../core/index.hpp"
#include "arch/bfloat16_lanes.hpp"

namespace moe::inline MOE_ABI {

/// Activations rounded to bfloat16: k values and zeros up to whole steps of 32, the depth of a tile of the matrix unit.
struct Bfloat16Rows {
    static constexpr std::size_t step = 32;

    std::size_t k = 0;  ///< values of a row

    [[nodiscard]] constexpr std::size_t padded() const noexcept { return round_up(k, step); }

    /// Bytes from row to row: whole cache lines.
    [[nodiscard]] constexpr std::size_t stride() const noexcept { return padded() * sizeof(bfloat16); }
};

/// Values [first, first + columns) of a row, first and columns multiples of 32, from `x`, whose first value is that of
/// `first`; those beyond k are zero, whatever `x` has there. Nearest, ties to even; a NaN stays one. `row` is the row's
/// first byte.
inline void round_columns(const Bfloat16Rows& layout, std::size_t first, std::size_t columns, const float* x,
                          std::byte* row) noexcept {
    auto* const target = reinterpret_cast<bfloat16*>(row) + first;
    const std::size_t valid = (std::min)(columns, layout.k - first);
    arch::round_run(x, valid, target);
    std::fill(target + valid, target + (std::min)(columns, layout.padded() - first), bfloat16{});
}

/// A whole row. Complexity O(k).
inline void round_row(const Bfloat16Rows& layout, const float* x, std::byte* row) noexcept {
    round_columns(layout, 0, layout.padded(), x, row);
}

}  // namespace moe::inline MOE_ABI
