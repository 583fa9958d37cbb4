// Threshold against its definition, and what must hold of it.

#include <moe/gating/strategies/threshold.hpp>
#include <moe/reference/strategies/threshold.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include "gating/strategies/token_strategy.hpp"
#include "support/catch.hpp"
#include "support/unaligned.hpp"

namespace moe_test::threshold_test {

namespace reference = moe::reference;
using moe_test::choose;
using moe_test::Dice;
using moe_test::refusal;
using Ids = std::vector<moe::ExpertId>;

static_assert(moe_test::is_token_gate<moe::Threshold<>> && moe_test::is_token_gate<moe::Threshold<moe::ReluScore>>);

namespace {

template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    for (int row = 0; row < 1000; ++row) {
        const std::vector<float> logits =
            moe_test::random_logits(dice, moe_test::expert_counts[dice.below(moe_test::expert_counts.size())]);
        const std::size_t n = logits.size();
        const std::size_t limit = dice.one_in(2) ? 0 : 1 + dice.below(n);
        reference::TokenChoiceRule weights{.scale = dice.pick(1.0, 2.5, -0.75)};
        moe::Threshold<moe::RuntimeScore> gate{
            .score = moe_test::random_score(dice),
            .threshold = dice.pick(0.0, 0.0, 0.3, 0.5, -1.0, 2.0) / dice.pick(1.0, static_cast<double>(n)),
            .limit = static_cast<int>(limit),
            .keep_best = dice.one_in(2),
            .scale = weights.scale};
        gate.normalize = moe_test::random_normalize(dice, weights);
        std::vector<float> thresholds;
        if (dice.one_in(3)) {
            gate.threshold = 0;
            for (std::size_t e = 0; e < n; ++e) {
                thresholds.push_back(dice.uniform(-0.25F, 1));
            }
            gate.thresholds = thresholds;
        }
        const reference::Vector scores = moe_test::scores_in<T>(gate.score, logits);
        const reference::Vector least =
            thresholds.empty() ? reference::Vector(n, gate.threshold) : moe_test::wide(thresholds);
        reference::Choice expected{reference::above_threshold(scores, moe_test::wide(logits), least, limit,
                                                              gate.keep_best, moe_test::ties_by_logit(gate.score)),
                                   {}};
        expected.weights = reference::chosen_weights(weights, expected.experts, scores);
        const std::vector<T> row_logits = moe_test::in_type<T>(logits);
        INFO("row " << row << ", E " << n << ", score " << static_cast<int>(gate.score.kind) << ", threshold "
                    << gate.threshold << ", limit " << limit);
        REQUIRE(moe_test::disagreement(choose<T>(gate, row_logits), expected) == "");
        REQUIRE(moe_test::repeats<T>(gate, row_logits, n));
    }
}

}  // namespace

TEST_CASE("Threshold in float is its definition", "[threshold]") { compare_many<float>(1); }

TEST_CASE("Threshold in double is its definition", "[threshold]") { compare_many<double>(2); }

TEST_CASE("Threshold takes what exceeds it, and not what equals it", "[threshold]") {
    const moe::Threshold<moe::Identity> gate{.threshold = 1};
    CHECK(choose<float>(gate, {1, 2, 0.5F, 4}).experts == Ids{3, 1});
    CHECK(choose<float>(gate, {1, 1}).experts.empty());
    const std::vector<float> thresholds{0, 3, 0, 3};
    CHECK(choose<float>(moe::Threshold<moe::Identity>{.thresholds = thresholds}, {1, 2, 0.5F, 4}).experts ==
          Ids{3, 0, 2});
    // 0.1 in double is a little less than 0.1 in float: nothing is rounded before it is compared.
    CHECK(choose<float>(moe::Threshold<moe::Identity>{.threshold = 0.1}, {0.1F}).experts == Ids{0});
}

TEST_CASE("Threshold with a ReLU and 0 is the routing of ReMoE", "[threshold]") {
    const auto chosen = choose<float>(moe::Threshold<moe::ReluScore>{}, {0.5F, -1, 0, 3, -0.25F, 0.75F});
    CHECK(chosen.experts == Ids{3, 5, 0});
    CHECK(chosen.weights == std::vector<float>{3, 0.75F, 0.5F});
    CHECK(choose<float>(moe::Threshold<moe::ReluScore>{}, {-1, -2}).experts.empty());
}

TEST_CASE("Threshold keeps the best where no expert passes", "[threshold]") {
    constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
    constexpr float inf = std::numeric_limits<float>::infinity();
    const moe::Threshold<> gate{.threshold = 0.9, .keep_best = true};
    const auto chosen = choose<double>(gate, {-1, 0, -2, 0});
    CHECK(chosen.experts == Ids{1});
    CHECK(chosen.weights == std::vector<double>{0.5});
    CHECK(choose<float>(gate, {-inf, not_a_number, -inf, not_a_number}).experts == Ids{1});
    CHECK(choose<float>(gate, {not_a_number, 0}).experts == Ids{1});
    CHECK(choose<float>(moe::Threshold<>{.threshold = -1}, {not_a_number, 0}).experts == Ids{1});
    CHECK(choose<float>(gate, {-inf}).experts == Ids{0});
    CHECK(choose<float>(moe::Threshold<moe::Uniform>{.threshold = 0.5}, {}, 3).experts == Ids{0, 1, 2});
}

TEST_CASE("Threshold names what it refuses", "[threshold][errors]") {
    const std::vector<float> seven(7);
    const std::vector<float> eight(8);
    CHECK(refusal(moe::Threshold<>{.thresholds = eight, .limit = 8}, 8) == "no error");
    CHECK(refusal(moe::Threshold<>{.thresholds = seven}, 8) == "Threshold: thresholds has 7 values for 8 experts");
    CHECK(refusal(moe::Threshold<>{.threshold = 0.5, .thresholds = eight}, 8) ==
          "Threshold: threshold is 0.5 and thresholds are given; leave it 0");
    CHECK(refusal(moe::Threshold<>{.threshold = std::nan("")}, 8) == "Threshold: threshold is NaN");
    CHECK(refusal(moe::Threshold<>{.limit = 9}, 8) ==
          "Threshold: limit is 9, it must be 0 (off) or 1..8, the number of experts");
    CHECK(refusal(moe::Threshold<>{.limit = -1}, 8) ==
          "Threshold: limit is -1, it must be 0 (off) or 1..8, the number of experts");
    CHECK(refusal(moe::Threshold<>{.scale = -1e39}, 8) == "Threshold: scale is -1e+39, it must be finite in float");
    CHECK_THAT(refusal(moe::Threshold<>{.normalize = moe::Normalize::sum(-1)}, 8),
               moe_test::contains("of a sum is -1"));
    const moe_test::Unaligned<float> odd(eight);
    CHECK_THAT(refusal(moe::Threshold<>{.thresholds = {odd.data(), 8}}, 8),
               moe_test::contains("Threshold: thresholds must be aligned to the 4 bytes"));
}

}  // namespace moe_test::threshold_test
