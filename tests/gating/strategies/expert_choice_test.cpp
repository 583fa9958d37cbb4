// ExpertChoice against its definition, and against what it becomes at the ends of its settings.

#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/dense.hpp>
#include <moe/gating/strategies/expert_choice.hpp>
#include <moe/reference/strategies/expert_choice.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::expert_choice_test {

namespace reference = moe::reference;
using moe_test::BatchFacts;
using moe_test::choose_batch;
using moe_test::Dice;
using moe_test::message_of;
using moe_test::same_bits;
using Ids = std::vector<moe::ExpertId>;

static_assert(moe::BatchGate<moe::ExpertChoice<>> && moe::BatchGate<moe::ExpertChoice<>, double>);
static_assert(moe::BatchGate<moe::ExpertChoice<moe::Uniform>> && !moe::TokenGate<moe::ExpertChoice<>>);

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

template <class T>
bool same_value(T value, double expected) {
    return std::isnan(expected) ? std::isnan(value) : static_cast<double>(value) == expected;
}

template <class T>
struct Batch {
    std::size_t n_tokens;
    std::size_t n_experts;
    std::vector<T> logits;
    BatchFacts facts;
};

template <class T>
Batch<T> random_batch(Dice& dice) {
    Batch<T> batch{dice.one_in(20) ? 0 : 1 + dice.below(24), moe_test::expert_counts[dice.below(13)], {}, {}};
    const bool masked = dice.one_in(3);
    const bool all_masked = dice.one_in(30);
    for (std::size_t t = 0; t < batch.n_tokens; ++t) {
        const std::vector<float> row = moe_test::random_logits(dice, batch.n_experts);
        batch.logits.insert(batch.logits.end(), row.begin(), row.end());
        if (masked || all_masked) {
            batch.facts.valid.push_back(all_masked || dice.one_in(3) ? 0 : 1);
        }
    }
    return batch;
}

/// The scores of the valid tokens as the gate sees them, rounded to T: the definition then decides the same ties.
template <class T, class Score>
std::vector<reference::Vector> scores_of(const Score& score, const Batch<T>& batch) {
    std::vector<reference::Vector> rows;
    for (std::size_t t = 0; t < batch.n_tokens; ++t) {
        if (batch.facts.valid.empty() || batch.facts.valid[t] != 0) {
            std::vector<T> row(batch.n_experts);
            score(std::span(batch.logits).subspan(t * batch.n_experts, batch.n_experts), std::span<T>(row));
            rows.emplace_back(row.begin(), row.end());
        }
    }
    return rows;
}

template <class T>
bool as_defined(const moe::ExpertChoice<moe::RuntimeScore>& gate, const Batch<T>& batch) {
    const auto chosen = choose_batch<T>(gate, batch.logits, batch.n_tokens, batch.n_experts, batch.facts);
    const auto scores = scores_of<T>(gate.score, batch);
    const bool by_logit =
        gate.score.kind == moe::ScoreKind::sigmoid || gate.score.kind == moe::ScoreKind::sqrt_softplus;
    const auto logits = by_logit ? scores_of<T>(moe::Identity{}, batch) : std::vector<reference::Vector>{};
    const std::size_t capacity =
        reference::expert_choice_capacity(scores.size(), batch.n_experts, gate.capacity_factor);
    const std::size_t cap =
        gate.max_per_token_cap == 0 ? batch.n_experts : static_cast<std::size_t>(gate.max_per_token_cap);
    const std::vector<reference::Choice> expected = reference::expert_choice(scores, capacity, cap, logits);
    std::size_t next = 0;
    bool same = true;
    for (std::size_t t = 0; t < batch.n_tokens; ++t) {
        const auto kept = chosen.kept(t);
        if (!batch.facts.valid.empty() && batch.facts.valid[t] == 0) {
            same = same && kept.experts.empty();
            continue;
        }
        const reference::Choice& choice = expected[next++];
        same = same && kept.experts == choice.experts;
        for (std::size_t slot = 0; same && slot < kept.weights.size(); ++slot) {
            same = same_value(kept.weights[slot], choice.weights[slot]);
        }
    }
    return same;
}

template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    int wrong = 0;
    for (int i = 0; i < 1000; ++i) {
        const Batch<T> batch = random_batch<T>(dice);
        const moe::ExpertChoice<moe::RuntimeScore> gate{
            .score = {dice.pick(moe::ScoreKind::softmax, moe::ScoreKind::softmax, moe::ScoreKind::sigmoid,
                                moe::ScoreKind::identity)},
            .capacity_factor = dice.pick(0.0, 0.5, 1.0, 1.0, 1.25, 2.0, 8.0, 2000.0),
            .max_per_token_cap = dice.pick(0, 0, 1, 2, 3, 2000)};
        wrong += as_defined<T>(gate, batch) ? 0 : 1;
    }
    CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("ExpertChoice chooses and weighs as its definition", "[expert_choice]") {
    compare_many<float>(101);
    compare_many<double>(102);
}

TEST_CASE("the scores of a definition in double are those of the gate, but for rounding", "[expert_choice]") {
    Dice dice{103};
    std::vector<double> logits(60);
    for (double& l : logits) {
        l = static_cast<double>(dice.uniform(-4, 4));
    }
    const auto chosen = choose_batch<double>(moe::ExpertChoice<>{.capacity_factor = 2}, logits, 10, 6);
    for (std::size_t t = 0; t < 10; ++t) {
        const auto first = logits.begin() + static_cast<std::ptrdiff_t>(6 * t);
        const reference::Vector scores = reference::softmax({first, first + 6});
        const auto kept = chosen.kept(t);
        for (std::size_t slot = 0; slot < kept.experts.size(); ++slot) {
            // an exponential and a sum of 6: each a few roundings
            CHECK(std::abs(kept.weights[slot] - scores[static_cast<std::size_t>(kept.experts[slot])]) <=
                  moe_test::rounding_bound<double>(32, 1));
        }
    }
}

TEST_CASE("each expert takes its best tokens, two of four here", "[expert_choice]") {
    const std::vector<double> logits{5, 1,   //
                                     4, 2,   //
                                     1, 4,   //
                                     2, 0};  //
    const moe::ExpertChoice<moe::Identity> gate{};
    const auto chosen = choose_batch<double>(gate, logits, 4, 2);
    CHECK(chosen.experts == Ids{0, -1, 0, 1, 1, -1, -1, -1});
    CHECK(chosen.kept(1).weights == std::vector<double>{4, 2});
    CHECK(gate.max_assignments(4, 2) == 4);
    // With one expert a token, token 1 leaves its place at expert 1 to token 0, which has one: token 3 gets it.
    const auto capped = choose_batch<double>(moe::ExpertChoice<moe::Identity>{.max_per_token_cap = 1}, logits, 4, 2);
    CHECK(capped.experts == Ids{0, 0, 1, 1});
    CHECK(capped.weights == std::vector<double>{5, 4, 4, 0});
}

TEST_CASE("with room for every token ExpertChoice is the dense mixture", "[expert_choice]") {
    Dice dice{104};
    for (const std::size_t n_experts : {1U, 2U, 7U, 64U}) {
        std::vector<float> logits;
        for (std::size_t t = 0; t < 9; ++t) {
            const auto row = moe_test::random_logits(dice, n_experts);
            logits.insert(logits.end(), row.begin(), row.end());
        }
        const double all = static_cast<double>(n_experts);
        for (const int cap : {0, 1000}) {
            const auto chosen = choose_batch<float>(
                moe::ExpertChoice<>{.capacity_factor = all, .max_per_token_cap = cap}, logits, 9, n_experts);
            for (std::size_t t = 0; t < 9; ++t) {
                const auto first = logits.begin() + static_cast<std::ptrdiff_t>(t * n_experts);
                const auto dense = moe_test::choose<float>(
                    moe::Dense<>{}, std::vector<float>(first, first + static_cast<std::ptrdiff_t>(n_experts)));
                CHECK(chosen.kept(t).experts == dense.experts);
                CHECK(same_bits(chosen.kept(t).weights, dense.weights, moe_test::NonFinite::allow));
            }
        }
    }
}

TEST_CASE("padding takes no place and does not count for the capacity", "[expert_choice]") {
    const std::vector<float> logits{9, 9, 9, 3, 0, 0, 1, 2, 0, 9, 9, 9, 0, 0, 5};  // (5, 3)
    const std::vector<float> without{3, 0, 0, 1, 2, 0, 0, 0, 5};
    const auto padded = choose_batch<float>(moe::ExpertChoice<>{}, logits, 5, 3, {.valid = {0, 1, 1, 0, 1}});
    const auto plain = choose_batch<float>(moe::ExpertChoice<>{}, without, 3, 3);
    CHECK(padded.kept(0).experts.empty());
    CHECK(padded.kept(3).experts.empty());
    CHECK(padded.kept(1) == plain.kept(0));
    CHECK(padded.kept(2) == plain.kept(1));
    CHECK(padded.kept(4) == plain.kept(2));
    CHECK(plain.experts == Ids{0, -1, -1, 1, -1, -1, 2, -1, -1});
}

TEST_CASE("a token with NaN comes last and leaves the others alone", "[expert_choice]") {
    const std::vector<double> logits{not_a_number, 0, 1, 2, 2, 1};  // (3, 2)
    const auto tight = choose_batch<double>(moe::ExpertChoice<>{}, logits, 3, 2);
    CHECK(tight.experts == Ids{-1, -1, 0, 1, 0, 1});
    const auto all = choose_batch<double>(moe::ExpertChoice<>{.capacity_factor = 2}, logits, 3, 2);
    CHECK(all.experts == Ids{0, 1, 0, 1, 0, 1});
    CHECK(all.kept(1) == tight.kept(1));
    CHECK(std::isnan(all.kept(0).weights[0]));
}

TEST_CASE("the capacity is rounded up, but not for a last bit", "[expert_choice]") {
    CHECK(moe::ExpertChoice<>{.capacity_factor = 1}.capacity(10, 4) == 3);
    CHECK(moe::ExpertChoice<>{.capacity_factor = 1}.capacity(8, 4) == 2);
    CHECK(moe::ExpertChoice<>{.capacity_factor = 1}.capacity(1, 1000) == 1);
    CHECK(moe::ExpertChoice<>{.capacity_factor = 100}.capacity(8, 4) == 8);
    CHECK(moe::ExpertChoice<>{.capacity_factor = 0}.capacity(8, 4) == 0);
    CHECK(std::ceil(1.1 * 110 / 11) == 12);  // what rounding would make of 11
    CHECK(moe::ExpertChoice<>{.capacity_factor = 1.1}.capacity(110, 11) == 11);
    CHECK(moe::ExpertChoice<>{.capacity_factor = 1e300}.max_assignments(2'000'000'000, 1000) == 2'000'000'000'000);
}

TEST_CASE("ExpertChoice refuses settings that cannot be", "[expert_choice]") {
    using moe::ExpertChoice;
    using moe::validate_gate;
    CHECK(message_of([] { validate_gate(ExpertChoice<>{.capacity_factor = -0.5}, 4); }) ==
          "ExpertChoice: capacity_factor is -0.5, it must be finite and not negative");
    CHECK(message_of([] { validate_gate(ExpertChoice<>{.capacity_factor = not_a_number}, 4); }) ==
          "ExpertChoice: capacity_factor is nan, it must be finite and not negative");
    CHECK(message_of([] { validate_gate(ExpertChoice<>{.max_per_token_cap = -1}, 4); }) ==
          "ExpertChoice: max_per_token_cap is -1, it must be 0 (no cap) or positive");
    CHECK(message_of([] {
              validate_gate(ExpertChoice<moe::RuntimeScore>{.score = {static_cast<moe::ScoreKind>(9)}}, 4);
          }) == "RuntimeScore: no score function has the number 9");
    CHECK(message_of([] { validate_gate(ExpertChoice<>{.capacity_factor = 0, .max_per_token_cap = 9}, 4); }) ==
          "no error");
}

TEST_CASE("ExpertChoice works inside AnyGate, without logits, and the same way twice", "[expert_choice]") {
    Dice dice{105};
    const Batch<float> batch = random_batch<float>(dice);
    const moe::ExpertChoice<> gate{.capacity_factor = 1.5, .max_per_token_cap = 2};
    const auto first = choose_batch<float>(gate, batch.logits, batch.n_tokens, batch.n_experts, batch.facts);
    const auto second =
        choose_batch<float>(moe::AnyGate(gate), batch.logits, batch.n_tokens, batch.n_experts, batch.facts);
    REQUIRE(batch.n_tokens > 0);
    CHECK(first.experts == second.experts);
    CHECK(same_bits(first.weights, second.weights, moe_test::NonFinite::allow));

    const auto uniform = choose_batch<float>(moe::ExpertChoice<moe::Uniform>{}, {}, 4, 2);
    CHECK_FALSE(moe::needs_logits(moe::ExpertChoice<moe::Uniform>{}));
    CHECK(uniform.experts == Ids{0, 1, 0, 1, -1, -1, -1, -1});
}

}  // namespace moe_test::expert_choice_test
