#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace trainer {

/// How the learning rate goes: up to `rate` within `warm_up` steps, then down to a tenth along half a cosine.
struct Schedule {
    double rate = 3e-3;
    std::uint64_t warm_up = 10;
    std::uint64_t n_steps = 1;

    /// Of step 0, 1, ..., n_steps - 1.
    [[nodiscard]] double at(std::uint64_t step) const {
        const double up = static_cast<double>(step + 1) / static_cast<double>(std::max<std::uint64_t>(warm_up, 1));
        const double phase = std::numbers::pi * static_cast<double>(step) / static_cast<double>(n_steps);
        return rate * std::min(1.0, up) * (0.1 + 0.45 * (1 + std::cos(phase)));
    }
};

}  // namespace trainer
