// Sinkhorn against its definition: on batches where rounding cannot change the choice.

#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/sinkhorn.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/reference/strategies/sinkhorn.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::sinkhorn_test {

namespace reference = moe::reference;
using moe::Sinkhorn;
using moe_test::choose_batch;
using moe_test::Dice;
using moe_test::message_of;
using Ids = std::vector<moe::ExpertId>;

static_assert(moe::BatchGate<Sinkhorn> && moe::BatchGate<Sinkhorn, double>);

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// Whether rounding could change what the first k keys of a token are: two of them, or of those that nearly equal the
/// last of them, closer than `relative` of their size, but not made of the same numbers.
bool ambiguous(const reference::Balanced& balanced, const reference::Vector& logits, std::size_t t, std::size_t k,
               double relative) {
    const reference::Vector& keys = balanced.log_plan[t];
    const Ids order = reference::top_k(keys, keys.size());
    for (std::size_t i = 1; i < order.size(); ++i) {
        const auto a = static_cast<std::size_t>(order[i - 1]);
        const auto b = static_cast<std::size_t>(order[i]);
        const bool close = !(keys[a] - keys[b] > relative * std::max({std::abs(keys[a]), std::abs(keys[b]), 1.0}));
        const bool same = reference::finite_logit(logits[a]) == reference::finite_logit(logits[b]) &&
                          (balanced.expert_scale[a] == balanced.expert_scale[b] || std::abs(keys[a]) > 1e25);
        if (close && !same) {
            return true;
        }
        if (!close && i >= k) {
            return false;
        }
    }
    return false;
}

template <class T>
bool same_weights(const std::vector<T>& weights, const reference::Vector& expected, std::size_t n_experts) {
    bool same = weights.size() == expected.size();
    for (std::size_t slot = 0; same && slot < weights.size(); ++slot) {
        const auto w = static_cast<double>(weights[slot]);
        // a softmax: exponentials of arguments up to 100, and a sum of n_experts terms
        same = std::isnan(expected[slot]) ? std::isnan(w)
                                          : std::abs(w - expected[slot]) <=
                                                moe_test::rounding_bound<T>(2 * n_experts + 512, 1e-6 + expected[slot]);
    }
    return same;
}

/// Compares the tokens of 1000 batches. A tolerance of 0 makes all iterations happen, so that none ends one earlier in
/// float than in double.
template <class T>
void compare_many(std::uint64_t seed, double tolerance, double relative) {
    Dice dice{seed};
    std::size_t drawn = 0;
    std::size_t compared = 0;
    std::size_t wrong = 0;
    for (int i = 0; i < 1000; ++i) {
        const std::size_t n_experts = moe_test::expert_counts[dice.below(13)];
        const std::size_t n_tokens = dice.one_in(20) ? 0 : 1 + dice.below(24);
        const reference::SinkhornRule rule{1 + dice.below(std::min<std::size_t>(n_experts, dice.one_in(9) ? 60 : 4)),
                                           tolerance, 1 + dice.below(8)};
        const Sinkhorn gate{static_cast<int>(rule.top_k), tolerance, static_cast<int>(rule.max_iterations)};
        std::vector<T> logits;
        std::vector<reference::Vector> valid_rows;
        moe_test::BatchFacts facts;
        const std::size_t masked_in = dice.pick(0U, 0U, 3U, 1U);
        for (std::size_t t = 0; t < n_tokens; ++t) {
            const std::vector<float> row = moe_test::random_logits(dice, n_experts);
            logits.insert(logits.end(), row.begin(), row.end());
            if (masked_in > 0) {
                facts.valid.push_back(dice.one_in(masked_in) ? 0 : 1);
            }
            if (facts.valid.empty() || facts.valid[t] != 0) {
                valid_rows.emplace_back(row.begin(), row.end());
            }
        }
        const auto chosen = choose_batch<T>(gate, logits, n_tokens, n_experts, facts);
        const auto balanced = reference::sinkhorn_balance(rule, valid_rows, n_experts);
        const auto expected = reference::sinkhorn(rule, valid_rows, n_experts);
        std::size_t next = 0;
        for (std::size_t t = 0; t < n_tokens; ++t) {
            const auto kept = chosen.kept(t);
            if (!facts.valid.empty() && facts.valid[t] == 0) {
                wrong += kept.experts.empty() ? 0U : 1U;
                continue;
            }
            ++drawn;
            if (!ambiguous(balanced, valid_rows[next], next, rule.top_k, relative)) {
                ++compared;
                wrong += kept.experts == expected[next].experts &&
                                 same_weights(kept.weights, expected[next].weights, n_experts)
                             ? 0U
                             : 1U;
            }
            ++next;
        }
    }
    CHECK(wrong == 0);
    CHECK(compared > 4000);
    CHECK(compared > drawn / 2);
}

std::size_t most_loaded(const Ids& experts, std::size_t n_experts) {
    std::vector<std::size_t> counts(n_experts, 0);
    for (const moe::ExpertId e : experts) {
        ++counts[static_cast<std::size_t>(e)];
    }
    return *std::max_element(counts.begin(), counts.end());
}

}  // namespace

TEST_CASE("Sinkhorn in double chooses and weighs as its definition", "[sinkhorn]") {
    compare_many<double>(301, 0, 1e-9);
    compare_many<double>(302, 1e-4, 1e-9);
}

TEST_CASE("Sinkhorn in float chooses and weighs as its definition", "[sinkhorn]") { compare_many<float>(303, 0, 1e-3); }

TEST_CASE("the definition balances rows and columns of a hand-made matrix", "[sinkhorn]") {
    // c = (4 1; 1 1) scaled so that both rows and both columns have the same sum: (2 1; 1 2) / 6
    const std::vector<reference::Vector> logits{{std::log(4.0), 0}, {0, 0}};
    const auto balanced = reference::sinkhorn_balance({1, 0, 200}, logits, 2);
    const std::vector<reference::Vector> expected{{1.0 / 3, 1.0 / 6}, {1.0 / 6, 1.0 / 3}};
    for (std::size_t t = 0; t < 2; ++t) {
        for (std::size_t e = 0; e < 2; ++e) {
            const double c = std::exp(logits[t][e] - logits[t][0]);
            CHECK(std::abs(balanced.token_scale[t] * c * balanced.expert_scale[e] - expected[t][e]) < 1e-7);
        }
    }
    // so the second token, which has no preference, takes the expert that the first leaves to it
    CHECK(choose_batch<double>(Sinkhorn{}, {std::log(4.0), 0, 0, 0}, 2, 2).experts == Ids{0, 1});
    CHECK(choose_batch<float>(Sinkhorn{}, {std::log(4.0F), 0, 0, 0}, 2, 2).experts == Ids{0, 1});
}

TEST_CASE("iterations end at the tolerance, or at their bound", "[sinkhorn]") {
    const std::vector<reference::Vector> logits{{3, 0, 1}, {2, 1, 0}, {5, 0, 0}};
    CHECK(reference::sinkhorn_balance({1, 1e9, 100}, logits, 3).iterations == 1);
    CHECK(reference::sinkhorn_balance({1, 0, 7}, logits, 3).iterations == 7);
    const std::size_t usual = reference::sinkhorn_balance({1, 1e-4, 1000}, logits, 3).iterations;
    CHECK((usual > 2 && usual < 100));
}

TEST_CASE("Sinkhorn spreads tokens that all prefer the same experts", "[sinkhorn]") {
    Dice dice{304};
    std::vector<float> logits(512 * 8);
    for (std::size_t i = 0; i < logits.size(); ++i) {
        logits[i] = dice.uniform(-1, 1) + (i % 8 < 2 ? 3.0F : 0.0F);
    }
    Ids greedy;
    for (std::size_t t = 0; t < 512; ++t) {
        const auto first = logits.begin() + static_cast<std::ptrdiff_t>(8 * t);
        greedy.push_back(
            moe_test::choose<float>(moe::TokenChoice<>{}, std::vector<float>(first, first + 8)).experts[0]);
    }
    CHECK(most_loaded(greedy, 8) >= 240);
    CHECK(most_loaded(choose_batch<float>(Sinkhorn{}, logits, 512, 8).experts, 8) <= 96);  // the mean is 64
}

TEST_CASE("weights are the sigmoid of one expert, or softmax over all of several", "[sinkhorn]") {
    const std::vector<double> logits{2, 0, 1};
    CHECK(choose_batch<double>(Sinkhorn{}, logits, 1, 3).weights[0] == 1 / (1 + std::exp(-2.0)));
    const auto two = choose_batch<double>(Sinkhorn{.top_k = 2, .max_iterations = 1}, logits, 1, 3);
    // Alone, a token is balanced over all its experts; after one iteration its preferences are gone but for 1e-8.
    const double total = 1 + std::exp(1) + std::exp(2);
    for (std::size_t slot = 0; slot < 2; ++slot) {
        const double logit = logits[static_cast<std::size_t>(two.experts[slot])];
        CHECK(std::abs(two.weights[slot] - std::exp(logit) / total) < 1e-15);
    }
}

TEST_CASE("NaN and infinities count as the ends of the range, and stay in the weights of their token", "[sinkhorn]") {
    constexpr float most = std::numeric_limits<float>::max();
    for (const auto& [bad, counts_as] :
         std::vector<std::pair<double, float>>{{not_a_number, -most}, {-inf, -most}, {inf, most}}) {
        const auto with_bad = choose_batch<float>(Sinkhorn{}, {static_cast<float>(bad), 0, 1, 0, 0, 1}, 3, 2);
        const auto replaced = choose_batch<float>(Sinkhorn{}, {counts_as, 0, 1, 0, 0, 1}, 3, 2);
        CHECK(with_bad.experts == replaced.experts);
        CHECK(with_bad.kept(1) == replaced.kept(1));
        CHECK(with_bad.kept(2) == replaced.kept(2));
    }
    const auto all_nan =
        choose_batch<double>(Sinkhorn{.top_k = 2}, {not_a_number, not_a_number, not_a_number, 1, 0, 5}, 2, 3);
    CHECK(all_nan.kept(0).experts == Ids{0, 1});
    CHECK(std::isnan(all_nan.weights[0]));
    CHECK(all_nan.kept(1).experts == Ids{2, 0});
    CHECK(moe_test::all_finite(all_nan.kept(1).weights));
}

TEST_CASE("Sinkhorn refuses settings that cannot be", "[sinkhorn]") {
    using moe::validate_gate;
    CHECK(message_of([] { validate_gate(Sinkhorn{.top_k = 0}, 4); }) ==
          "Sinkhorn: top_k is 0, it must lie in 1..4, the number of experts");
    CHECK(message_of([] { validate_gate(Sinkhorn{.top_k = 5}, 4); }) ==
          "Sinkhorn: top_k is 5, it must lie in 1..4, the number of experts");
    CHECK(message_of([] { validate_gate(Sinkhorn{.tolerance = -1}, 4); }) ==
          "Sinkhorn: tolerance is -1, it must be finite and not negative");
    CHECK(message_of([] { validate_gate(Sinkhorn{.tolerance = not_a_number}, 4); }) ==
          "Sinkhorn: tolerance is nan, it must be finite and not negative");
    CHECK(message_of([] { validate_gate(Sinkhorn{.max_iterations = 0}, 4); }) ==
          "Sinkhorn: max_iterations is 0, it must be at least 1");
}

TEST_CASE("Sinkhorn works inside AnyGate, and the same way twice", "[sinkhorn]") {
    Dice dice{305};
    std::vector<float> logits(100 * 17);
    std::generate(logits.begin(), logits.end(), [&] { return dice.uniform(-3, 3); });
    const Sinkhorn gate{.top_k = 3};
    const auto first = choose_batch<float>(gate, logits, 100, 17);
    const auto second = choose_batch<float>(moe::AnyGate(gate), logits, 100, 17);
    CHECK(first.experts == second.experts);
    CHECK(moe_test::same_bits(first.weights, second.weights));
}

}  // namespace moe_test::sinkhorn_test
