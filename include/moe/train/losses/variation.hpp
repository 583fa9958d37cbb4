#pragma once

#include <cstddef>
#include <span>

#include "../../gating/strategies/noisy_top_k_load.hpp"

namespace moe::inline MOE_ABI::detail {

/// squared_variation(sums), times E / (E - 1) for the unbiased variance; `sums` becomes its gradient by them. With the
/// mean m and the value v it is 2 ((s_e - m) - m v) / (E m^2): differences first, which cancel at balance.
[[nodiscard]] inline double variation_backward(bool unbiased, std::span<double> sums) {
    const double n = static_cast<double>(sums.size());
    const double of_mean = moe::squared_variation(sums);
    const double factor = sums.size() < 2 ? 0 : (unbiased ? n / (n - 1) : 1);
    double mean = 0;
    for (const double sum : sums) {
        mean += sum;
    }
    mean /= n;
    for (double& sum : sums) {
        sum = mean == 0 || factor == 0 ? 0 : factor * 2 * ((sum - mean) - mean * of_mean) / (n * mean * mean);
    }
    return sums.size() < 2 ? 0 : factor * of_mean;
}

}  // namespace moe::inline MOE_ABI::detail
