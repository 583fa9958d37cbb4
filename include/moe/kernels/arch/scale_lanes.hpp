#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../../formats/blocks/tables.hpp"
#include "../simd.hpp"

namespace moe::inline MOE_ABI::arch {

/// Bytes at `source`, any alignment, as a vector of floats: scales of blocks. All are exact.

#if defined(__AVX512F__)

[[nodiscard]] MOE_ALWAYS_INLINE __m512i load_unsigned_integers(const std::byte* source) noexcept {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
}
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_unsigned_bytes(const std::byte* source) noexcept {
    return _mm512_cvtepi32_ps(load_unsigned_integers(source));
}
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_signed_bytes(const std::byte* source) noexcept {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source))));
}
/// 2^(e - 128): an exponent of e - 1, or where that is none the subnormals of 0 and 1, the bits 2^21 and 2^22.
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_powers_of_two(const std::byte* source) noexcept {
    const __m512i e = load_unsigned_integers(source);
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    const __m512i small = _mm512_slli_epi32(_mm512_add_epi32(e, _mm512_set1_epi32(1)), 21);
    return _mm512_castsi512_ps(_mm512_max_epi32(normal, _mm512_min_epi32(small, _mm512_set1_epi32(0x400000))));
}
/// Half of an E4M3 number of 7 bits: as the bits of a binary16 number it is 2^-8 of itself.
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_half_e4m3(const std::byte* source) noexcept {
    const __m256i bytes = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
    return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_slli_epi16(bytes, 7)), _mm512_set1_ps(128.0F));
}

#elif defined(__AVX2__) && defined(__F16C__)

[[nodiscard]] MOE_ALWAYS_INLINE __m256i load_unsigned_integers(const std::byte* source) noexcept {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source)));
}
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_unsigned_bytes(const std::byte* source) noexcept {
    return _mm256_cvtepi32_ps(load_unsigned_integers(source));
}
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_signed_bytes(const std::byte* source) noexcept {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source))));
}
/// 2^(e - 128): an exponent of e - 1, or where that is none the subnormals of 0 and 1, the bits 2^21 and 2^22.
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_powers_of_two(const std::byte* source) noexcept {
    const __m256i e = load_unsigned_integers(source);
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    const __m256i small = _mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(1)), 21);
    return _mm256_castsi256_ps(_mm256_max_epi32(normal, _mm256_min_epi32(small, _mm256_set1_epi32(0x400000))));
}
/// Half of an E4M3 number of 7 bits: as the bits of a binary16 number it is 2^-8 of itself.
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_half_e4m3(const std::byte* source) noexcept {
    const __m128i bytes = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source)));
    return _mm256_mul_ps(_mm256_cvtph_ps(_mm_slli_epi16(bytes, 7)), _mm256_set1_ps(128.0F));
}

#else

template <class Function>
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> each_byte(const std::byte* source, Function&& function) noexcept {
    std::array<float, lanes<float> > values;
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = function(std::to_integer<std::uint8_t>(source[i]));
    }
    return moe::load(values.data());
}

[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_unsigned_bytes(const std::byte* source) noexcept {
    return each_byte(source, [](std::uint8_t byte) { return static_cast<float>(byte); });
}
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_signed_bytes(const std::byte* source) noexcept {
    return each_byte(source, [](std::uint8_t byte) { return static_cast<float>(static_cast<std::int8_t>(byte)); });
}
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_powers_of_two(const std::byte* source) noexcept {
    return each_byte(source, [](std::uint8_t byte) { return moe::detail::power_of_two(byte); });
}
[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> load_half_e4m3(const std::byte* source) noexcept {
    // with a sign, which does not count, no bits are a NaN
    return each_byte(source, [](std::uint8_t byte) { return moe::detail::half_of_e4m3(byte | 0x80U); });
}

#endif

}  // namespace moe::inline MOE_ABI::arch
