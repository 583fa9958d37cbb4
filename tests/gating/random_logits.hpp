#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "moe/core/random.hpp"

namespace moe_test {

inline constexpr std::array<std::size_t, 13> expert_counts{1, 2, 3, 7, 40, 60, 64, 65, 255, 256, 257, 384, 1000};

struct Dice {
    std::uint64_t seed;
    std::uint64_t count = 0;
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(moe::random_bits(seed, count++) % n); }
    bool one_in(std::size_t n) { return below(n) == 0; }
    float uniform(float low, float high) { return low + (high - low) * moe::random_uniform(seed, count++); }
    template <class... Choices>
    auto pick(Choices... choices) {
        return std::array{choices...}[below(sizeof...(choices))];
    }
};

/// One row of logits, all floats, so that float and double start from the same values.
inline std::vector<float> random_logits(Dice& dice, std::size_t n_experts) {
    constexpr float inf = std::numeric_limits<float>::infinity();
    const bool coarse = dice.one_in(2);
    const bool special = dice.one_in(4);
    const float spread = dice.pick(0.5F, 4.0F, 30.0F);
    std::vector<float> logits(n_experts);
    for (float& l : logits) {
        l = dice.uniform(-spread, spread);
        l = coarse ? std::round(l * 4) / 4 : l;
        if (special && dice.one_in(6)) {
            l = dice.pick(0.0F, -0.0F, inf, -inf, 1e-42F, -1e-42F, 0x1p-149F, 1e30F, -1e30F,
                          std::numeric_limits<float>::quiet_NaN());
        }
    }
    if (dice.one_in(100)) {
        std::fill(logits.begin(), logits.end(), std::numeric_limits<float>::quiet_NaN());
    }
    return logits;
}

}  // namespace moe_test
