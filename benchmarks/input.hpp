#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <moe/core/random.hpp>

namespace bench {

/// Values first, first + 1, ... of a stream: those of moe::random_normal.
[[nodiscard]] inline std::vector<float> random_normal(std::uint64_t seed, std::size_t first, std::size_t count) {
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = static_cast<float>(moe::random_normal(seed, first + i));
    }
    return values;
}

/// Activations.
[[nodiscard]] inline std::vector<float> random_input(std::size_t count) { return random_normal(5, 0, count); }

}  // namespace bench
