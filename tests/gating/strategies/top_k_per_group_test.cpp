// TopKPerGroup against its definition, and what must hold of it.

#include <moe/gating/strategies/token_choice.hpp>
#include <moe/gating/strategies/top_k_per_group.hpp>
#include <moe/reference/strategies/top_k_per_group.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gating/strategies/token_strategy.hpp"
#include "support/catch.hpp"
#include "support/unaligned.hpp"

namespace moe_test::top_k_per_group_test {

namespace reference = moe::reference;
using moe_test::choose;
using moe_test::Dice;
using moe_test::refusal;
using Ids = std::vector<moe::ExpertId>;

static_assert(moe_test::is_token_gate<moe::TopKPerGroup<>> && moe_test::is_token_gate<moe::TopKPerGroup<moe::Sigmoid>>);

namespace {

template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    for (int row = 0; row < 1000; ++row) {
        const std::vector<float> logits =
            moe_test::random_logits(dice, moe_test::expert_counts[dice.below(moe_test::expert_counts.size())]);
        const std::size_t n = logits.size();
        std::size_t n_groups = 1 + dice.below(dice.one_in(4) ? n : std::min<std::size_t>(n, 8));
        while (n % n_groups != 0) {
            --n_groups;
        }
        const std::size_t members = n / n_groups;
        const std::size_t k = dice.one_in(8) ? members : 1 + dice.below(std::min<std::size_t>(members, 4));
        reference::TokenChoiceRule weights{.scale = dice.pick(1.0, 2.5, -0.75)};
        std::vector<float> per_expert;
        for (std::size_t e = 0; row % 2 == 0 && e < n; ++e) {
            per_expert.push_back(dice.uniform(0.5F, 2));
        }
        weights.per_expert_scale = moe_test::wide(per_expert);
        moe::TopKPerGroup<moe::RuntimeScore> gate{.score = moe_test::random_score(dice),
                                                  .n_groups = static_cast<int>(n_groups),
                                                  .top_k = static_cast<int>(k),
                                                  .scale = weights.scale,
                                                  .per_expert_scale = per_expert};
        gate.normalize = moe_test::random_normalize(dice, weights);
        const reference::Vector scores = moe_test::scores_in<T>(gate.score, logits);
        reference::Choice expected{reference::top_k_per_group(scores, moe_test::wide(logits), n_groups, k,
                                                              moe_test::ties_by_logit(gate.score)),
                                   {}};
        expected.weights = reference::chosen_weights(weights, expected.experts, scores);
        const std::vector<T> row_logits = moe_test::in_type<T>(logits);
        INFO("row " << row << ", E " << n << ", score " << static_cast<int>(gate.score.kind) << ", groups " << n_groups
                    << ", k " << k);
        REQUIRE(moe_test::disagreement(choose<T>(gate, row_logits), expected) == "");
        REQUIRE(moe_test::repeats<T>(gate, row_logits, n));
    }
}

}  // namespace

TEST_CASE("TopKPerGroup in float is its definition", "[top_k_per_group]") { compare_many<float>(1); }

TEST_CASE("TopKPerGroup in double is its definition", "[top_k_per_group]") { compare_many<double>(2); }

TEST_CASE("TopKPerGroup with one group is TokenChoice", "[top_k_per_group]") {
    Dice dice{3};
    for (int row = 0; row < 200; ++row) {
        const std::vector<float> logits = moe_test::random_logits(dice, 1 + dice.below(64));
        const int k = 1 + static_cast<int>(dice.below(logits.size()));
        REQUIRE(moe_test::same_choice(choose(moe::TopKPerGroup<>{.top_k = k, .normalize = true}, logits),
                                      choose(moe::TokenChoice<>{.top_k = k, .normalize = true}, logits)));
    }
}

TEST_CASE("TopKPerGroup takes equally many of each group", "[top_k_per_group]") {
    constexpr float inf = std::numeric_limits<float>::infinity();
    const moe::TopKPerGroup<moe::Identity> gate{.n_groups = 2, .top_k = 2};
    CHECK(choose<float>(gate, {9, 8, 7, 1, 3, 2}).experts == Ids{0, 1, 4, 5});
    CHECK(choose<float>(gate, {-inf, std::nanf(""), -inf, 1, 1, 1}).experts == Ids{1, 0, 3, 4});
    const std::vector<float> scale{1, 1, 1, 2, 3, 4};
    moe::TopKPerGroup<moe::Uniform> pangu{.n_groups = 3};
    pangu.normalize = true;
    pangu.per_expert_scale = scale;
    const auto chosen = choose<double>(pangu, {}, 6);
    CHECK(chosen.experts == Ids{0, 2, 4});
    CHECK(moe_test::difference(chosen.weights, std::vector<double>{1.0 / 3, 1.0 / 3, 1}, 1e-15) == "");
    CHECK_FALSE(moe::needs_logits(pangu));
}

TEST_CASE("TopKPerGroup names what it refuses", "[top_k_per_group][errors]") {
    using Gate = moe::TopKPerGroup<>;
    const std::vector<float> eight(8);
    CHECK(refusal(Gate{.n_groups = 4, .top_k = 2, .per_expert_scale = eight}, 8) == "no error");
    CHECK(refusal(Gate{.n_groups = 3}, 8) == "TopKPerGroup: 3 groups do not divide 8 experts");
    CHECK(refusal(Gate{.n_groups = 0}, 8) == "TopKPerGroup: 0 groups do not divide 8 experts");
    CHECK(refusal(Gate{.n_groups = -4}, 8) == "TopKPerGroup: -4 groups do not divide 8 experts");
    CHECK(refusal(Gate{.n_groups = 4, .top_k = 3}, 8) ==
          "TopKPerGroup: top_k is 3, it must lie in 1..2, the experts of a group");
    CHECK(refusal(Gate{.top_k = 0}, 8) == "TopKPerGroup: top_k is 0, it must lie in 1..8, the experts of a group");
    CHECK(refusal(Gate{.per_expert_scale = eight}, 4) == "TopKPerGroup: per_expert_scale has 8 values for 4 experts");
    CHECK(refusal(Gate{.scale = 1e39}, 8) == "TopKPerGroup: scale is 1e+39, it must be finite in float");
    const moe_test::Unaligned<float> odd(eight);
    CHECK_THAT(refusal(Gate{.per_expert_scale = {odd.data(), 8}}, 8),
               moe_test::contains("TopKPerGroup: per_expert_scale must be aligned to the 4 bytes"));
}

}  // namespace moe_test::top_k_per_group_test
