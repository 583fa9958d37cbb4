#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "../../core/index.hpp"
#include "../../core/random.hpp"

namespace moe::inline MOE_ABI::reference {

/// k distinct experts: draw number position * k + slot takes one out of those left, in whose place comes the first.
[[nodiscard]] inline std::vector<ExpertId> random_choice(std::uint64_t seed, std::uint64_t position,
                                                         std::size_t n_experts, std::size_t k) {
    std::vector<ExpertId> left(n_experts);
    std::iota(left.begin(), left.end(), ExpertId{0});
    std::vector<ExpertId> chosen;
    while (chosen.size() < k) {
        const std::size_t i = random_bits(seed, position * k + chosen.size()) % left.size();
        chosen.push_back(left[i]);
        left[i] = left.front();
        left.erase(left.begin());
    }
    return chosen;
}

/// The experts in turn, k a token: token after token up to `position`.
[[nodiscard]] inline std::vector<ExpertId> round_robin(std::uint64_t position, std::size_t n_experts, std::size_t k) {
    std::vector<ExpertId> chosen(k);
    std::size_t next = 0;
    for (std::uint64_t token = 0; token <= position; ++token) {
        for (ExpertId& e : chosen) {
            e = static_cast<ExpertId>(next);
            next = next + 1 == n_experts ? 0 : next + 1;
        }
    }
    return chosen;
}

}  // namespace moe::inline MOE_ABI::reference
