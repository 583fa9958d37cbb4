#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <moe/core/matrix_view.hpp>
#include <moe/gating/gate.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/reference/routing.hpp>
#include <span>
#include <vector>

#include "gating/strategies/token_strategy.hpp"

/// Gates for adaptors to stand around.
namespace moe_test {

/// A user's gate, written for float: the expert of the greatest logit and the next one, in a circle, weighed with it.
struct NeighboursInFloat {
    [[nodiscard]] static int max_per_token() { return 2; }
    static int select(std::span<const float> logits, moe::Selection out) {
        moe::detail::top_k<float>(logits, out.experts.first(1));
        const auto best = static_cast<std::size_t>(out.experts[0]);
        out.experts[1] = static_cast<moe::ExpertId>((best + 1) % logits.size());
        weigh(logits, out.experts, out);
        return logits.size() == 1 ? 1 : 2;
    }
    static void weigh(std::span<const float> logits, std::span<const moe::ExpertId> experts, moe::Selection out) {
        for (std::size_t slot = 0; slot < experts.size(); ++slot) {
            out.weights[slot] = logits[static_cast<std::size_t>(experts[slot])];
        }
    }
};

/// Chooses for whole batches, which no adaptor for tokens can stand around.
struct NobodyInBatch {
    [[nodiscard]] static int max_per_token(int /*n_tokens*/, int /*n_experts*/) { return 1; }
    static void select(moe::MatrixView<const float> /*logits*/, moe::BatchSelection<float> /*out*/) {}
};

/// A TokenChoice that looks at logits, on a row where float and double see the same order: multiples of 1/4.
struct RuleCase {
    std::vector<float> logits;
    std::vector<float> bias;
    moe::TokenChoice<moe::RuntimeScore> gate;
    reference::TokenChoiceRule rule;
};

inline void set_rule(Dice& dice, std::size_t n_experts, RuleCase& c) {
    using Kind = moe::ScoreKind;
    const std::size_t score = dice.below(3);
    c.gate.score.kind = std::array{Kind::softmax, Kind::sigmoid, Kind::sqrt_softplus}[score];
    c.rule.score = static_cast<reference::Score>(score);
    c.gate.select_on = moe::SelectOn::logits;
    c.rule.select_on = reference::Base::logits;
    const std::size_t source = dice.below(3);
    c.gate.weight_from = static_cast<moe::WeightFrom>(source);
    c.rule.weight_from = static_cast<reference::Source>(source);
    c.rule.top_k = 1 + dice.below(dice.one_in(4) ? n_experts : std::min<std::size_t>(n_experts, 8));
    c.gate.top_k = static_cast<int>(c.rule.top_k);
    c.gate.normalize = random_normalize(dice, c.rule);
    c.gate.scale = c.rule.scale = dice.pick(1.0, 2.5, -0.75);
    c.bias.resize(dice.one_in(3) ? n_experts : 0);
    for (float& b : c.bias) {
        b = std::round(dice.uniform(-16, 16)) / 4;
    }
    c.gate.selection_bias = c.bias;
    c.rule.selection_bias = wide(c.bias);
}

inline RuleCase random_rule(Dice& dice) {
    RuleCase c;
    c.logits = random_logits(dice, expert_counts[dice.below(expert_counts.size())]);
    for (float& l : c.logits) {
        l = std::abs(l) < 100 ? std::round(l * 4) / 4 : l;
    }
    set_rule(dice, c.logits.size(), c);
    return c;
}

}  // namespace moe_test
