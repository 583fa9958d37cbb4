#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../convert.hpp"
#include "integer_avx2.hpp"
#include "integer_avx512.hpp"
#include "integer_neon.hpp"

#if !defined(__AVX512BW__) && !(defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)) &&                         \
    !defined(__ARM_FEATURE_DOTPROD)

namespace moe::inline MOE_ABI::arch {

/// Some outputs of an integer product for processors without a kernel of their own: integers one by one, which the
/// compiler may vectorise, and the rest on xsimd's vectors. See kernels/quantized_tile.hpp.
struct IntegerLanes {
    using Float = Vector<float>;
    static constexpr std::size_t size = lanes<float>;
    using Integer = std::array<std::uint32_t, size>;
    static constexpr bool multiplies_unsigned = false;
    static constexpr const char* name = "plain integers";

    static MOE_ALWAYS_INLINE Integer load(const std::byte* source) noexcept {
        Integer result;
        std::memcpy(result.data(), source, sizeof result);
        return result;
    }
    static MOE_ALWAYS_INLINE Integer broadcast(const std::byte* source) noexcept {
        std::uint32_t value;
        std::memcpy(&value, source, sizeof value);
        Integer result;
        result.fill(value);
        return result;
    }
    static MOE_ALWAYS_INLINE Integer integer_zero() noexcept { return {}; }
    static MOE_ALWAYS_INLINE Integer low_nibbles(Integer codes) noexcept {
        for (std::uint32_t& four : codes) {
            four &= 0x0F0F0F0FU;
        }
        return codes;
    }
    static MOE_ALWAYS_INLINE Integer high_nibbles(Integer codes) noexcept {
        for (std::uint32_t& four : codes) {
            four = (four >> 4U) & 0x0F0F0F0FU;
        }
        return codes;
    }

    /// acc + the four products of each lane; codes of zero point 128 are taken as signed numbers.
    template <int ZeroPoint>
    static MOE_ALWAYS_INLINE Integer dot(Integer acc, const Integer& codes, const Integer& x) noexcept {
        constexpr int taken_off = ZeroPoint == 128 ? 128 : 0;
        for (std::size_t i = 0; i < size; ++i) {
            for (unsigned shift = 0; shift < 32; shift += 8) {
                const int code = static_cast<int>((codes[i] >> shift) & 0xFFU) - taken_off;
                const int value = static_cast<std::int8_t>((x[i] >> shift) & 0xFFU);
                acc[i] += static_cast<std::uint32_t>(code * value);
            }
        }
        return acc;
    }

    static MOE_ALWAYS_INLINE Float zero() noexcept { return Float(0.0F); }
    static MOE_ALWAYS_INLINE Float load_floats(const float* source) noexcept { return moe::load(source); }
    static MOE_ALWAYS_INLINE void store_floats(float* target, const Float& value) noexcept { store(target, value); }
    static MOE_ALWAYS_INLINE Float load_scales(const std::byte* source) noexcept {
        return load_converted(reinterpret_cast<const float16*>(source));
    }
    static MOE_ALWAYS_INLINE Float broadcast_float(const std::byte* source) noexcept {
        float value;
        std::memcpy(&value, source, sizeof value);
        return Float(value);
    }
    static MOE_ALWAYS_INLINE Float to_float(const Integer& value) noexcept {
        std::array<float, size> result;
        for (std::size_t i = 0; i < size; ++i) {
            result[i] = static_cast<float>(static_cast<std::int32_t>(value[i]));
        }
        return moe::load(result.data());
    }
    static MOE_ALWAYS_INLINE Float multiply(const Float& a, const Float& b) noexcept { return a * b; }
    static MOE_ALWAYS_INLINE Float multiply_add(const Float& a, const Float& b, const Float& c) noexcept {
        return moe::multiply_add<float>(a, b, c);
    }
};

}  // namespace moe::inline MOE_ABI::arch

#endif
