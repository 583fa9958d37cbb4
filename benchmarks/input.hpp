#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

#include <moe/core/random.hpp>

namespace bench {

/// Values first, first + 1, ... of a stream: normal, mean 0, variance 1 (Box and Muller 1958).
[[nodiscard]] inline std::vector<float> random_normal(std::uint64_t seed, std::size_t first, std::size_t count) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
        const float u = 1.0F - moe::random_uniform(seed, 2 * (first + i));
        const float v = moe::random_uniform(seed, 2 * (first + i) + 1);
        values[i] = std::sqrt(-2.0F * std::log(u)) * std::cos(2.0F * std::numbers::pi_v<float> * v);
    }
    return values;
}

/// Activations.
[[nodiscard]] inline std::vector<float> random_input(std::size_t count) { return random_normal(3, 0, count); }

}  // namespace bench
