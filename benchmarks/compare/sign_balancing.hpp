#pragma once

#include <cstddef>
#include <numeric>
#include <span>

namespace compare {

/// Loss-free balancing (Wang et al. 2024, 2408.15664, algorithm 1; DeepSeek-V3): the bias of an expert with fewer
/// tokens than the mean grows by `rate`, that of one with more shrinks by it. Both spans (n_experts).
inline void balance_by_sign(std::span<const std::size_t> counts, double rate, std::span<float> bias) {
    const std::size_t sum = std::accumulate(counts.begin(), counts.end(), std::size_t{0});
    for (std::size_t e = 0; e < counts.size(); ++e) {
        const std::size_t scaled = counts[e] * counts.size();  // against sum: exact, where a mean would be rounded
        const int sign = scaled < sum ? 1 : scaled > sum ? -1 : 0;
        bias[e] += static_cast<float>(rate * sign);
    }
}

}  // namespace compare
