#pragma once

#include <cstddef>
#include <vector>

#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// The k best experts of each group of neighbours, group by group.
[[nodiscard]] inline std::vector<ExpertId> top_k_per_group(const Vector& scores, const Vector& logits,
                                                           std::size_t n_groups, std::size_t k, bool ties_by_logit) {
    const std::size_t members = scores.size() / n_groups;
    const std::vector<ExpertId> ranking = top_k_of_allowed(scores, logits, scores.size(), ties_by_logit);
    std::vector<ExpertId> chosen;
    for (std::size_t g = 0; g < n_groups; ++g) {
        std::size_t taken = 0;
        for (const ExpertId e : ranking) {
            if (static_cast<std::size_t>(e) / members == g && taken < k) {
                chosen.push_back(e);
                ++taken;
            }
        }
    }
    return chosen;
}

}  // namespace moe::inline MOE_ABI::reference
