// TokenChoice against the definition in reference/, on random rows with ties, signed zeros, infinities, denormals and
// NaN.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <moe/core/random.hpp>
#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/reference/routing.hpp>
#include <sstream>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::token_choice_reference_test {

namespace reference = moe::reference;

namespace {

using moe_test::Dice;
using moe_test::expert_counts;
using moe_test::random_logits;

struct Case {
    std::vector<float> logits;
    std::vector<float> bias;
    std::vector<float> per_expert;
    moe::TokenChoice<moe::RuntimeScore> gate;
    reference::TokenChoiceRule rule;
};

void set_groups(Dice& dice, Case& c) {
    const std::size_t n_experts = c.logits.size();
    std::size_t n_groups = 1 + dice.below(n_experts);
    while (n_experts % n_groups != 0) {
        --n_groups;
    }
    const std::size_t members = n_experts / n_groups;
    const std::size_t kept = 1 + dice.below(n_groups);
    const std::size_t score_members = 1 + dice.below(std::min<std::size_t>(members, 4));
    const double fill = dice.pick(0.0, -std::numeric_limits<double>::infinity());
    c.gate.groups = {static_cast<int>(n_groups), static_cast<int>(kept), static_cast<int>(score_members), fill};
    c.rule.n_groups = n_groups;
    c.rule.groups_kept = kept;
    c.rule.group_members = score_members;
    c.rule.group_fill = fill;
}

void set_normalize(Dice& dice, Case& c) {
    const double value = dice.pick(1e-20, 1e-6, 0.25);
    switch (dice.below(5)) {
        case 0: break;
        case 1:
            c.gate.normalize = true;
            c.rule.norm = reference::Norm::sum;
            break;
        case 2:
            c.gate.normalize = moe::Normalize::sum(value);
            c.rule.norm = reference::Norm::sum;
            c.rule.norm_value = value;
            break;
        case 3:
            c.gate.normalize = moe::Normalize::clamped_sum(value);
            c.rule.norm = reference::Norm::clamped_sum;
            c.rule.norm_value = value;
            break;
        default:
            c.rule.norm_value = dice.pick(1.0, 2.0, 3.5);
            c.gate.normalize = moe::Normalize::lp(c.rule.norm_value);
            c.rule.norm = reference::Norm::lp;
    }
}

Case random_case(Dice& dice) {
    Case c;
    c.logits = random_logits(dice, expert_counts[dice.below(expert_counts.size())]);
    const std::size_t n_experts = c.logits.size();
    using Kind = moe::ScoreKind;
    constexpr std::array kinds{Kind::softmax, Kind::sigmoid, Kind::sqrt_softplus, Kind::identity, Kind::relu};
    const std::size_t score = dice.below(kinds.size());
    const std::size_t base = dice.pick(0U, 0U, 1U, 2U);
    const std::size_t source = dice.pick(0U, 0U, 1U, 2U);
    c.gate.score.kind = kinds[score];
    c.rule.score = static_cast<reference::Score>(score);
    c.gate.select_on = static_cast<moe::SelectOn>(base);
    c.rule.select_on = static_cast<reference::Base>(base);
    c.gate.weight_from = static_cast<moe::WeightFrom>(source);
    c.rule.weight_from = static_cast<reference::Source>(source);
    if (dice.one_in(3)) {
        for (std::size_t e = 0; e < n_experts; ++e) {
            c.bias.push_back(std::round(dice.uniform(-4, 4)) / 4);
        }
    }
    if (dice.one_in(4)) {
        for (std::size_t e = 0; e < n_experts; ++e) {
            c.per_expert.push_back(dice.uniform(0.5F, 2));
        }
    }
    c.gate.selection_bias = c.bias;
    c.rule.selection_bias.assign(c.bias.begin(), c.bias.end());
    c.gate.per_expert_scale = c.per_expert;
    c.rule.per_expert_scale.assign(c.per_expert.begin(), c.per_expert.end());
    c.gate.scale = c.rule.scale = dice.pick(1.0, 2.5, -0.75);
    c.gate.logit_softcap = c.rule.softcap = dice.pick(0.0, 0.0, 15.0);
    set_normalize(dice, c);
    if (dice.one_in(3)) {
        set_groups(dice, c);
    }
    const std::size_t left = n_experts / c.rule.n_groups * c.rule.groups_kept;
    c.rule.top_k = 1 + dice.below(dice.one_in(8) ? left : std::min<std::size_t>(left, 12));
    c.gate.top_k = static_cast<int>(c.rule.top_k);
    return c;
}

/// Whether the order of `keys` could differ after rounding to T: two of them closer than that, but not made of the same
/// ingredients. Such a row has no one right answer in T.
template <class T, class Same>
bool ambiguous(const reference::Vector& keys, const Same& same) {
    std::vector<std::size_t> order;
    for (const moe::ExpertId e : reference::top_k(keys, keys.size())) {
        order.push_back(static_cast<std::size_t>(e));
    }
    constexpr double tolerance = 64 * static_cast<double>(std::numeric_limits<T>::epsilon());
    for (std::size_t i = 1; i < order.size(); ++i) {
        const double a = keys[order[i - 1]];
        const double b = keys[order[i]];
        const bool close = a - b <= tolerance * std::max({std::abs(a), std::abs(b), 1.0});
        if (close && !same(order[i - 1], order[i])) {
            return true;
        }
    }
    return false;
}

/// Whether the weights can be divided by their sum without losing most digits: they do not cancel or vanish.
bool has_a_sum(const Case& c, const reference::Vector& logits) {
    reference::TokenChoiceRule raw = c.rule;
    raw.norm = reference::Norm::none;
    raw.scale = 1;
    raw.per_expert_scale.clear();
    double sum = 0;
    double size = 0;
    for (const double w : reference::route(raw, logits).weights) {
        sum += w;
        size += std::abs(w);
    }
    return c.rule.norm == reference::Norm::none || !std::isfinite(sum) ||
           (std::abs(sum) > 0.1 * size && std::abs(sum + c.rule.norm_value) > 0.1 * size && size > 1e-30);
}

template <class T>
bool has_one_answer(const Case& c) {
    const reference::Vector logits(c.logits.begin(), c.logits.end());
    if (!has_a_sum(c, logits)) {
        return false;
    }
    const reference::Vector q = reference::selection_scores(c.rule, reference::softcapped(c.rule, logits));
    const auto same_expert = [&](std::size_t a, std::size_t b) {
        return (logits[a] == logits[b] || (std::isnan(logits[a]) && std::isnan(logits[b]))) &&
               (c.bias.empty() || c.bias[a] == c.bias[b]);
    };
    if (ambiguous<T>(q, same_expert)) {
        return false;
    }
    if (c.rule.n_groups > 1) {
        const std::size_t members = q.size() / c.rule.n_groups;
        const auto best = [&](std::size_t g) {
            reference::Vector group;
            for (std::size_t e = g * members; e < (g + 1) * members; ++e) {
                if (!reference::excluded(logits[e])) {
                    group.push_back(q[e]);
                }
            }
            std::sort(group.begin(), group.end(), std::greater<>());
            group.resize(std::min(group.size(), c.rule.group_members));
            return group;
        };
        const auto same_group = [&](std::size_t a, std::size_t b) { return best(a) == best(b); };
        return std::none_of(q.begin(), q.end(), [](double x) { return std::isnan(x); }) &&
               !ambiguous<T>(reference::group_scores(c.rule, q, logits), same_group);
    }
    return true;
}

/// Largest relative error of a weight: the softmax and the normaliser each divide by a sum of at most E terms, whose
/// exponentials carry an error of an argument up to 100 times the rounding of T; pow adds the logarithm of its own.
template <class T>
double weight_bound(std::size_t n_experts) {
    return moe_test::rounding_bound<T>(2 * n_experts + 512, 1.0);
}

template <class T>
bool same_weights(const Case& c, const std::vector<T>& weights, const reference::Vector& expected) {
    if (weights.size() != expected.size()) {
        return false;
    }
    for (std::size_t slot = 0; slot < weights.size(); ++slot) {
        const auto w = static_cast<double>(weights[slot]);
        if (!std::isfinite(expected[slot]) || std::abs(expected[slot]) > 1e37) {
            if (std::isfinite(w) && std::abs(w) < 1e36) {
                return false;
            }
        } else if (!(std::abs(w - expected[slot]) <=
                     weight_bound<T>(c.logits.size()) * (1e-6 + std::abs(expected[slot])))) {
            return false;
        }
    }
    return true;
}

template <class T>
void compare_many(std::uint64_t seed, std::size_t n_rows) {
    Dice dice{seed};
    std::size_t compared = 0;
    std::size_t drawn = 0;
    std::size_t wrong = 0;
    std::ostringstream first_wrong;
    while (compared < n_rows && drawn < 2 * n_rows) {
        ++drawn;
        const Case c = random_case(dice);
        if (!has_one_answer<T>(c)) {
            continue;
        }
        ++compared;
        const moe_test::Chosen<T> chosen =
            moe_test::choose<T>(c.gate, std::vector<T>(c.logits.begin(), c.logits.end()));
        const reference::Choice expected =
            reference::route(c.rule, reference::Vector(c.logits.begin(), c.logits.end()));
        if (chosen.experts != expected.experts || !same_weights<T>(c, chosen.weights, expected.weights)) {
            ++wrong;
            first_wrong << "row " << compared << ": E " << c.logits.size() << ", k " << c.gate.top_k << ", score "
                        << static_cast<int>(c.gate.score.kind) << ", base " << static_cast<int>(c.gate.select_on)
                        << ", source " << static_cast<int>(c.gate.weight_from) << ", norm "
                        << static_cast<int>(c.gate.normalize.kind) << ' ' << c.gate.normalize.value << ", groups "
                        << c.gate.groups.n_groups << ", softcap " << c.gate.logit_softcap
                        << (chosen.experts == expected.experts ? ", weights:" : ", experts:");
            for (std::size_t slot = 0; slot < expected.experts.size() && slot < 12; ++slot) {
                first_wrong << ' ' << chosen.experts[slot] << '/' << expected.experts[slot] << ' '
                            << chosen.weights[slot] << '/' << expected.weights[slot];
            }
            first_wrong << "\n";
        }
    }
    INFO(first_wrong.str());
    CHECK(compared == n_rows);
    CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("TokenChoice in double chooses and weighs as the reference", "[token_choice]") {
    compare_many<double>(1, 24'000);
}

TEST_CASE("TokenChoice in float chooses and weighs as the reference", "[token_choice]") {
    compare_many<float>(2, 24'000);
}

}  // namespace moe_test::token_choice_reference_test
