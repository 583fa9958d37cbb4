#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "moe/gating/adaptors/capacity.hpp"
#include "moe/gating/any_gate.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "moe/reference/adaptors/capacity.hpp"

/// Random settings of Capacity around gates of every kind, and what the definition makes of them.
namespace moe_test {

/// A token gate with another number of choices for every token, weighted with the logits: often none.
struct AboveZero {
    int limit = 3;
    [[nodiscard]] int max_per_token(int n_experts) const { return std::min(limit, n_experts); }
    template <std::floating_point T>
    int select(std::span<const T> logits, moe::BasicSelection<T> out) const {
        std::size_t count = 0;
        for (std::size_t e = 0; e < logits.size() && count < out.experts.size(); ++e) {
            if (logits[e] > 0) {
                out.experts[count] = static_cast<moe::ExpertId>(e);
                out.weights[count++] = logits[e];
            }
        }
        return static_cast<int>(count);
    }
};

/// A batch gate: token t takes the experts t, t + 1, ... and every seventh token has already lost its first one.
struct Diagonal {
    int k = 2;
    [[nodiscard]] int max_per_token(int /*n_tokens*/, int n_experts) const { return std::min(k, n_experts); }
    void select(moe::MatrixView<const float> logits, moe::BatchSelection<float> out) const {
        for (std::size_t t = 0; t < out.experts.rows(); ++t) {
            for (std::size_t slot = 0; slot < out.experts.cols(); ++slot) {
                const std::size_t e = (t + slot) % out.n_experts;
                const auto expert = static_cast<moe::ExpertId>(e);
                out.experts(t, slot) = slot == 0 && t % 7 == 6 ? moe::dropped(expert) : expert;
                out.weights(t, slot) = logits(t, e);
            }
        }
    }
};

struct CapacityCase {
    std::size_t n_tokens = 0;
    std::size_t n_experts = 0;
    std::vector<float> logits;
    BatchFacts facts;
    moe::Capacity<moe::AnyGate> gate{.gate = AboveZero{}};
};

inline moe::AnyGate random_inner(Dice& dice, std::size_t n_experts) {
    const int k = static_cast<int>(1 + dice.below(std::min<std::size_t>(n_experts, 4)));
    switch (dice.below(4)) {
        case 0: return moe::TokenChoice<moe::Softmax>{.top_k = k, .normalize = dice.one_in(2)};
        case 1: return moe::TokenChoice<moe::Identity>{.top_k = k};  // weights of both signs
        case 2: return AboveZero{k};
        default: return Diagonal{k};
    }
}

inline CapacityCase random_capacity_case(Dice& dice) {
    CapacityCase c;
    c.n_tokens = dice.pick(0U, 1U, 2U, 7U, 16U, 29U, 40U);
    c.n_experts = dice.one_in(8) ? expert_counts[dice.below(expert_counts.size())] : 1 + dice.below(8);
    for (std::size_t t = 0; t < c.n_tokens; ++t) {
        const std::vector<float> row = random_logits(dice, c.n_experts);
        c.logits.insert(c.logits.end(), row.begin(), row.end());
        c.facts.valid.push_back(dice.one_in(4) ? 0 : 1);
    }
    if (dice.one_in(2)) {
        c.facts.valid.clear();
    } else if (dice.one_in(8)) {
        std::fill(c.facts.valid.begin(), c.facts.valid.end(), std::uint8_t{0});
    }
    c.facts.first_position = dice.pick(0U, 1000U);
    c.gate.gate = random_inner(dice, c.n_experts);
    c.gate.limit.kind = static_cast<moe::CapacityLimit::Kind>(dice.below(4));
    c.gate.limit.value = c.gate.limit.kind == moe::CapacityLimit::Kind::fixed ? static_cast<double>(dice.below(6))
                                                                              : dice.pick(0.0, 0.3, 0.5, 1.0, 1.25);
    c.gate.limit.rounding = static_cast<moe::CapacityLimit::Rounding>(dice.below(2));
    c.gate.limit.k = static_cast<int>(dice.below(3));
    c.gate.limit.minimum = dice.pick(0U, 0U, 2U);
    c.gate.group = dice.pick(0U, 0U, 1U, 5U, 16U, 1000U);
    c.gate.order = static_cast<moe::CapacityOrder>(dice.below(5));
    c.gate.seed = dice.below(1000);
    c.gate.unlimited_from = dice.one_in(4) ? static_cast<int>(dice.below(c.n_experts + 1)) : -1;
    c.gate.count_padding = dice.one_in(2);
    return c;
}

inline bool is_valid(const CapacityCase& c, std::size_t t) { return c.facts.valid.empty() || c.facts.valid[t] != 0; }

/// Rows as choices: entries up to the first unused one.
template <class T>
std::vector<moe::reference::Choice> as_choices(const ChosenRows<T>& rows) {
    std::vector<moe::reference::Choice> choices(rows.max_per_token == 0 ? 0 : rows.experts.size() / rows.max_per_token);
    for (std::size_t t = 0; t < choices.size(); ++t) {
        for (std::size_t i = t * rows.max_per_token; i < (t + 1) * rows.max_per_token; ++i) {
            if (rows.experts[i] == moe::no_expert) {
                break;
            }
            choices[t].experts.push_back(rows.experts[i]);
            choices[t].weights.push_back(static_cast<double>(rows.weights[i]));
        }
    }
    return choices;
}

/// What the gate inside chooses, without a limit.
template <class T>
std::vector<moe::reference::Choice> inner_choices(const CapacityCase& c, const std::vector<T>& logits) {
    if (c.gate.gate.is_batch_gate()) {
        return as_choices(choose_batch<T>(c.gate.gate, logits, c.n_tokens, c.n_experts, c.facts));
    }
    std::vector<moe::reference::Choice> choices(c.n_tokens);
    for (std::size_t t = 0; t < c.n_tokens; ++t) {
        if (is_valid(c, t)) {
            const auto first = logits.begin() + static_cast<std::ptrdiff_t>(t * c.n_experts);
            const auto last = first + static_cast<std::ptrdiff_t>(c.n_experts);
            const Chosen<T> chosen = choose<T>(c.gate.gate, std::vector<T>(first, last), c.n_experts,
                                               {.position = c.facts.first_position + t});
            choices[t] = {chosen.experts, {chosen.weights.begin(), chosen.weights.end()}};
        }
    }
    return choices;
}

/// Groups of the case: first token and the one behind the last.
struct TokenGroup {
    std::size_t first;
    std::size_t last;
};

inline std::vector<TokenGroup> groups_of(const CapacityCase& c) {
    std::vector<TokenGroup> groups;
    for (std::size_t t = 0; t < c.n_tokens; ++t) {
        if (t == 0 || (c.gate.group != 0 && t % c.gate.group == 0)) {
            groups.push_back({t, t});
        }
        groups.back().last = t + 1;
    }
    return groups;
}

inline std::size_t limited_experts(const CapacityCase& c) {
    return c.gate.unlimited_from < 0 ? c.n_experts : static_cast<std::size_t>(c.gate.unlimited_from);
}

/// Places of each expert in a group.
inline double places_of(const CapacityCase& c, TokenGroup group) {
    using moe::reference::Places;
    double tokens = 0;
    for (std::size_t t = group.first; t < group.last; ++t) {
        tokens += c.gate.count_padding || is_valid(c, t) ? 1 : 0;
    }
    Places kind = Places::fixed;
    switch (c.gate.limit.kind) {
        case moe::CapacityLimit::Kind::fixed: break;
        case moe::CapacityLimit::Kind::factor:
            kind =
                c.gate.limit.rounding == moe::CapacityLimit::Rounding::ceil ? Places::factor_up : Places::factor_down;
            break;
        case moe::CapacityLimit::Kind::per_choice: kind = Places::per_choice; break;
        case moe::CapacityLimit::Kind::fraction: kind = Places::fraction; break;
    }
    const std::size_t most = c.gate.gate.max_per_token(c.n_tokens, c.n_experts);
    const double k = c.gate.limit.k == 0 ? static_cast<double>(most) : c.gate.limit.k;
    const auto experts = static_cast<double>(std::max<std::size_t>(limited_experts(c), 1));
    return std::max(moe::reference::capacity_of(kind, c.gate.limit.value, tokens, k, experts),
                    static_cast<double>(c.gate.limit.minimum));
}

/// The definition: the gate's choices, then the drops of each group.
template <class T>
std::vector<moe::reference::Choice> expected_choices(const CapacityCase& c, const std::vector<T>& logits) {
    std::vector<moe::reference::Choice> choices = inner_choices<T>(c, logits);
    for (const TokenGroup group : groups_of(c)) {
        moe::reference::CapacityRule rule{places_of(c, group), static_cast<moe::reference::Queue>(c.gate.order),
                                          c.gate.seed, c.facts.first_position};
        rule.unlimited_from = static_cast<moe::ExpertId>(limited_experts(c));
        moe::reference::drop_group(rule, c.n_experts, group.first, group.last, choices);
    }
    return choices;
}

}  // namespace moe_test
