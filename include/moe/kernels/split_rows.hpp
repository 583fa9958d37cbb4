#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include "arch/matrix_unit.hpp"
#include "unit_block.hpp"

#if MOE_MATRIX_UNIT

namespace moe::inline MOE_ABI {

namespace detail {

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

/// Rows of floats for the matrix unit, as three bfloat16 a value.
struct SplitRows {
    static constexpr std::size_t parts = 3;

    /// The unit adds the parts of columns 32 to 63 in the reverse order, so as to load a part less.
    [[nodiscard]] static constexpr std::size_t part_order(std::size_t vector, std::size_t i) noexcept {
        constexpr std::array<std::size_t, parts> reversed{2, 1, 0};
        return vector < 2 ? i : reversed[i];
    }

    /// Values [first, first + depth) of a row in three parts, as tiles of activations hold them; zero up to whole
    /// steps.
    static void put_tiles(const std::byte* row, std::size_t first, std::size_t depth, std::byte* target) noexcept {
        const float* const x = reinterpret_cast<const float*>(row) + first;
        // the words 1, 3, 5, ... of two vectors
        const __m512i odd = _mm512_add_epi32(_mm512_mullo_epi32(lane_numbers(), _mm512_set1_epi32(0x00040004)),
                                             _mm512_set1_epi32(0x00030001));
        for (std::size_t at = 0; at < depth; at += arch::MatrixUnit::depth, target += UnitBlock<parts>::row_step) {
            SplitVector lower(x, at, depth);
            SplitVector upper(x, at + 16, depth);
            MOE_UNROLL
            for (std::size_t part = 0; part < parts; ++part) {
                _mm512_storeu_si512(target + part * UnitBlock<parts>::tile,
                                    _mm512_permutex2var_epi16(lower.next(), odd, upper.next()));
            }
        }
    }

    /// The same parts as floats, `depth` values of a part after the other, UnitBlock::depth apart.
    static void put_values(const std::byte* row, std::size_t first, std::size_t depth, float* target) noexcept {
        const float* const x = reinterpret_cast<const float*>(row) + first;
        for (std::size_t at = 0; at < depth; at += 16) {
            SplitVector values(x, at, depth);
            MOE_UNROLL
            for (std::size_t part = 0; part < parts; ++part) {
                _mm512_storeu_si512(target + part * UnitBlock<parts>::depth + at, values.next());
            }
        }
    }

    template <class Between>
    static MOE_ALWAYS_INLINE void multiply(const std::byte* a, const std::byte* b, Between&& between) noexcept {
        arch::MatrixUnit::multiply_three(a, b, between);
    }
};

}  // namespace detail

}  // namespace moe::inline MOE_ABI

#endif
