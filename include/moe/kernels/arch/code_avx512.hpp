#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../../config.hpp"

#if defined(__AVX512BW__)
#include "intrinsics.hpp"

namespace moe::inline MOE_ABI::arch {

/// Codes of 16 outputs, four bytes each, on their way to floats. See kernels/panel_decoder.hpp.
struct CodeLanes {
    using Codes = __m512i;
    using Float = __m512;
    /// A vector holds the floats of all 16 codes of 4 bits: looked up, they need not be converted.
    static constexpr bool permutes_floats = true;
    using Table = __m512;

    static MOE_ALWAYS_INLINE Codes load(const std::byte* source) noexcept { return _mm512_loadu_si512(source); }
    static MOE_ALWAYS_INLINE Table load_table(const float* values) noexcept { return _mm512_loadu_ps(values); }

    /// What half byte `N` of each four bytes stands for. Only the lowest four bits of an index count.
    template <int N>
    static MOE_ALWAYS_INLINE Float nibble(Codes codes, Table table) noexcept {
        if constexpr (N == 0) {
            return _mm512_permutexvar_ps(codes, table);
        } else {
            return _mm512_permutexvar_ps(_mm512_srli_epi32(codes, 4 * N), table);
        }
    }

    /// Each byte less `zero_point`, as a signed number.
    static MOE_ALWAYS_INLINE Codes subtract(Codes codes, unsigned zero_point) noexcept {
        return _mm512_sub_epi8(codes, _mm512_set1_epi8(static_cast<char>(zero_point)));
    }

    /// 2^24 times byte `B` of each four, a signed number: the byte is moved to the top, which costs no more than to the
    /// bottom and saves extending its sign.
    template <int B>
    static MOE_ALWAYS_INLINE Float large_byte(Codes codes) noexcept {
        if constexpr (B == 0) {
            return _mm512_cvtepi32_ps(_mm512_slli_epi32(codes, 24));
        } else if constexpr (B == 3) {
            return _mm512_cvtepi32_ps(_mm512_and_si512(codes, _mm512_set1_epi32(static_cast<int>(0xFF000000U))));
        } else {
            constexpr int none = 0x00808080;  // a byte with this bit set becomes zero
            const __m512i order = _mm512_set4_epi32(none | ((12 + B) << 24), none | ((8 + B) << 24),
                                                    none | ((4 + B) << 24), none | (B << 24));
            return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(codes, order));
        }
    }
};

}  // namespace moe::inline MOE_ABI::arch

#endif
