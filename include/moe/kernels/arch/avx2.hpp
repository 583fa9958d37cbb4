#pragma once

#include "../../core/half.hpp"

#if defined(__AVX2__) && defined(__F16C__) && !defined(__AVX512F__)
#include "intrinsics.hpp"

namespace moe::inline MOE_ABI::arch {

/// 8 bfloat16 at `source` (any alignment) as float: exact.
[[nodiscard]] MOE_ALWAYS_INLINE __m256 load_floats(const bfloat16* source) noexcept {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

/// 8 binary16 at `source` (any alignment) as float: exact.
[[nodiscard]] MOE_ALWAYS_INLINE __m256 load_floats(const float16* source) noexcept {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
}

}  // namespace moe::inline MOE_ABI::arch

#endif
