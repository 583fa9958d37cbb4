#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../simd.hpp"
#include "intrinsics.hpp"

namespace moe::inline MOE_ABI::arch {

/// Four bytes of each of lanes<float> outputs, an output a lane.
using Words = Vector<std::int32_t>;
static_assert(Words::size == lanes<float>);

/// 16 neighbouring bytes of each output: bytes 4 j to 4 j + 3 in word[j].
struct TurnedBytes {
    Words word[4];  // no std::array: see quantized_tile.hpp
};

[[nodiscard]] MOE_ALWAYS_INLINE Words repeat_byte(unsigned byte) noexcept {
    return Words(static_cast<std::int32_t>(byte * 0x01010101U));
}
/// All bits moved down, with zeros or copies of the sign behind them: for those who mask them away.
template <int N>
[[nodiscard]] MOE_ALWAYS_INLINE Words moved_down(const Words& words) noexcept {
    if constexpr (N == 0) {
        return words;
    } else {
        return words >> N;
    }
}
[[nodiscard]] MOE_ALWAYS_INLINE Words low_nibbles(const Words& words) noexcept { return words & repeat_byte(15); }
[[nodiscard]] MOE_ALWAYS_INLINE Words high_nibbles(const Words& words) noexcept {
    return moved_down<4>(words) & repeat_byte(15);
}
/// Half bytes 0 to 15 below others.
[[nodiscard]] MOE_ALWAYS_INLINE Words nibble_pairs(const Words& low, const Words& high) noexcept {
    return low | (high << 4);
}

#if defined(__AVX512F__) && defined(__AVX512BW__)

/// Of outputs at first + o * stride, any alignment. Loads place 128 bits each, so that no shuffle crosses them.
[[nodiscard]] MOE_ALWAYS_INLINE TurnedBytes turn_bytes(const std::byte* first, std::size_t stride) noexcept {
    const auto at = [&](std::size_t o) { return reinterpret_cast<const __m128i*>(first + o * stride); };
    const auto rows = [&](std::size_t o) MOE_INLINE_CALL {
        __m512i all = _mm512_castsi128_si512(_mm_loadu_si128(at(o)));
        all = _mm512_mask_broadcast_i32x4(all, 0x00F0, _mm_loadu_si128(at(4 + o)));
        all = _mm512_mask_broadcast_i32x4(all, 0x0F00, _mm_loadu_si128(at(8 + o)));
        return _mm512_mask_broadcast_i32x4(all, 0xF000, _mm_loadu_si128(at(12 + o)));
    };
    const __m512i a = rows(0);
    const __m512i b = rows(1);
    const __m512i c = rows(2);
    const __m512i d = rows(3);
    const __m512i ab_low = _mm512_unpacklo_epi32(a, b);
    const __m512i ab_high = _mm512_unpackhi_epi32(a, b);
    const __m512i cd_low = _mm512_unpacklo_epi32(c, d);
    const __m512i cd_high = _mm512_unpackhi_epi32(c, d);
    return {_mm512_unpacklo_epi64(ab_low, cd_low), _mm512_unpackhi_epi64(ab_low, cd_low),
            _mm512_unpacklo_epi64(ab_high, cd_high), _mm512_unpackhi_epi64(ab_high, cd_high)};
}
/// Byte b of all lanes at target[b].
MOE_ALWAYS_INLINE void store_byte_columns(const std::array<std::byte*, 4>& target, const Words& words) noexcept {
    const __m512i within = _mm512_set4_epi32(0x0F0B0703, 0x0E0A0602, 0x0D090501, 0x0C080400);
    const __m512i across = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i columns = _mm512_permutexvar_epi32(across, _mm512_shuffle_epi8(words, within));
    const auto at = [&](std::size_t b) { return reinterpret_cast<__m128i*>(target[b]); };
    _mm_storeu_si128(at(0), _mm512_castsi512_si128(columns));
    _mm_storeu_si128(at(1), _mm512_extracti32x4_epi32(columns, 1));
    _mm_storeu_si128(at(2), _mm512_extracti32x4_epi32(columns, 2));
    _mm_storeu_si128(at(3), _mm512_extracti32x4_epi32(columns, 3));
}
/// The lower half of each lane.
MOE_ALWAYS_INLINE void store_low_halves(std::byte* target, const Words& words) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), _mm512_cvtepi32_epi16(words));
}
MOE_ALWAYS_INLINE void store_words(std::byte* target, const Words& words) noexcept {
    _mm512_storeu_si512(target, words);
}

#elif defined(__AVX2__) && !defined(__AVX512F__)

[[nodiscard]] MOE_ALWAYS_INLINE TurnedBytes turn_bytes(const std::byte* first, std::size_t stride) noexcept {
    const auto at = [&](std::size_t o) { return reinterpret_cast<const __m128i*>(first + o * stride); };
    const auto rows = [&](std::size_t o) MOE_INLINE_CALL {
        return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(at(o))), _mm_loadu_si128(at(4 + o)), 1);
    };
    const __m256i a = rows(0);
    const __m256i b = rows(1);
    const __m256i c = rows(2);
    const __m256i d = rows(3);
    const __m256i ab_low = _mm256_unpacklo_epi32(a, b);
    const __m256i ab_high = _mm256_unpackhi_epi32(a, b);
    const __m256i cd_low = _mm256_unpacklo_epi32(c, d);
    const __m256i cd_high = _mm256_unpackhi_epi32(c, d);
    return {_mm256_unpacklo_epi64(ab_low, cd_low), _mm256_unpackhi_epi64(ab_low, cd_low),
            _mm256_unpacklo_epi64(ab_high, cd_high), _mm256_unpackhi_epi64(ab_high, cd_high)};
}
MOE_ALWAYS_INLINE void store_byte_columns(const std::array<std::byte*, 4>& target, const Words& words) noexcept {
    const __m128i within = _mm_setr_epi32(0x0C080400, 0x0D090501, 0x0E0A0602, 0x0F0B0703);
    const __m256i columns = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(within)),
                                                        _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    const __m128i low = _mm256_castsi256_si128(columns);
    const __m128i high = _mm256_extracti128_si256(columns, 1);
    const auto at = [&](std::size_t b) { return reinterpret_cast<__m128i*>(target[b]); };
    _mm_storel_epi64(at(0), low);
    _mm_storel_epi64(at(1), _mm_unpackhi_epi64(low, low));
    _mm_storel_epi64(at(2), high);
    _mm_storel_epi64(at(3), _mm_unpackhi_epi64(high, high));
}
MOE_ALWAYS_INLINE void store_low_halves(std::byte* target, const Words& words) noexcept {
    const __m256i order = _mm256_set1_epi64x(0x0D0C090805040100);
    const __m256i halves = _mm256_shuffle_epi8(words, order);
    const __m128i both = _mm_unpacklo_epi64(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(target), both);
}
MOE_ALWAYS_INLINE void store_words(std::byte* target, const Words& words) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), words);
}

#else

[[nodiscard]] MOE_ALWAYS_INLINE TurnedBytes turn_bytes(const std::byte* first, std::size_t stride) noexcept {
    TurnedBytes result;
    for (std::size_t j = 0; j < 4; ++j) {
        std::array<std::int32_t, Words::size> lane;
        for (std::size_t o = 0; o < lane.size(); ++o) {
            std::memcpy(&lane[o], first + o * stride + 4 * j, 4);
        }
        result.word[j] = Words::load_unaligned(lane.data());
    }
    return result;
}
MOE_ALWAYS_INLINE void store_words(std::byte* target, const Words& words) noexcept {
    std::array<std::int32_t, Words::size> lane;
    words.store_unaligned(lane.data());
    std::memcpy(target, lane.data(), sizeof lane);
}
MOE_ALWAYS_INLINE void store_byte_columns(const std::array<std::byte*, 4>& target, const Words& words) noexcept {
    std::array<std::uint32_t, Words::size> lane;
    store_words(reinterpret_cast<std::byte*>(lane.data()), words);
    for (std::size_t o = 0; o < lane.size(); ++o) {
        for (std::size_t b = 0; b < 4; ++b) {
            target[b][o] = static_cast<std::byte>((lane[o] >> (8 * b)) & 255U);
        }
    }
}
MOE_ALWAYS_INLINE void store_low_halves(std::byte* target, const Words& words) noexcept {
    std::array<std::uint32_t, Words::size> lane;
    store_words(reinterpret_cast<std::byte*>(lane.data()), words);
    for (std::size_t o = 0; o < lane.size(); ++o) {
        const auto half = static_cast<std::uint16_t>(lane[o] & 0xFFFFU);
        std::memcpy(target + o * sizeof half, &half, sizeof half);
    }
}

#endif

}  // namespace moe::inline MOE_ABI::arch
