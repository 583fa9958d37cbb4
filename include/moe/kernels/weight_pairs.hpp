#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include "arch/avx512.hpp"
#include "arch/bfloat16_lanes.hpp"
#include "quantized_panel.hpp"

#if MOE_BFLOAT16_PRODUCTS

namespace moe::inline MOE_ABI::detail {

/// Inputs that the pairs of a panel are made of at a time: a group of codes, a step of the matrix unit.
inline constexpr std::size_t pair_group = 32;
/// Bytes of these inputs as pairs: element (k, column) at word (k / 2 * 64 + column) * 2 + k % 2.
inline constexpr std::size_t pair_group_bytes = pair_group * Panel<float>::width * sizeof(bfloat16);

/// A group of 32 inputs of a packed panel as pairs of bfloat16: weights of two neighbouring inputs of one output side
/// by side, which is how products of bfloat16 want them. bfloat16 as they are, others rounded: once, from their exact
/// value.
template <class F>
class WeightPairs {
    static_assert(std::is_same_v<F, bfloat16> || std::is_same_v<F, float16>);

public:
    static constexpr std::size_t group_bytes = pair_group * Panel<float>::width * sizeof(F);

    /// `valid` inputs exist; the others are zero.
    MOE_ALWAYS_INLINE WeightPairs(const std::byte* group, std::size_t valid) noexcept
        : from_(reinterpret_cast<const F*>(group)), valid_(valid) {}

    /// Inputs k and k + 1, k even, of outputs [32 half, 32 half + 32).
    MOE_ALWAYS_INLINE void get(std::size_t k, std::size_t half, __m512i (&pair)[2]) const noexcept {
        constexpr std::size_t width = Panel<float>::width;
        const F* const row = from_ + k * width + half * 32;
        if constexpr (std::is_same_v<F, bfloat16>) {
            // words 0, 32, 1, 33, ...: columns of one input and of the next
            const __m512i lower = _mm512_add_epi32(
                _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                   _mm512_set1_epi32(0x00010001)),
                _mm512_set1_epi32(0x00200000));
            const __m512i upper = _mm512_add_epi32(lower, _mm512_set1_epi32(0x00100010));
            const __m512i even = k < valid_ ? _mm512_loadu_si512(row) : _mm512_setzero_si512();
            const __m512i odd = k + 1 < valid_ ? _mm512_loadu_si512(row + width) : _mm512_setzero_si512();
            pair[0] = _mm512_permutex2var_epi16(even, lower, odd);
            pair[1] = _mm512_permutex2var_epi16(even, upper, odd);
        } else {
            for (std::size_t i = 0; i < 2; ++i) {
                const __m512 even = k < valid_ ? arch::load_floats(row + 16 * i) : _mm512_setzero_ps();
                const __m512 odd = k + 1 < valid_ ? arch::load_floats(row + width + 16 * i) : _mm512_setzero_ps();
                pair[i] = arch::round_pairs(even, odd);
            }
        }
    }

private:
    const F* from_;
    std::size_t valid_;
};

/// Codes times their scale: 8 bits times 11, exact, then rounded.
template <class F>
    requires requires { F::zero_point; }
class WeightPairs<F> {
public:
    static constexpr std::size_t group_bytes = QuantizedPanel<F>::group_bytes;

    MOE_ALWAYS_INLINE WeightPairs(const std::byte* group, std::size_t /*valid*/) noexcept
        : codes_(group + QuantizedPanel<F>::scale_bytes) {
        MOE_UNROLL
        for (std::size_t v = 0; v < Panel<float>::vectors; ++v) {
            scale_[v] = arch::load_floats(reinterpret_cast<const float16*>(group) + v * 16);
            zero_[v] = _mm512_mul_ps(scale_[v], _mm512_set1_ps(-static_cast<float>(F::zero_point)));
        }
    }

    MOE_ALWAYS_INLINE void get(std::size_t k, std::size_t half, __m512i (&pair)[2]) const noexcept {
        constexpr bool nibbles = F::zero_point == 8;
        const std::size_t row = nibbles ? k % 16 / 4 : k / 4;
        const auto shift = static_cast<int>(k % 4 * 8 + (nibbles && k >= 16 ? 4 : 0));
        MOE_UNROLL
        for (std::size_t i = 0; i < 2; ++i) {
            const std::size_t v = 2 * half + i;
            const __m512i codes = _mm512_loadu_si512(codes_ + (row * Panel<float>::width + v * 16) * 4);
            pair[i] = arch::round_pairs(value(codes, shift, v), value(codes, shift + 8, v));
        }
    }

private:
    [[nodiscard]] MOE_ALWAYS_INLINE __m512 value(__m512i codes, int shift, std::size_t v) const noexcept {
        const __m512i mask = _mm512_set1_epi32(F::zero_point == 8 ? 0x0F : 0xFF);
        const __m512i code = _mm512_and_si512(_mm512_srl_epi32(codes, _mm_cvtsi32_si128(shift)), mask);
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(code), scale_[v], zero_[v]);
    }

    const std::byte* codes_;
    __m512 scale_[Panel<float>::vectors];
    __m512 zero_[Panel<float>::vectors];
};

/// All pairs of a group, pair_group_bytes of them, to `target`.
template <class F>
MOE_ALWAYS_INLINE void store_pairs(const std::byte* group, std::size_t valid, std::byte* target) noexcept {
    const WeightPairs<F> weights(group, valid);
    MOE_UNROLL
    for (std::size_t k = 0; k < pair_group; k += 2) {
        MOE_UNROLL
        for (std::size_t half = 0; half < 2; ++half, target += 128) {
            __m512i pair[2];
            weights.get(k, half, pair);
            _mm512_storeu_si512(target, pair[0]);
            _mm512_storeu_si512(target + 64, pair[1]);
        }
    }
}

}  // namespace moe::inline MOE_ABI::detail

#endif
