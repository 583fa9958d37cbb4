#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../simd.hpp"
#include "code_avx2.hpp"
#include "code_avx512.hpp"

#if !defined(__AVX512BW__) && !(defined(__AVX2__) && defined(__FMA__) && defined(__F16C__))

namespace moe::inline MOE_ABI::arch {

/// Codes of some outputs, four bytes each, on their way to floats: for processors without a file of their own. Vectors
/// of integers in any case, because no kernel may wait for a compiler to make them. See kernels/panel_decoder.hpp.
struct CodeLanes {
    using Codes = Vector<std::int32_t>;
    using Float = Vector<float>;
    static_assert(Codes::size == Float::size);
    static constexpr bool permutes_floats = false;
    struct Table {};  ///< see code_avx512.hpp

    static MOE_ALWAYS_INLINE Codes load(const std::byte* source) noexcept {
        std::array<std::int32_t, Codes::size> values;
        std::memcpy(values.data(), source, sizeof values);
        return Codes::load_unaligned(values.data());
    }
    static MOE_ALWAYS_INLINE Codes low_nibbles(const Codes& codes) noexcept { return codes & Codes(0x0F0F0F0F); }
    static MOE_ALWAYS_INLINE Codes high_nibbles(const Codes& codes) noexcept {
        return (codes >> 4) & Codes(0x0F0F0F0F);
    }

    /// Each byte less `zero_point`, as a signed number.
    static MOE_ALWAYS_INLINE Codes subtract(const Codes& codes, unsigned zero_point) noexcept {
        // the lower seven bits cannot borrow from a neighbour, whose highest bit is set; that bit is put right after
        const auto all = static_cast<std::int32_t>(zero_point * 0x01010101U);
        const Codes upper(static_cast<std::int32_t>(0x80808080U));
        return ((codes | upper) - Codes(all & 0x7F7F7F7F)) ^ ((codes ^ Codes(~all)) & upper);
    }

    /// Each byte 0..15 replaced by what it stands for.
    static MOE_ALWAYS_INLINE Codes look_up(const Codes& codes, const std::array<std::int8_t, 16>& table) noexcept {
        std::array<std::int32_t, Codes::size> values;
        codes.store_unaligned(values.data());
        std::array<std::uint8_t, sizeof values> bytes;
        std::memcpy(bytes.data(), values.data(), sizeof values);
        for (std::uint8_t& byte : bytes) {
            byte = static_cast<std::uint8_t>(table[byte]);
        }
        std::memcpy(values.data(), bytes.data(), sizeof values);
        return Codes::load_unaligned(values.data());
    }

    /// 2^24 times byte `B` of each four, a signed number: the byte is moved to the top, which costs no more than to the
    /// bottom and saves extending its sign.
    template <int B>
    static MOE_ALWAYS_INLINE Float large_byte(const Codes& codes) noexcept {
        return xsimd::to_float(top<B>(codes));
    }
    /// The same byte as it is.
    template <int B>
    static MOE_ALWAYS_INLINE Float byte(const Codes& codes) noexcept {
        return xsimd::to_float(Codes(top<B>(codes) >> 24));
    }

private:
    template <int B>
    static MOE_ALWAYS_INLINE Codes top(const Codes& codes) noexcept {
        if constexpr (B == 0) {
            return codes << 24;
        } else {
            return (codes << (24 - 8 * B)) & Codes(static_cast<std::int32_t>(0xFF000000U));
        }
    }
};

}  // namespace moe::inline MOE_ABI::arch

#endif
