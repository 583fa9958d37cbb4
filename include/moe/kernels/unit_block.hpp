#pragma once

#include <algorithm>
#include <cstddef>

#include "arch/matrix_unit.hpp"
#include "panel_product.hpp"
#include "weight_pairs.hpp"

#if MOE_MATRIX_UNIT

namespace moe::inline MOE_ABI::detail {

/// How the tiles of a block of a panel stand in scratch: step after step of 32 values of k, rows of `Parts` bfloat16 a
/// value.
template <std::size_t Parts>
struct UnitBlock {
    using Unit = arch::MatrixUnit;
    static constexpr std::size_t tile = Unit::rows * Unit::row_bytes;
    static constexpr std::size_t depth = Panel<float>::depth;
    static constexpr std::size_t row_step = Parts * tile;                      ///< bytes of 16 rows of a step
    static constexpr std::size_t rows_bytes = depth / Unit::depth * row_step;  ///< of 16 rows
    static constexpr std::size_t weight_bytes = depth / Unit::depth * pair_group_bytes;
    static_assert(rows_bytes <= PanelScratch<float>::split_bytes(Unit::rows));
    static_assert(Unit::depth == pair_group && Unit::pair_bytes * pair_group / 2 == pair_group_bytes);
};

}  // namespace moe::inline MOE_ABI::detail

#endif
