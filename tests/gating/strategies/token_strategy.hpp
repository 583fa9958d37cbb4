#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <moe/gating/any_gate.hpp>
#include <moe/gating/diagnose.hpp>
#include <moe/gating/gate.hpp>
#include <moe/gating/normalize.hpp>
#include <moe/gating/scores.hpp>
#include <moe/reference/chosen_weights.hpp>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "support/compare.hpp"

/// How a token gate is held against its definition. The definition gets the scores that the gate computes, so that
/// there is one right choice even where rounding makes a tie.
namespace moe_test {

namespace reference = moe::reference;

inline moe::RuntimeScore random_score(Dice& dice) {
    using Kind = moe::ScoreKind;
    return {dice.pick(Kind::softmax, Kind::softmax, Kind::sigmoid, Kind::sqrt_softplus, Kind::relu)};
}

/// What the definition calls a score that exact numbers never tie.
inline bool ties_by_logit(const moe::RuntimeScore& score) {
    return score.kind != moe::ScoreKind::relu && score.kind != moe::ScoreKind::uniform;
}

/// A normalisation, and the same in the words of the definition.
inline moe::Normalize random_normalize(Dice& dice, reference::TokenChoiceRule& rule) {
    rule.norm_value = dice.pick(0.0, 1e-20, 0.25);
    switch (dice.below(4)) {
        case 0: rule.norm = reference::Norm::none; return {};
        case 1: rule.norm = reference::Norm::sum; return moe::Normalize::sum(rule.norm_value);
        case 2: rule.norm = reference::Norm::clamped_sum; return moe::Normalize::clamped_sum(rule.norm_value);
        default:
            rule.norm = reference::Norm::lp;
            rule.norm_value = 2;
            return moe::Normalize::lp(2);
    }
}

template <class T>
std::vector<T> in_type(const std::vector<float>& values) {
    return {values.begin(), values.end()};
}

inline reference::Vector wide(const std::vector<float>& values) { return {values.begin(), values.end()}; }

/// The scores of a gate in T.
template <class T, class Score>
reference::Vector scores_in(const Score& score, const std::vector<float>& logits) {
    std::vector<T> values = in_type<T>(logits);
    score(std::span<const T>(values), std::span<T>(values));
    return {values.begin(), values.end()};
}

/// Whether a weight is the expected one, up to the rounding of a sum of at most n terms and the few operations behind
/// it. Below 1e-30 float loses bits, above 1e37 it may overflow on the way.
template <class T>
bool same_weight(T weight, double expected, std::size_t n) {
    const auto w = static_cast<double>(weight);
    if (std::isnan(expected)) {
        return std::isnan(w);
    }
    if (std::abs(expected) > 1e37) {
        return !(std::abs(w) < 1e36);
    }
    return std::abs(w - expected) <= rounding_bound<T>(n + 16, 1e-30 + std::abs(expected));
}

/// Empty if the choice is the expected one: equal experts in equal order, weights as above, in which at least n_terms
/// were summed.
template <class T>
std::string disagreement(const Chosen<T>& chosen, const reference::Choice& expected, std::size_t n_terms = 0) {
    std::ostringstream text;
    text.precision(9);
    bool same = chosen.experts == expected.experts;
    for (std::size_t slot = 0; same && slot < expected.experts.size(); ++slot) {
        same = same_weight(chosen.weights[slot], expected.weights[slot], std::max(n_terms, expected.experts.size()));
    }
    if (!same) {
        text << chosen.experts.size() << " experts, expected " << expected.experts.size() << ':';
        for (std::size_t slot = 0; slot < std::max(chosen.experts.size(), expected.experts.size()); ++slot) {
            text << ' ';
            if (slot < chosen.experts.size()) {
                text << chosen.experts[slot] << " (" << chosen.weights[slot] << ')';
            }
            text << '/';
            if (slot < expected.experts.size()) {
                text << expected.experts[slot] << " (" << expected.weights[slot] << ')';
            }
        }
    }
    return text.str();
}

/// Whether two choices are the same bit for bit; but one NaN is as good as another.
template <class T>
bool same_choice(const Chosen<T>& a, const Chosen<T>& b) {
    bool same = a.experts == b.experts;
    for (std::size_t slot = 0; same && slot < a.weights.size(); ++slot) {
        const std::span<const T> x(&a.weights[slot], 1);
        const std::span<const T> y(&b.weights[slot], 1);
        same = (std::isnan(x[0]) && std::isnan(y[0])) || same_bits(x, y, NonFinite::allow);
    }
    return same;
}

/// Whether the gate chooses the same a second time and inside an AnyGate.
template <class T, class G>
bool repeats(const G& gate, const std::vector<T>& logits, std::size_t n_experts, moe::TokenContext context = {}) {
    const Chosen<T> once = choose<T>(gate, logits, n_experts, context);
    return same_choice(once, choose<T>(gate, logits, n_experts, context)) &&
           same_choice(once, choose<T>(moe::AnyGate(gate), logits, n_experts, context));
}

template <class G>
inline constexpr bool is_token_gate =
    moe::TokenGate<G, float>&& moe::TokenGate<G, double>&& moe::check_gate<G, float>() && moe::check_gate<G, double>();

/// The text with which a gate is refused at set-up, or "no error".
template <class G>
std::string refusal(const G& gate, std::size_t n_experts) {
    return message_of([&] { moe::validate_gate(gate, n_experts); });
}

}  // namespace moe_test
