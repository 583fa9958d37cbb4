#pragma once

#include <cmath>

#include <Eigen/Core>
#include <moe/core/half.hpp>

#include "config.hpp"

namespace generate {

/// theta^(-2i / head_dim), the angle from one position to the next of the pair i of a head: rotary positions (Su et al.
/// 2021, 2104.09864).
[[nodiscard]] inline double rope_frequency(const Config& config, Eigen::Index i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    double frequency = std::pow(config.rope_theta, exponent);
    if (!config.frequency_factors.empty()) {
        frequency /= static_cast<double>(config.frequency_factors[static_cast<std::size_t>(i)]);
    }
    return config.rounded_frequencies ? moe::to_float(moe::to_bfloat16(static_cast<float>(frequency))) : frequency;
}

}  // namespace generate
