#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../../config.hpp"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) && !defined(__AVX512BW__)
#include "intrinsics.hpp"

namespace moe::inline MOE_ABI::arch {

/// Codes of 8 outputs, four bytes each, on their way to floats. See kernels/panel_decoder.hpp.
struct CodeLanes {
    using Codes = __m256i;
    using Float = __m256;
    static constexpr bool permutes_floats = false;
    struct Table {};  ///< see code_avx512.hpp

    static MOE_ALWAYS_INLINE Codes load(const std::byte* source) noexcept {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
    }
    static MOE_ALWAYS_INLINE Codes low_nibbles(Codes codes) noexcept {
        return _mm256_and_si256(codes, _mm256_set1_epi8(0x0F));
    }
    static MOE_ALWAYS_INLINE Codes high_nibbles(Codes codes) noexcept {
        return _mm256_and_si256(_mm256_srli_epi32(codes, 4), _mm256_set1_epi8(0x0F));
    }

    /// Each byte less `zero_point`, as a signed number.
    static MOE_ALWAYS_INLINE Codes subtract(Codes codes, unsigned zero_point) noexcept {
        return _mm256_sub_epi8(codes, _mm256_set1_epi8(static_cast<char>(zero_point)));
    }

    /// Each byte 0..15 replaced by what it stands for.
    static MOE_ALWAYS_INLINE Codes look_up(Codes codes, const std::array<std::int8_t, 16>& table) noexcept {
        const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table.data()));
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), codes);
    }

    /// 2^24 times byte `B` of each four, a signed number: the byte is moved to the top, which costs no more than to the
    /// bottom and saves extending its sign.
    template <int B>
    static MOE_ALWAYS_INLINE Float large_byte(Codes codes) noexcept {
        return _mm256_cvtepi32_ps(top<B>(codes));
    }
    /// The same byte as it is.
    template <int B>
    static MOE_ALWAYS_INLINE Float byte(Codes codes) noexcept {
        return _mm256_cvtepi32_ps(_mm256_srai_epi32(top<B>(codes), 24));
    }

private:
    template <int B>
    static MOE_ALWAYS_INLINE Codes top(Codes codes) noexcept {
        if constexpr (B == 0) {
            return _mm256_slli_epi32(codes, 24);
        } else if constexpr (B == 3) {
            return _mm256_and_si256(codes, _mm256_set1_epi32(static_cast<int>(0xFF000000U)));
        } else {
            constexpr int none = 0x00808080;  // a byte with this bit set becomes zero
            const __m128i order = _mm_setr_epi32(none | (B << 24), none | ((4 + B) << 24), none | ((8 + B) << 24),
                                                 none | ((12 + B) << 24));
            return _mm256_shuffle_epi8(codes, _mm256_broadcastsi128_si256(order));
        }
    }
};

}  // namespace moe::inline MOE_ABI::arch

#endif
