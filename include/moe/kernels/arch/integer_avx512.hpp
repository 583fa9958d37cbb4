#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../../config.hpp"

#if defined(__AVX512BW__)
#include "intrinsics.hpp"

namespace moe::inline MOE_ABI::arch {

/// 16 outputs of an integer product. See kernels/quantized_tile.hpp.
struct IntegerLanes {
    using Integer = __m512i;
    using Float = __m512;
    static constexpr std::size_t size = 16;
#if defined(__AVX512VNNI__)
    static constexpr bool multiplies_unsigned = true;
    static constexpr const char* name = "AVX-512 VNNI";
#else
    static constexpr bool multiplies_unsigned = false;
    static constexpr const char* name = "AVX-512 BW";
#endif

    static MOE_ALWAYS_INLINE Integer load(const std::byte* source) noexcept { return _mm512_loadu_si512(source); }
    static MOE_ALWAYS_INLINE Integer broadcast(const std::byte* source) noexcept {
        std::int32_t value;
        std::memcpy(&value, source, sizeof value);
        return _mm512_set1_epi32(value);
    }
    static MOE_ALWAYS_INLINE Integer integer_zero() noexcept { return _mm512_setzero_si512(); }
    static MOE_ALWAYS_INLINE Integer low_nibbles(Integer codes) noexcept {
        return _mm512_and_si512(codes, _mm512_set1_epi8(0x0F));
    }
    static MOE_ALWAYS_INLINE Integer high_nibbles(Integer codes) noexcept {
        return _mm512_and_si512(_mm512_srli_epi32(codes, 4), _mm512_set1_epi8(0x0F));
    }

    /// acc + the four products of each lane. Unsigned codes; without VNNI those of zero point 128 are taken as signed
    /// numbers, because two products of 255 * 127 would saturate the 16 bits of vpmaddubsw.
    template <int ZeroPoint>
    static MOE_ALWAYS_INLINE Integer dot(Integer acc, Integer codes, Integer x) noexcept {
#if defined(__AVX512VNNI__)
        return _mm512_dpbusd_epi32(acc, codes, x);
#else
        if constexpr (ZeroPoint == 128) {
            const Integer weights = _mm512_xor_si512(codes, _mm512_set1_epi8(static_cast<char>(0x80)));
            const __mmask64 negative = _mm512_movepi8_mask(weights);
            x = _mm512_mask_sub_epi8(x, negative, _mm512_setzero_si512(), x);
            codes = _mm512_abs_epi8(weights);
        }
        const Integer pairs = _mm512_maddubs_epi16(codes, x);
        return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#endif
    }

    static MOE_ALWAYS_INLINE Float zero() noexcept { return _mm512_setzero_ps(); }
    static MOE_ALWAYS_INLINE Float load_floats(const float* source) noexcept { return _mm512_loadu_ps(source); }
    static MOE_ALWAYS_INLINE void store_floats(float* target, Float value) noexcept { _mm512_storeu_ps(target, value); }
    static MOE_ALWAYS_INLINE Float load_scales(const std::byte* source) noexcept {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
    }
    static MOE_ALWAYS_INLINE Float broadcast_float(const std::byte* source) noexcept {
        float value;
        std::memcpy(&value, source, sizeof value);
        return _mm512_set1_ps(value);
    }
    static MOE_ALWAYS_INLINE Float to_float(Integer value) noexcept { return _mm512_cvtepi32_ps(value); }
    static MOE_ALWAYS_INLINE Float multiply(Float a, Float b) noexcept { return _mm512_mul_ps(a, b); }
    static MOE_ALWAYS_INLINE Float multiply_add(Float a, Float b, Float c) noexcept { return _mm512_fmadd_ps(a, b, c); }
};

}  // namespace moe::inline MOE_ABI::arch

#endif
