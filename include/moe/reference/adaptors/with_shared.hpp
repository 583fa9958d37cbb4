#pragma once

#include <cstddef>

#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// A rule over the routed experts as one over all `n_experts`: the shared ones are multiplied by no scale of their own.
[[nodiscard]] inline TokenChoiceRule rule_of_all(TokenChoiceRule rule, std::size_t n_experts) {
    if (!rule.per_expert_scale.empty()) {
        rule.per_expert_scale.resize(n_experts, 1.0);
    }
    return rule;
}

/// The experts that the rule chooses among all but the last `n_shared`, then these, weighed together.
[[nodiscard]] inline Choice with_shared(const TokenChoiceRule& rule, const Vector& logits, std::size_t n_shared) {
    const std::size_t routed = logits.size() - n_shared;
    const Vector among(logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(routed));
    std::vector<ExpertId> experts = route(rule, among).experts;
    for (std::size_t s = 0; s < n_shared; ++s) {
        experts.push_back(static_cast<ExpertId>(routed + s));
    }
    return weighed(rule_of_all(rule, logits.size()), logits, experts);
}

}  // namespace moe::inline MOE_ABI::reference
