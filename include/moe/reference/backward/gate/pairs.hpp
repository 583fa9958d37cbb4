#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../../strategies/gshard.hpp"
#include "../../strategies/top_n_threshold.hpp"
#include "gate.hpp"

/// Gates that normalise before they let some of their candidates go: those still share in what they were divided by.
namespace moe::inline MOE_ABI::reference {

/// d_weights of `choice`, by the place of its experts among `candidates`; 0 for those it is without.
[[nodiscard]] inline Vector among_candidates(const std::vector<ExpertId>& candidates, const Choice& choice,
                                             const Vector& d_weights) {
    Vector d(candidates.size(), 0.0);
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        for (std::size_t i = 0; i < candidates.size(); ++i) {
            d[i] += candidates[i] == choice.experts[slot] ? d_weights[slot] : 0;
        }
    }
    return d;
}

/// Of top_n_threshold: `choice` are those of the best n that were kept.
[[nodiscard]] inline Vector top_n_threshold_backward(const Vector& logits, std::size_t n, const Choice& choice,
                                                     const Vector& d_weights) {
    const TokenChoiceRule rule{.norm = Norm::clamped_sum, .norm_value = 1e-9};
    const Choice best{top_k(logits, n), {}};
    return gate_backward(rule, logits, best, among_candidates(best.experts, choice, d_weights));
}

/// Of gshard, whose norm is that of `rule` (nothing else of it is read): `choice` are both experts of the token, or the
/// first.
[[nodiscard]] inline Vector gshard_backward(const TokenChoiceRule& rule, Second policy, const Vector& logits,
                                            std::uint64_t stream, const Choice& choice, const Vector& d_weights) {
    const TokenChoiceRule of_pair{.norm = rule.norm, .norm_value = rule.norm_value};
    const Choice pair{two_experts(policy, logits, stream).experts, {}};
    return gate_backward(of_pair, logits, pair, among_candidates(pair.experts, choice, d_weights));
}

}  // namespace moe::inline MOE_ABI::reference
