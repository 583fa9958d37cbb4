#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../../config.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && !defined(__AVX512BW__)
#include "intrinsics.hpp"

namespace moe::inline MOE_ABI::arch {

/// 8 outputs of an integer product. See kernels/quantized_tile.hpp.
struct IntegerLanes {
    using Integer = __m256i;
    using Float = __m256;
    static constexpr std::size_t size = 8;
    static constexpr bool multiplies_unsigned = false;
    static constexpr const char* name = "AVX2";

    static MOE_ALWAYS_INLINE Integer load(const std::byte* source) noexcept {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
    }
    static MOE_ALWAYS_INLINE Integer broadcast(const std::byte* source) noexcept {
        std::int32_t value;
        std::memcpy(&value, source, sizeof value);
        return _mm256_set1_epi32(value);
    }
    static MOE_ALWAYS_INLINE Integer integer_zero() noexcept { return _mm256_setzero_si256(); }
    static MOE_ALWAYS_INLINE Integer low_nibbles(Integer codes) noexcept {
        return _mm256_and_si256(codes, _mm256_set1_epi8(0x0F));
    }
    static MOE_ALWAYS_INLINE Integer high_nibbles(Integer codes) noexcept {
        return _mm256_and_si256(_mm256_srli_epi32(codes, 4), _mm256_set1_epi8(0x0F));
    }

    /// acc + the four products of each lane. Codes of zero point 128 are taken as signed numbers: two products of
    /// 255 * 127 would saturate the 16 bits of vpmaddubsw, two of 127 * 127 do not.
    template <int ZeroPoint>
    static MOE_ALWAYS_INLINE Integer dot(Integer acc, Integer codes, Integer x) noexcept {
        if constexpr (ZeroPoint == 128) {
            const Integer weights = _mm256_xor_si256(codes, _mm256_set1_epi8(static_cast<char>(0x80)));
            x = _mm256_sign_epi8(x, weights);
            codes = _mm256_abs_epi8(weights);
        }
        const Integer pairs = _mm256_maddubs_epi16(codes, x);
        return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }

    static MOE_ALWAYS_INLINE Float zero() noexcept { return _mm256_setzero_ps(); }
    static MOE_ALWAYS_INLINE Float load_floats(const float* source) noexcept { return _mm256_loadu_ps(source); }
    static MOE_ALWAYS_INLINE void store_floats(float* target, Float value) noexcept { _mm256_storeu_ps(target, value); }
    static MOE_ALWAYS_INLINE Float load_scales(const std::byte* source) noexcept {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
    }
    static MOE_ALWAYS_INLINE Float broadcast_float(const std::byte* source) noexcept {
        float value;
        std::memcpy(&value, source, sizeof value);
        return _mm256_set1_ps(value);
    }
    static MOE_ALWAYS_INLINE Float to_float(Integer value) noexcept { return _mm256_cvtepi32_ps(value); }
    static MOE_ALWAYS_INLINE Float multiply(Float a, Float b) noexcept { return _mm256_mul_ps(a, b); }
    static MOE_ALWAYS_INLINE Float multiply_add(Float a, Float b, Float c) noexcept { return _mm256_fmadd_ps(a, b, c); }
};

}  // namespace moe::inline MOE_ABI::arch

#endif
