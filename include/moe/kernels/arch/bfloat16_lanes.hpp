#pragma once

#include <cstddef>

#include "../../core/half.hpp"
#include "intrinsics.hpp"
#include "matrix_unit.hpp"

/// 1 where the instruction set multiplies bfloat16 with vectors (AVX512-BF16); processors with a matrix unit have it.
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#define MOE_BFLOAT16_PRODUCTS 1
#else
#define MOE_BFLOAT16_PRODUCTS 0
#endif

namespace moe::inline MOE_ABI::arch {

/// target[i] = the bfloat16 nearest to source[i], ties to even, for `count` neighbours; a NaN stays a (quiet) NaN.
/// Where the instruction set has the conversion, numbers below 2^-126 become zero, as they do in the products.
inline void round_run(const float* source, std::size_t count, bfloat16* target) noexcept {
#if MOE_BFLOAT16_PRODUCTS
    for (; count >= 16; count -= 16, source += 16, target += 16) {
        const __m256bh values = _mm512_cvtneps_pbh(_mm512_loadu_ps(source));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), reinterpret_cast<const __m256i&>(values));
    }
    if (count > 0) {
        const auto valid = static_cast<__mmask16>((1U << count) - 1U);
        const __m256bh values = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(valid, source));
        _mm256_mask_storeu_epi16(target, valid, reinterpret_cast<const __m256i&>(values));
    }
#else
    for (std::size_t i = 0; i < count; ++i) {
        target[i] = to_bfloat16(source[i]);
    }
#endif
}

#if MOE_BFLOAT16_PRODUCTS

/// 16 floats and 16 more as pairs: word 2i is lower[i] rounded, word 2i + 1 upper[i].
[[nodiscard]] MOE_ALWAYS_INLINE __m512i round_pairs(__m512 lower, __m512 upper) noexcept {
    const __m512bh both = _mm512_cvtne2ps_pbh(upper, lower);  // lower in words 0 to 15
    const __m512i order =
        _mm512_add_epi32(_mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                            _mm512_set1_epi32(0x00010001)),
                         _mm512_set1_epi32(0x00100000));
    return _mm512_permutexvar_epi16(order, reinterpret_cast<const __m512i&>(both));
}

/// sum[i] + a[2i] * b[2i] + a[2i + 1] * b[2i + 1] in float32, in the order of the instruction. Numbers below 2^-126
/// count as zero.
[[nodiscard]] MOE_ALWAYS_INLINE __m512 add_pair_products(__m512 sum, __m512i a, __m512i b) noexcept {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<const __m512bh&>(a), reinterpret_cast<const __m512bh&>(b));
}

#endif

}  // namespace moe::inline MOE_ABI::arch
