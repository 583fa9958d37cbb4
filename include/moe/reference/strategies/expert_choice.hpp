#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "../routing.hpp"

/// Expert choice (Zhou et al. 2022, 2202.09368) in plain loops.
namespace moe::inline MOE_ABI::reference {

/// The fewest places that hold capacity_factor experts for each of the tokens; never more places than tokens.
[[nodiscard]] inline std::size_t expert_choice_capacity(std::size_t n_tokens, std::size_t n_experts,
                                                        double capacity_factor) {
    const double assignments = static_cast<double>(n_tokens) * capacity_factor * (1 - 1e-12);
    std::size_t places = 0;
    while (places < n_tokens && static_cast<double>(places * n_experts) < assignments) {
        ++places;
    }
    return places;
}

/// `scores[t]` (n_experts) of each token, all of them valid: experts of token t in ascending order, and their scores.
/// All pairs in the order of score, then (if `logits`, as many, are given) logit, then token, then expert; a pair is
/// taken while its expert and its token have room.
[[nodiscard]] inline std::vector<Choice> expert_choice(const std::vector<Vector>& scores, std::size_t capacity,
                                                       std::size_t max_per_token,
                                                       const std::vector<Vector>& logits = {}) {
    const std::size_t n_experts = scores.empty() ? 0 : scores[0].size();
    Vector pairs;
    for (const Vector& row : scores) {
        pairs.insert(pairs.end(), row.begin(), row.end());
    }
    Vector pair_logits;
    for (const Vector& row : logits) {
        pair_logits.insert(pair_logits.end(), row.begin(), row.end());
    }
    std::vector<ExpertId> order = logits.empty() ? top_k(pairs, pairs.size()) : top_k(pair_logits, pairs.size());
    std::vector<std::size_t> place(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
        place[static_cast<std::size_t>(order[i])] = i;
    }
    std::sort(order.begin(), order.end(), [&](ExpertId a, ExpertId b) {
        const auto i = static_cast<std::size_t>(a);
        const auto j = static_cast<std::size_t>(b);
        if (pairs[i] == pairs[j] || (std::isnan(pairs[i]) && std::isnan(pairs[j]))) {
            return place[i] < place[j];
        }
        return std::isnan(pairs[j]) || pairs[i] > pairs[j];
    });
    std::vector<std::vector<bool>> takes(scores.size(), std::vector<bool>(n_experts, false));
    std::vector<std::size_t> of_token(scores.size(), 0);
    std::vector<std::size_t> of_expert(n_experts, 0);
    for (const ExpertId pair : order) {
        const std::size_t t = static_cast<std::size_t>(pair) / n_experts;
        const std::size_t e = static_cast<std::size_t>(pair) % n_experts;
        if (of_token[t] < max_per_token && of_expert[e] < capacity) {
            takes[t][e] = true;
            ++of_token[t];
            ++of_expert[e];
        }
    }
    std::vector<Choice> choices(scores.size());
    for (std::size_t t = 0; t < scores.size(); ++t) {
        for (std::size_t e = 0; e < n_experts; ++e) {
            if (takes[t][e]) {
                choices[t].experts.push_back(static_cast<ExpertId>(e));
                choices[t].weights.push_back(scores[t][e]);
            }
        }
    }
    return choices;
}

}  // namespace moe::inline MOE_ABI::reference
