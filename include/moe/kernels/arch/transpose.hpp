#pragma once

#include <concepts>
#include <cstddef>
#include <type_traits>

#include "../simd.hpp"

namespace moe::inline MOE_ABI::arch {

/// Whether squares of lanes<T> x lanes<T> values are turned over by shuffles.
template <class T>
inline constexpr bool shuffles_squares = false;

#if defined(__AVX512F__) || defined(__AVX__)

/// Of four doubles that is no faster than one by one.
template <std::floating_point T>
inline constexpr bool shuffles_squares<T> = lanes<T> >= 8;

/// Values of T in 128 bits, within which the unpacking instructions stay.
template <class T>
inline constexpr std::size_t quarter = 16 / sizeof(T);

/// The 128 bits at source + (lane * quarter + row) * stride, for each lane of a vector: their loads place them, so that
/// no shuffle has to cross from lane to lane. Any alignment.
template <class T>
[[nodiscard]] MOE_ALWAYS_INLINE auto load_lanes(const T* source, std::size_t stride, std::size_t row) noexcept {
    const auto part = [&](std::size_t lane) {
        return _mm_loadu_ps(reinterpret_cast<const float*>(source + (lane * quarter<T> + row) * stride));
    };
#if defined(__AVX512F__)
    __m512 all = _mm512_castps128_ps512(part(0));
    all = _mm512_mask_broadcast_f32x4(all, 0x00F0, part(1));
    all = _mm512_mask_broadcast_f32x4(all, 0x0F00, part(2));
    return _mm512_mask_broadcast_f32x4(all, 0xF000, part(3));
#else
    return _mm256_insertf128_ps(_mm256_castps128_ps256(part(0)), part(1), 1);
#endif
}

#if defined(__AVX512F__)
[[nodiscard]] MOE_ALWAYS_INLINE __m512 unpack_low(__m512 a, __m512 b) noexcept { return _mm512_unpacklo_ps(a, b); }
[[nodiscard]] MOE_ALWAYS_INLINE __m512 unpack_high(__m512 a, __m512 b) noexcept { return _mm512_unpackhi_ps(a, b); }
[[nodiscard]] MOE_ALWAYS_INLINE __m512 unpack_low_pairs(__m512 a, __m512 b) noexcept {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
[[nodiscard]] MOE_ALWAYS_INLINE __m512 unpack_high_pairs(__m512 a, __m512 b) noexcept {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
template <class T>
MOE_ALWAYS_INLINE void store_lanes(T* target, __m512 value) noexcept {
    _mm512_storeu_ps(reinterpret_cast<float*>(target), value);
}
#else
[[nodiscard]] MOE_ALWAYS_INLINE __m256 unpack_low(__m256 a, __m256 b) noexcept { return _mm256_unpacklo_ps(a, b); }
[[nodiscard]] MOE_ALWAYS_INLINE __m256 unpack_high(__m256 a, __m256 b) noexcept { return _mm256_unpackhi_ps(a, b); }
[[nodiscard]] MOE_ALWAYS_INLINE __m256 unpack_low_pairs(__m256 a, __m256 b) noexcept {
    return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
[[nodiscard]] MOE_ALWAYS_INLINE __m256 unpack_high_pairs(__m256 a, __m256 b) noexcept {
    return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
template <class T>
MOE_ALWAYS_INLINE void store_lanes(T* target, __m256 value) noexcept {
    _mm256_storeu_ps(reinterpret_cast<float*>(target), value);
}
#endif

/// target[c * target_stride + r] = source[r * stride + c] for r, c < lanes<T>, float or double. Any alignment.
template <class T>
MOE_ALWAYS_INLINE void transpose_square(const T* source, std::size_t stride, T* target,
                                        std::size_t target_stride) noexcept {
    MOE_UNROLL
    for (std::size_t c = 0; c < lanes<T>; c += quarter<T>) {
        T* const to = target + c * target_stride;
        const auto a = load_lanes(source + c, stride, 0);
        const auto b = load_lanes(source + c, stride, 1);
        if constexpr (std::is_same_v<T, float>) {
            const auto d = load_lanes(source + c, stride, 2);
            const auto e = load_lanes(source + c, stride, 3);
            const auto ab_low = unpack_low(a, b);
            const auto ab_high = unpack_high(a, b);
            const auto de_low = unpack_low(d, e);
            const auto de_high = unpack_high(d, e);
            store_lanes(to, unpack_low_pairs(ab_low, de_low));
            store_lanes(to + target_stride, unpack_high_pairs(ab_low, de_low));
            store_lanes(to + 2 * target_stride, unpack_low_pairs(ab_high, de_high));
            store_lanes(to + 3 * target_stride, unpack_high_pairs(ab_high, de_high));
        } else {
            store_lanes(to, unpack_low_pairs(a, b));
            store_lanes(to + target_stride, unpack_high_pairs(a, b));
        }
    }
}

#else

template <class T>
void transpose_square(const T* source, std::size_t stride, T* target, std::size_t target_stride) = delete;

#endif

}  // namespace moe::inline MOE_ABI::arch
