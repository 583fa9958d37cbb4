#pragma once

#include <cmath>
#include <cstddef>

#include "../../routing.hpp"
#include "normalized.hpp"
#include "scores.hpp"

/// From the gradient of a token's weights to that of its logits. Which experts are chosen has no gradient: groups, fill
/// and selection bias, thresholds, capacities and draws are constants here.
namespace moe::inline MOE_ABI::reference {

/// What the rule normalises for these experts: their scores, or softmax or sigmoid of their logits.
[[nodiscard]] inline Vector sources_of(const TokenChoiceRule& rule, const Vector& raw_logits,
                                       const std::vector<ExpertId>& experts) {
    TokenChoiceRule bare{.softcap = rule.softcap, .score = rule.score, .weight_from = rule.weight_from};
    return weighed(bare, raw_logits, experts).weights;
}

/// The other half: from the gradient of sources_of to that of the logits (n_experts).
[[nodiscard]] inline Vector sources_backward(const TokenChoiceRule& rule, const Vector& raw_logits,
                                             const std::vector<ExpertId>& experts, const Vector& d_sources) {
    const Vector logits = softcapped(rule, raw_logits);
    const Vector sources = sources_of(rule, raw_logits, experts);
    const Vector of_softmax = softmax_backward(sources, d_sources);
    Vector scattered(logits.size(), 0.0);  // an expert may have been named twice, by a table say
    for (std::size_t slot = 0; slot < experts.size(); ++slot) {
        double& d = scattered[static_cast<std::size_t>(experts[slot])];
        switch (rule.weight_from) {
            case Source::score: d += d_sources[slot]; break;
            case Source::softmax_of_selected: d += of_softmax[slot]; break;
            case Source::sigmoid_of_selected: d += sources[slot] * (1 - sources[slot]) * d_sources[slot]; break;
        }
    }
    Vector dl = rule.weight_from == Source::score ? score_backward(rule.score, logits, scattered) : scattered;
    for (std::size_t e = 0; e < dl.size(); ++e) {
        const double share = rule.softcap > 0 ? logits[e] / rule.softcap : 0;
        dl[e] *= 1 - share * share;
    }
    return dl;
}

/// Of weighed(rule, logits, choice.experts): the gradient of the logits (n_experts), from that of the weights, one each
/// of the experts chosen. Of `choice` only the experts are read.
///
/// Gates whose weights are the scores of whatever they choose, normalised and scaled, have this gradient with a rule of
/// that score, norm and scale: TokenChoice, TopKPerGroup, Dense, TopP, Threshold (ReMoE), Hash; ExpertChoice and
/// Sinkhorn token by token; BalancedAssignment with the sigmoid.
[[nodiscard]] inline Vector gate_backward(const TokenChoiceRule& rule, const Vector& logits, const Choice& choice,
                                          const Vector& d_weights) {
    Vector d_normalized = d_weights;
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        d_normalized[slot] *= rule.scale;
        if (!rule.per_expert_scale.empty()) {
            d_normalized[slot] *= rule.per_expert_scale[static_cast<std::size_t>(choice.experts[slot])];
        }
    }
    const Vector sources = sources_of(rule, logits, choice.experts);
    return sources_backward(rule, logits, choice.experts, normalized_backward(rule, sources, d_normalized));
}

/// Of the same the gradient of rule.per_expert_scale (n_experts).
[[nodiscard]] inline Vector per_expert_scale_backward(const TokenChoiceRule& rule, const Vector& logits,
                                                      const Choice& choice, const Vector& d_weights) {
    const Vector shares = normalized(rule, sources_of(rule, logits, choice.experts));
    Vector d_scale(logits.size(), 0.0);
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        d_scale[static_cast<std::size_t>(choice.experts[slot])] += d_weights[slot] * rule.scale * shares[slot];
    }
    return d_scale;
}

}  // namespace moe::inline MOE_ABI::reference
