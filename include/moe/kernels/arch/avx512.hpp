#pragma once

#include "../../core/half.hpp"

#if defined(__AVX512F__)
#include "intrinsics.hpp"

namespace moe::inline MOE_ABI::arch {

/// 16 bfloat16 at `source` (any alignment) as float: exact.
[[nodiscard]] MOE_ALWAYS_INLINE __m512 load_floats(const bfloat16* source) noexcept {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/// 16 binary16 at `source` (any alignment) as float: exact.
[[nodiscard]] MOE_ALWAYS_INLINE __m512 load_floats(const float16* source) noexcept {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
}

}  // namespace moe::inline MOE_ABI::arch

#endif
