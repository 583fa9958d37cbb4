// TopP against its definition, and what must hold of it.

#include <moe/gating/strategies/dense.hpp>
#include <moe/gating/strategies/top_p.hpp>
#include <moe/reference/strategies/top_p.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gating/strategies/token_strategy.hpp"
#include "support/catch.hpp"

namespace moe_test::top_p_test {

namespace reference = moe::reference;
using moe_test::choose;
using moe_test::Dice;
using moe_test::refusal;
using Ids = std::vector<moe::ExpertId>;

static_assert(moe_test::is_token_gate<moe::TopP<>> && moe_test::is_token_gate<moe::TopP<moe::RuntimeScore>>);

namespace {

template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    for (int row = 0; row < 1000; ++row) {
        const std::vector<float> logits =
            moe_test::random_logits(dice, moe_test::expert_counts[dice.below(moe_test::expert_counts.size())]);
        const std::size_t limit = dice.one_in(2) ? 0 : 1 + dice.below(logits.size());
        reference::TokenChoiceRule weights{.scale = dice.pick(1.0, 2.5, -0.75)};
        moe::TopP<moe::RuntimeScore> gate{.score = moe_test::random_score(dice),
                                          .mass = dice.pick(0.0, 0.25, 0.4, 0.5, 0.9, 1.0),
                                          .limit = static_cast<int>(limit),
                                          .scale = weights.scale};
        gate.normalize = moe_test::random_normalize(dice, weights);
        const reference::Vector scores = moe_test::scores_in<T>(gate.score, logits);
        reference::Choice expected{
            reference::top_p(scores, moe_test::wide(logits), gate.mass, limit, moe_test::ties_by_logit(gate.score)),
            {}};
        expected.weights = reference::chosen_weights(weights, expected.experts, scores);
        const std::vector<T> row_logits = moe_test::in_type<T>(logits);
        INFO("row " << row << ", E " << logits.size() << ", score " << static_cast<int>(gate.score.kind) << ", mass "
                    << gate.mass << ", limit " << limit);
        REQUIRE(moe_test::disagreement(choose<T>(gate, row_logits), expected) == "");
        REQUIRE(moe_test::repeats<T>(gate, row_logits, logits.size()));
    }
}

}  // namespace

TEST_CASE("TopP in float is its definition", "[top_p]") { compare_many<float>(1); }

TEST_CASE("TopP in double is its definition", "[top_p]") { compare_many<double>(2); }

TEST_CASE("TopP of a case by hand", "[top_p]") {
    // Softmax: 1/10, 4/10, 2/10, 3/10.
    const std::vector<double> logits{0, std::log(4.0), std::log(2.0), std::log(3.0)};
    CHECK(choose(moe::TopP<>{.mass = 0.39}, logits).experts == Ids{1});
    CHECK(choose(moe::TopP<>{.mass = 0.41}, logits).experts == Ids{1, 3});
    CHECK(choose(moe::TopP<>{.mass = 0.95}, logits).experts == Ids{1, 3, 2, 0});
    CHECK(choose(moe::TopP<>{.mass = 0.95, .limit = 3}, logits).experts == Ids{1, 3, 2});
    const auto chosen = choose(moe::TopP<>{.mass = 0.5, .normalize = true, .scale = 7}, logits);
    CHECK(moe_test::difference(chosen.weights, std::vector<double>{4, 3}, 1e-14) == "");
    // The one that reaches the mass exactly ends the choice: 1/4 and 1/4 of 1.
    CHECK(choose<float>(moe::TopP<>{.mass = 0.5}, {1, 1, 1, 1}).experts == Ids{0, 1});
    // A share of the sum for scores that do not sum to 1: 3 of 4 + 3 + 1.
    CHECK(choose<float>(moe::TopP<moe::ReluScore>{.mass = 0.5}, {3, -2, 4, 1}).experts == Ids{2});
    CHECK(choose<float>(moe::TopP<moe::ReluScore>{.mass = 1}, {3, -2, 4, 1}).experts == Ids{2, 0, 3});
}

TEST_CASE("TopP with mass 1 takes the set that Dense takes where no score is 0", "[top_p]") {
    Dice dice{3};
    for (int row = 0; row < 200; ++row) {
        std::vector<float> logits(moe_test::expert_counts[dice.below(moe_test::expert_counts.size())]);
        for (float& l : logits) {
            l = dice.uniform(-40, 40);
        }
        auto all = choose(moe::TopP<>{.mass = 1}, logits);
        const auto dense = choose(moe::Dense<>{}, logits);
        REQUIRE(all.experts.size() == logits.size());
        for (std::size_t slot = 0; slot < logits.size(); ++slot) {
            REQUIRE(all.weights[slot] == dense.weights[static_cast<std::size_t>(all.experts[slot])]);
        }
        std::sort(all.experts.begin(), all.experts.end());
        REQUIRE(all.experts == dense.experts);
    }
}

TEST_CASE("TopP takes one expert of a token without a sum", "[top_p]") {
    constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
    constexpr float inf = std::numeric_limits<float>::infinity();
    CHECK(choose<float>(moe::TopP<>{.mass = 0.9}, {1, not_a_number, 2}).experts == Ids{2});
    CHECK(choose<float>(moe::TopP<>{.mass = 0.9}, {-inf, not_a_number, 2}).experts == Ids{2});
    CHECK(choose<float>(moe::TopP<>{.mass = 1}, {-inf, -inf}).experts == Ids{0});
    CHECK(choose<float>(moe::TopP<>{.mass = 0}, {5}).experts == Ids{0});
    CHECK(choose<float>(moe::TopP<>{.mass = 1}, {-inf, 1, -inf}).experts == Ids{1});
    CHECK(choose<float>(moe::TopP<moe::Uniform>{.mass = 0.5}, {}, 4).weights == std::vector<float>{1, 1});
    CHECK_FALSE(moe::needs_logits(moe::TopP<moe::Uniform>{}));
}

TEST_CASE("TopP names what it refuses", "[top_p][errors]") {
    CHECK(refusal(moe::TopP<>{.mass = 1, .limit = 8}, 8) == "no error");
    CHECK(refusal(moe::TopP<>{.mass = 1.5}, 8) == "TopP: mass is 1.5, it must lie in 0..1");
    CHECK(refusal(moe::TopP<>{.mass = -1}, 8) == "TopP: mass is -1, it must lie in 0..1");
    CHECK_THAT(refusal(moe::TopP<>{.mass = std::nan("")}, 8), moe_test::contains("TopP: mass is nan"));
    CHECK(refusal(moe::TopP<>{.limit = 9}, 8) == "TopP: limit is 9, it must be 0 (off) or 1..8, the number of experts");
    CHECK(refusal(moe::TopP<>{.limit = -1}, 8) ==
          "TopP: limit is -1, it must be 0 (off) or 1..8, the number of experts");
    CHECK(refusal(moe::TopP<>{.scale = 1e39}, 8) == "TopP: scale is 1e+39, it must be finite in float");
    CHECK_THAT(refusal(moe::TopP<>{.normalize = moe::Normalize::lp(0)}, 8), moe_test::contains("the p of lp is 0"));
    CHECK_THAT(refusal(moe::TopP<moe::RuntimeScore>{.score = {static_cast<moe::ScoreKind>(77)}}, 8),
               moe_test::contains("number 77"));
}

}  // namespace moe_test::top_p_test
