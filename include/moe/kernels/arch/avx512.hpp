#pragma once

#include "../../core/half.hpp"

#if defined(__AVX512F__)
#include "intrinsics.hpp"

namespace moe::inline MOE_ABI::arch {

/// Elements one call of convert_chunk handles.
inline constexpr std::size_t convert_width = 16;

/// 16 bfloat16 at `source` (any alignment) to float: exact.
inline void convert_chunk(const bfloat16* source, float* target) noexcept {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
    _mm512_storeu_ps(target, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)));
}

/// 16 binary16 at `source` (any alignment) to float: exact.
inline void convert_chunk(const float16* source, float* target) noexcept {
    _mm512_storeu_ps(target, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source))));
}

}  // namespace moe::inline MOE_ABI::arch

#endif
