#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// The best experts of a token until their scores reach `mass` of the sum of all (never, if mass is 1) or none of
/// score above 0 is left; at least one, at most `limit` (0: all).
[[nodiscard]] inline std::vector<ExpertId> top_p(const Vector& scores, const Vector& logits, double mass,
                                                 std::size_t limit, bool ties_by_logit) {
    double all = 0;
    for (const double s : scores) {
        all += s;
    }
    std::vector<ExpertId> chosen;
    double gathered = 0;
    for (const ExpertId e : top_k_of_allowed(scores, logits, scores.size(), ties_by_logit)) {
        const double s = scores[static_cast<std::size_t>(e)];
        const bool wants_more = mass == 1 || gathered < mass * all;
        const bool may_have_more = limit == 0 || chosen.size() < limit;
        const bool has_more = s > 0 && std::isfinite(gathered);
        if (chosen.empty() || (wants_more && may_have_more && has_more)) {
            chosen.push_back(e);
            gathered += s;
        }
    }
    return chosen;
}

}  // namespace moe::inline MOE_ABI::reference
