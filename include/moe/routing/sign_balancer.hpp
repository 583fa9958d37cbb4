#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "../core/error.hpp"

namespace moe::inline MOE_ABI {

/// Balances without a loss: Wang et al. 2024, "Auxiliary-loss-free load balancing strategy for mixture-of-experts"
/// (2408.15664), algorithm 1; DeepSeek-V3 (2412.19437), section 2.1.2. After each step
///
///     bias_e <- bias_e + rate * sign(mean of the counts - count_e)
///
/// and `TokenChoice{.selection_bias = balancer.bias}` uses it in the next. The user owns it; no layer changes it.
struct SignBalancer {
    double rate = 1e-3;         ///< DeepSeek-V3: 1e-3, and 0 for the last part of training
    std::vector<float> bias{};  ///< (n_experts)

    /// Starts with a bias of 0 for each of `n_experts`. Allocates, and moves `bias` where it grows.
    void reset(std::size_t n_experts) { bias.assign(n_experts, 0.0F); }

    /// `counts` (n_experts) tokens that each expert got in the step, on all machines (expert_counts.hpp). Compares with
    /// the mean exactly; a step without tokens changes nothing. Throws Error(shape, range): not one count an expert, a
    /// rate negative or not finite in float. O(n_experts), no allocation.
    void update(std::span<const std::uint64_t> counts) {
        ensure(counts.size() == bias.size(), ErrorCode::shape, "SignBalancer: ", counts.size(), " counts for ",
               bias.size(), " experts; reset(n_experts) sets their number");
        ensure(rate >= 0 && rate <= static_cast<double>((std::numeric_limits<float>::max)()), ErrorCode::range,
               "SignBalancer: rate is ", rate, ", it must be finite in float and not negative");
        if (counts.empty()) {
            return;
        }
        const std::uint64_t total = std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
        const std::uint64_t mean = total / counts.size();
        const bool above = total % counts.size() != 0;  // the mean lies between two integers
        for (std::size_t e = 0; e < counts.size(); ++e) {
            if (counts[e] < mean || (counts[e] == mean && above)) {
                bias[e] += static_cast<float>(rate);
            } else if (counts[e] > mean) {
                bias[e] -= static_cast<float>(rate);
            }
        }
    }
};

}  // namespace moe::inline MOE_ABI
