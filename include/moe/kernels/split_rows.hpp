#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include "arch/matrix_unit.hpp"
#include "panel_product.hpp"

#if MOE_MATRIX_UNIT

namespace moe::inline MOE_ABI {

namespace detail {

/// How the tiles of a block of a panel stand in scratch: step after step of 32 values of k.
struct SplitBlock {
    using Unit = arch::MatrixUnit;
    static constexpr std::size_t parts = 3;
    static constexpr std::size_t tile = Unit::rows * Unit::row_bytes;
    static constexpr std::size_t depth = Panel<float>::depth;
    static constexpr std::size_t row_step = parts * tile;                      ///< bytes of 16 rows of a step
    static constexpr std::size_t rows_bytes = depth / Unit::depth * row_step;  ///< of 16 rows
    static constexpr std::size_t weight_step = Unit::depth / 2 * Unit::pair_bytes;
    static constexpr std::size_t weight_bytes = depth / Unit::depth * weight_step;
    /// The unit adds the parts of columns 32 to 63 in the reverse order, so as to load a part less.
    [[nodiscard]] static constexpr std::size_t part_order(std::size_t vector, std::size_t i) noexcept {
        constexpr std::array<std::size_t, parts> reversed{2, 1, 0};
        return vector < 2 ? i : reversed[i];
    }
    static_assert(rows_bytes == PanelScratch<float>::split_bytes(Unit::rows));
};

[[nodiscard]] MOE_ALWAYS_INLINE __m512i lane_numbers() noexcept {
    return _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}

/// 16 floats as the three bfloat16 each is the sum of: its first 8 significant bits, the next 8 and the last 8. An
/// infinity and a NaN are a first part alone, so that they stay what they are.
class SplitVector {
public:
    /// Values [at, at + 16) of `x`, of which those from `depth` on are zero.
    MOE_ALWAYS_INLINE SplitVector(const float* x, std::size_t at, std::size_t depth) noexcept {
        const std::size_t begin = (std::min)(depth, at);
        const auto valid = static_cast<__mmask16>((1U << std::min<std::size_t>(16, depth - begin)) - 1U);
        // adding zero makes a signalling NaN a quiet one, which is a NaN in its upper half alone
        rest_ = _mm512_add_ps(_mm512_maskz_loadu_ps(valid, x + begin), _mm512_setzero_ps());
        const __m512 infinity = _mm512_set1_ps(std::numeric_limits<float>::infinity());
        finite_ = _mm512_cmp_ps_mask(_mm512_abs_ps(rest_), infinity, _CMP_LT_OQ);
    }

    /// The next part: a bfloat16 in the upper half of each float, zero below.
    [[nodiscard]] MOE_ALWAYS_INLINE __m512i next() noexcept {
        const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
        const __m512i part = _mm512_and_si512(_mm512_castps_si512(rest_), upper);
        rest_ = _mm512_maskz_sub_ps(finite_, rest_, _mm512_castsi512_ps(part));
        return part;
    }

private:
    __m512 rest_;
    __mmask16 finite_;
};

/// Values [0, depth) of a row in three parts, as tiles of activations hold them; zero up to whole steps.
inline void split_row(const float* x, std::size_t depth, std::byte* target) noexcept {
    // the words 1, 3, 5, ... of two vectors
    const __m512i odd = _mm512_add_epi32(_mm512_mullo_epi32(lane_numbers(), _mm512_set1_epi32(0x00040004)),
                                         _mm512_set1_epi32(0x00030001));
    for (std::size_t at = 0; at < depth; at += arch::MatrixUnit::depth, target += SplitBlock::row_step) {
        SplitVector first(x, at, depth);
        SplitVector second(x, at + 16, depth);
        MOE_UNROLL
        for (std::size_t part = 0; part < SplitBlock::parts; ++part) {
            _mm512_storeu_si512(target + part * SplitBlock::tile,
                                _mm512_permutex2var_epi16(first.next(), odd, second.next()));
        }
    }
}

/// The same parts as floats, `depth` values of a part after the other, SplitBlock::depth apart.
inline void split_values(const float* x, std::size_t depth, float* target) noexcept {
    for (std::size_t at = 0; at < depth; at += 16) {
        SplitVector values(x, at, depth);
        MOE_UNROLL
        for (std::size_t part = 0; part < SplitBlock::parts; ++part) {
            _mm512_storeu_si512(target + part * SplitBlock::depth + at, values.next());
        }
    }
}

/// Values [first, first + depth) of all rows, `height` to a tile; rows that a tile lacks are zero.
inline void split_rows(RowPointers rows, std::size_t height, std::size_t first, std::size_t depth,
                       std::byte* target) noexcept {
    for (std::size_t r = 0; r < round_up(rows.size(), height); ++r) {
        std::byte* const row = target + r / height * SplitBlock::rows_bytes + r % height * arch::MatrixUnit::row_bytes;
        if (r < rows.size()) {
            split_row(reinterpret_cast<const float*>(rows[r]) + first, depth, row);
        } else {
            for (std::size_t i = 0; i < SplitBlock::rows_bytes; i += SplitBlock::tile) {
                std::fill_n(row + i, arch::MatrixUnit::row_bytes, std::byte{0});
            }
        }
    }
}

}  // namespace detail

}  // namespace moe::inline MOE_ABI

#endif
