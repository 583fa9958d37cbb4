#pragma once

#include <cstddef>
#include <vector>

#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// The experts whose score exceeds their threshold (n_experts), best first, at most `limit` (0: all); the best of all
/// where there is none and `keep_best`.
[[nodiscard]] inline std::vector<ExpertId> above_threshold(const Vector& scores, const Vector& logits,
                                                           const Vector& thresholds, std::size_t limit, bool keep_best,
                                                           bool ties_by_logit) {
    const std::vector<ExpertId> ranking = top_k_of_allowed(scores, logits, scores.size(), ties_by_logit);
    std::vector<ExpertId> chosen;
    for (const ExpertId e : ranking) {
        const auto i = static_cast<std::size_t>(e);
        if (scores[i] > thresholds[i] && (limit == 0 || chosen.size() < limit)) {
            chosen.push_back(e);
        }
    }
    if (chosen.empty() && keep_best) {
        chosen.push_back(ranking.front());
    }
    return chosen;
}

}  // namespace moe::inline MOE_ABI::reference
