#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../../config.hpp"

#if defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>

namespace moe::inline MOE_ABI::arch {

/// 4 outputs of an integer product with the dot product instruction of Armv8.2. See kernels/quantized_tile.hpp.
struct IntegerLanes {
    using Integer = int32x4_t;
    using Float = float32x4_t;
    static constexpr std::size_t size = 4;
    static constexpr bool multiplies_unsigned = false;
    static constexpr const char* name = "NEON dot product";

    static MOE_ALWAYS_INLINE Integer load(const std::byte* source) noexcept {
        return vreinterpretq_s32_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(source)));
    }
    static MOE_ALWAYS_INLINE Integer broadcast(const std::byte* source) noexcept {
        std::int32_t value;
        std::memcpy(&value, source, sizeof value);
        return vdupq_n_s32(value);
    }
    static MOE_ALWAYS_INLINE Integer integer_zero() noexcept { return vdupq_n_s32(0); }
    static MOE_ALWAYS_INLINE Integer low_nibbles(Integer codes) noexcept {
        return vreinterpretq_s32_u8(vandq_u8(vreinterpretq_u8_s32(codes), vdupq_n_u8(0x0F)));
    }
    static MOE_ALWAYS_INLINE Integer high_nibbles(Integer codes) noexcept {
        return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(codes), 4));
    }

    /// acc + the four products of each lane. sdot takes signed numbers: nibbles are, codes of zero point 128 become.
    template <int ZeroPoint>
    static MOE_ALWAYS_INLINE Integer dot(Integer acc, Integer codes, Integer x) noexcept {
        if constexpr (ZeroPoint == 128) {
            codes = veorq_s32(codes, vreinterpretq_s32_u8(vdupq_n_u8(0x80)));
        }
        return vdotq_s32(acc, vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(x));
    }

    static MOE_ALWAYS_INLINE Float zero() noexcept { return vdupq_n_f32(0.0F); }
    static MOE_ALWAYS_INLINE Float load_floats(const float* source) noexcept { return vld1q_f32(source); }
    static MOE_ALWAYS_INLINE void store_floats(float* target, Float value) noexcept { vst1q_f32(target, value); }
    static MOE_ALWAYS_INLINE Float load_scales(const std::byte* source) noexcept {
        return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const std::uint16_t*>(source))));
    }
    static MOE_ALWAYS_INLINE Float broadcast_float(const std::byte* source) noexcept {
        float value;
        std::memcpy(&value, source, sizeof value);
        return vdupq_n_f32(value);
    }
    static MOE_ALWAYS_INLINE Float to_float(Integer value) noexcept { return vcvtq_f32_s32(value); }
    static MOE_ALWAYS_INLINE Float multiply(Float a, Float b) noexcept { return vmulq_f32(a, b); }
    static MOE_ALWAYS_INLINE Float multiply_add(Float a, Float b, Float c) noexcept { return vfmaq_f32(c, a, b); }
};

}  // namespace moe::inline MOE_ABI::arch

#endif
