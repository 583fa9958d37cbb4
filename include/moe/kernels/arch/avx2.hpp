#pragma once

#include "../../core/half.hpp"

#if defined(__AVX2__) && defined(__F16C__) && !defined(__AVX512F__)
#include "intrinsics.hpp"

namespace moe::inline MOE_ABI::arch {

/// Elements one call of convert_chunk handles.
inline constexpr std::size_t convert_width = 8;

/// 8 bfloat16 at `source` (any alignment) to float: exact.
inline void convert_chunk(const bfloat16* source, float* target) noexcept {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
    _mm256_storeu_ps(target, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)));
}

/// 8 binary16 at `source` (any alignment) to float: exact.
inline void convert_chunk(const float16* source, float* target) noexcept {
    _mm256_storeu_ps(target, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source))));
}

}  // namespace moe::inline MOE_ABI::arch

#endif
