#pragma once

#include <cstddef>
#include <vector>

#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// The experts of row t of `table` (n_tokens, k) up to the first no_expert, with the weights they have by the rule.
[[nodiscard]] inline Choice forced(const TokenChoiceRule& rule, const Vector& logits,
                                   const std::vector<ExpertId>& table, std::size_t k, std::size_t t) {
    std::vector<ExpertId> experts;
    for (std::size_t slot = 0; slot < k && table[t * k + slot] != no_expert; ++slot) {
        experts.push_back(table[t * k + slot]);
    }
    return weighed(rule, logits, experts);
}

}  // namespace moe::inline MOE_ABI::reference
