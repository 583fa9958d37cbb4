#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

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

/// Seed of stream number `stream` of the family `seed`: for draws that are numbered twice, by token and expert say.
[[nodiscard]] constexpr std::uint64_t random_stream(std::uint64_t seed, std::uint64_t stream) noexcept {
    return random_bits(seed, stream);
}

/// Uniform in (0, 1), the middle of one of 2^52 equal parts: exact in double, never 0 or 1.
[[nodiscard]] constexpr double random_open_uniform(std::uint64_t seed, std::uint64_t counter) noexcept {
    return (static_cast<double>(random_bits(seed, counter) >> 12U) + 0.5) * 0x1p-52;
}

/// Standard normal, by the transform of Box and Muller 1958, "A note on the generation of random normal deviates".
/// Takes the values 2 counter and 2 counter + 1 of the stream, so counter < 2^63; |value| < 8.6. The same bits wherever
/// the mathematics library is the same.
[[nodiscard]] inline double random_normal(std::uint64_t seed, std::uint64_t counter) noexcept {
    const double radius = std::sqrt(-2 * std::log(random_open_uniform(seed, 2 * counter)));
    return radius * std::cos(2 * std::numbers::pi * random_open_uniform(seed, 2 * counter + 1));
}

/// Standard Gumbel, by inverting its distribution exp(-exp(-x)). Added to logits it makes the greatest a sample of
/// their softmax (Gumbel 1954; Maddison, Tarlow, Minka 2014, "A* sampling").
[[nodiscard]] inline double random_gumbel(std::uint64_t seed, std::uint64_t counter) noexcept {
    return -std::log(-std::log(random_open_uniform(seed, counter)));
}

}  // namespace moe::inline MOE_ABI
