#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "../../formats/element.hpp"
#include "../simd.hpp"
#include "intrinsics.hpp"

namespace moe::inline MOE_ABI::arch {

/// Weights of lanes<T> outputs whose inputs are neighbours, turned over in registers: a vector of all outputs for each
/// input, in order of the inputs. Each row is read by one load, a whole line with AVX-512: rows that are a power of two
/// apart share a set of the first-level cache, which has fewer ways than there are rows, and a second load would miss.
template <class W>
struct TurnedLines {
    static constexpr bool present = false;
};

#if defined(__AVX512F__) && defined(__AVX512BW__)

namespace turn {

inline constexpr std::size_t row_bytes = 64;
inline constexpr std::size_t quads = 4;
using Bits = Vector<std::int32_t>;

[[nodiscard]] MOE_ALWAYS_INLINE Bits load_row(const std::byte* row) noexcept { return Bits(_mm512_loadu_si512(row)); }
[[nodiscard]] MOE_ALWAYS_INLINE Bits low_4(Bits a, Bits b) noexcept { return _mm512_unpacklo_epi32(a, b); }
[[nodiscard]] MOE_ALWAYS_INLINE Bits high_4(Bits a, Bits b) noexcept { return _mm512_unpackhi_epi32(a, b); }
[[nodiscard]] MOE_ALWAYS_INLINE Bits low_8(Bits a, Bits b) noexcept { return _mm512_unpacklo_epi64(a, b); }
[[nodiscard]] MOE_ALWAYS_INLINE Bits high_8(Bits a, Bits b) noexcept { return _mm512_unpackhi_epi64(a, b); }

/// columns[c * step] = 128 bits `c` of each of four vectors.
template <std::size_t Step>
MOE_ALWAYS_INLINE void place(const std::array<Bits, quads>& v, Bits* columns) noexcept {
    constexpr int even = 0x88;
    constexpr int odd = 0xDD;
    const Bits a = _mm512_shuffle_i32x4(v[0], v[1], even);
    const Bits b = _mm512_shuffle_i32x4(v[2], v[3], even);
    const Bits c = _mm512_shuffle_i32x4(v[0], v[1], odd);
    const Bits d = _mm512_shuffle_i32x4(v[2], v[3], odd);
    columns[0] = _mm512_shuffle_i32x4(a, b, even);
    columns[Step] = _mm512_shuffle_i32x4(c, d, even);
    columns[2 * Step] = _mm512_shuffle_i32x4(a, b, odd);
    columns[3 * Step] = _mm512_shuffle_i32x4(c, d, odd);
}

[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> floats(Bits bits) noexcept { return _mm512_castsi512_ps(bits); }
[[nodiscard]] MOE_ALWAYS_INLINE Vector<double> doubles(Bits bits) noexcept { return _mm512_castsi512_pd(bits); }
[[nodiscard]] MOE_ALWAYS_INLINE Bits high_halves_cleared(Bits pairs) noexcept { return _mm512_slli_epi32(pairs, 16); }
[[nodiscard]] MOE_ALWAYS_INLINE Bits low_halves_cleared(Bits pairs) noexcept {
    return _mm512_and_si512(pairs, _mm512_set1_epi32(static_cast<int>(0xFFFF0000U)));
}

/// The first, then the second of all pairs.
MOE_ALWAYS_INLINE void widen(Bits pairs, Vector<float>& first, Vector<float>& second) noexcept {
    alignas(64) static constexpr std::array<short, 32> order{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
                                                             1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31};
    const Bits apart = _mm512_permutexvar_epi16(_mm512_load_si512(order.data()), pairs);
    first = _mm512_cvtph_ps(_mm512_castsi512_si256(apart));
    second = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(apart, 1));
}

}  // namespace turn

#elif defined(__AVX2__) && defined(__F16C__) && !defined(__AVX512F__)

namespace turn {

inline constexpr std::size_t row_bytes = 32;
inline constexpr std::size_t quads = 2;
using Bits = Vector<std::int32_t>;

[[nodiscard]] MOE_ALWAYS_INLINE Bits load_row(const std::byte* row) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row));
}
[[nodiscard]] MOE_ALWAYS_INLINE Bits low_4(Bits a, Bits b) noexcept { return _mm256_unpacklo_epi32(a, b); }
[[nodiscard]] MOE_ALWAYS_INLINE Bits high_4(Bits a, Bits b) noexcept { return _mm256_unpackhi_epi32(a, b); }
[[nodiscard]] MOE_ALWAYS_INLINE Bits low_8(Bits a, Bits b) noexcept { return _mm256_unpacklo_epi64(a, b); }
[[nodiscard]] MOE_ALWAYS_INLINE Bits high_8(Bits a, Bits b) noexcept { return _mm256_unpackhi_epi64(a, b); }

/// columns[c * step] = 128 bits `c` of each of two vectors.
template <std::size_t Step>
MOE_ALWAYS_INLINE void place(const std::array<Bits, quads>& v, Bits* columns) noexcept {
    columns[0] = _mm256_permute2x128_si256(v[0], v[1], 0x20);
    columns[Step] = _mm256_permute2x128_si256(v[0], v[1], 0x31);
}

[[nodiscard]] MOE_ALWAYS_INLINE Vector<float> floats(Bits bits) noexcept { return _mm256_castsi256_ps(bits); }
[[nodiscard]] MOE_ALWAYS_INLINE Vector<double> doubles(Bits bits) noexcept { return _mm256_castsi256_pd(bits); }
[[nodiscard]] MOE_ALWAYS_INLINE Bits high_halves_cleared(Bits pairs) noexcept { return _mm256_slli_epi32(pairs, 16); }
[[nodiscard]] MOE_ALWAYS_INLINE Bits low_halves_cleared(Bits pairs) noexcept {
    return _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xFFFF0000U)));
}

/// The first, then the second of all pairs.
MOE_ALWAYS_INLINE void widen(Bits pairs, Vector<float>& first, Vector<float>& second) noexcept {
    const Bits order = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0, 1, 4, 5, 8, 9, 12, 13,
                                        2, 3, 6, 7, 10, 11, 14, 15);
    const Bits apart = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(pairs, order), 0xD8);
    first = _mm256_cvtph_ps(_mm256_castsi256_si128(apart));
    second = _mm256_cvtph_ps(_mm256_extracti128_si256(apart, 1));
}

}  // namespace turn

#endif

#if (defined(__AVX512F__) && defined(__AVX512BW__)) || (defined(__AVX2__) && defined(__F16C__) && !defined(__AVX512F__))

/// 16-bit weights are turned over in pairs and then taken apart, half as many shuffles as the other way round.
template <WeightElement W>
struct TurnedLines<W> {
    using T = ComputeType<W>;

    static constexpr bool present = true;
    static constexpr std::size_t outputs = lanes<T>;
    static constexpr std::size_t inputs = turn::row_bytes / sizeof(W);
    /// Inputs whose vectors the registers hold at once, beside what is yet to be taken apart.
    static constexpr std::size_t part_inputs = turn::row_bytes / sizeof(T);
    static constexpr std::size_t parts = inputs / part_inputs;

    /// Rows of turn::row_bytes bytes from `source` on, `stride` bytes apart. Any alignment.
    MOE_ALWAYS_INLINE TurnedLines(const std::byte* source, std::size_t stride) noexcept {
        constexpr std::size_t step = 16 / sizeof(T);  // columns in 128 bits, and rows of a quad
        std::array<std::array<turn::Bits, turn::quads>, step> quad;
        MOE_UNROLL
        for (std::size_t q = 0; q < turn::quads; ++q) {
            const std::byte* const row = source + q * step * stride;
            const turn::Bits a = turn::load_row(row);
            const turn::Bits b = turn::load_row(row + stride);
            if constexpr (step == 4) {
                const turn::Bits c = turn::load_row(row + 2 * stride);
                const turn::Bits d = turn::load_row(row + 3 * stride);
                const turn::Bits ab_low = turn::low_4(a, b);
                const turn::Bits ab_high = turn::high_4(a, b);
                const turn::Bits cd_low = turn::low_4(c, d);
                const turn::Bits cd_high = turn::high_4(c, d);
                quad[0][q] = turn::low_8(ab_low, cd_low);
                quad[1][q] = turn::high_8(ab_low, cd_low);
                quad[2][q] = turn::low_8(ab_high, cd_high);
                quad[3][q] = turn::high_8(ab_high, cd_high);
            } else {
                quad[0][q] = turn::low_8(a, b);
                quad[1][q] = turn::high_8(a, b);
            }
        }
        MOE_UNROLL
        for (std::size_t j = 0; j < step; ++j) {
            turn::place<step>(quad[j], columns_.data() + j);
        }
    }

    /// Vectors of inputs [Part * part_inputs, (Part + 1) * part_inputs) in the compute type: exact.
    template <std::size_t Part>
    [[nodiscard]] MOE_ALWAYS_INLINE std::array<Vector<T>, part_inputs> part() const noexcept {
        std::array<Vector<T>, part_inputs> result;
        MOE_UNROLL
        for (std::size_t i = 0; i < part_inputs / parts; ++i) {
            const turn::Bits bits = columns_[Part * (part_inputs / parts) + i];
            if constexpr (std::is_same_v<W, double>) {
                result[i] = turn::doubles(bits);
            } else if constexpr (std::is_same_v<W, float>) {
                result[i] = turn::floats(bits);
            } else if constexpr (std::is_same_v<W, bfloat16>) {
                result[2 * i] = turn::floats(turn::high_halves_cleared(bits));
                result[2 * i + 1] = turn::floats(turn::low_halves_cleared(bits));
            } else {
                turn::widen(bits, result[2 * i], result[2 * i + 1]);
            }
        }
        return result;
    }

private:
    std::array<turn::Bits, part_inputs> columns_;
};

#endif

}  // namespace moe::inline MOE_ABI::arch
