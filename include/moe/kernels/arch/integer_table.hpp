#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "integer_lanes.hpp"

namespace moe::inline MOE_ABI::arch {

/// Each byte 0..15 replaced by what the table has for it.
[[nodiscard]] MOE_ALWAYS_INLINE IntegerLanes::Integer look_up(const IntegerLanes::Integer& codes,
                                                              const std::array<std::uint8_t, 16>& table) noexcept {
#if defined(__AVX512BW__)
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table.data()));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), codes);
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table.data()));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), codes);
#else
    std::array<std::byte, sizeof codes> bytes;
    std::memcpy(bytes.data(), &codes, sizeof codes);
    for (std::byte& byte : bytes) {
        byte = std::byte{table[std::to_integer<std::size_t>(byte)]};
    }
    return IntegerLanes::load(bytes.data());
#endif
}

}  // namespace moe::inline MOE_ABI::arch
