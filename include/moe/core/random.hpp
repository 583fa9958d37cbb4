#pragma once

#include <cstdint>

#include "../config.hpp"

namespace moe::inline MOE_ABI {

/// Value number `counter` of the stream `seed`: a pure function, so any thread can make any value in any order.
/// SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", figure 15).
[[nodiscard]] constexpr std::uint64_t random_bits(std::uint64_t seed, std::uint64_t counter) noexcept {
    std::uint64_t z = (counter + 1) * 0x9E3779B97F4A7C15ULL + seed;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31U);
}

/// Uniform in [0, 1) with 24 random bits, exact in float.
[[nodiscard]] constexpr float random_uniform(std::uint64_t seed, std::uint64_t counter) noexcept {
    return static_cast<float>(random_bits(seed, counter) >> 40U) * 0x1p-24F;
}

}  // namespace moe::inline MOE_ABI
