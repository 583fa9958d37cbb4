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

/// Rows of bfloat16 (Bfloat16Rows) for the matrix unit, as they are.
struct RoundedRows {
    static constexpr std::size_t parts = 1;

    [[nodiscard]] static constexpr std::size_t part_order(std::size_t /*vector*/, std::size_t i) noexcept { return i; }

    /// Values [first, first + depth) of a row as tiles of activations hold them.
    static void put_tiles(const std::byte* row, std::size_t first, std::size_t depth, std::byte* target) noexcept {
        const std::byte* const x = row + first * sizeof(bfloat16);
        for (std::size_t at = 0; at < depth; at += arch::MatrixUnit::depth, target += UnitBlock<parts>::row_step) {
            _mm512_storeu_si512(target, _mm512_loadu_si512(x + at * sizeof(bfloat16)));
        }
    }

    /// The same as floats.
    static void put_values(const std::byte* row, std::size_t first, std::size_t depth, float* target) noexcept {
        const auto* const x = reinterpret_cast<const bfloat16*>(row) + first;
        for (std::size_t at = 0; at < depth; at += 16) {
            _mm512_storeu_ps(target + at, arch::load_floats(x + at));
        }
    }

    template <class Between>
    static MOE_ALWAYS_INLINE void multiply(const std::byte* a, const std::byte* b, Between&& between) noexcept {
        arch::MatrixUnit::multiply_one(a, b, between);
    }
};

}  // namespace moe::inline MOE_ABI::detail

#endif
