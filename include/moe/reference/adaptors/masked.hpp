#pragma once

#include <cstddef>
#include <limits>
#include <vector>

#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// The experts of a choice that are allowed; `renormalize`: their weights divided by their sum, if that is positive.
[[nodiscard]] inline Choice only_allowed(const Choice& choice, const std::vector<bool>& allowed, bool renormalize) {
    Choice left;
    double sum = 0;
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        if (allowed[static_cast<std::size_t>(choice.experts[slot])]) {
            left.experts.push_back(choice.experts[slot]);
            left.weights.push_back(choice.weights[slot]);
            sum += choice.weights[slot];
        }
    }
    for (double& w : left.weights) {
        w = renormalize && sum > 0 ? w / sum : w;
    }
    return left;
}

/// The choice by a rule that sees no logit of the experts not allowed, without those it takes all the same.
[[nodiscard]] inline Choice masked(const TokenChoiceRule& rule, Vector logits, const std::vector<bool>& allowed,
                                   bool renormalize) {
    for (std::size_t e = 0; e < logits.size(); ++e) {
        if (!allowed[e]) {
            logits[e] = -std::numeric_limits<double>::infinity();
        }
    }
    return only_allowed(route(rule, logits), allowed, renormalize);
}

}  // namespace moe::inline MOE_ABI::reference
