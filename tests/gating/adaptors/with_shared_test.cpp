// WithShared against its definition around a TokenChoice, and by hand as Inkling has it.

#include <moe/gating/adaptors/with_shared.hpp>
#include <moe/reference/adaptors/with_shared.hpp>

#include <cmath>
#include <vector>

#include "gating/adaptors/inner_gates.hpp"
#include "support/catch.hpp"

namespace moe_test::with_shared_test {

namespace reference = moe::reference;
using moe_test::choose;
using moe_test::Dice;
using moe_test::NeighboursInFloat;
using moe_test::refusal;
using Ids = std::vector<moe::ExpertId>;

static_assert(moe_test::is_token_gate<moe::WithShared<moe::TokenChoice<>>>);
static_assert(moe_test::is_token_gate<moe::WithShared<NeighboursInFloat>>);

namespace {

template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    for (int row = 0; row < 1000; ++row) {
        const moe_test::RuleCase c = moe_test::random_rule(dice);
        const std::size_t n_shared = 1 + dice.below(4);
        std::vector<float> all = c.logits;
        for (std::size_t s = 0; s < n_shared; ++s) {
            all.push_back(dice.uniform(-4, 4));
        }
        const moe::WithShared gate{c.gate, static_cast<int>(n_shared)};
        const reference::Choice expected = reference::with_shared(c.rule, moe_test::wide(all), n_shared);
        INFO("row " << row << ", E " << c.logits.size() << ", shared " << n_shared);
        REQUIRE(moe_test::disagreement(choose<T>(gate, moe_test::in_type<T>(all)), expected, 2 * all.size() + 64) ==
                "");
    }
}

}  // namespace

TEST_CASE("WithShared in float is its definition", "[with_shared]") { compare_many<float>(1); }

TEST_CASE("WithShared in double is its definition", "[with_shared]") { compare_many<double>(2); }

TEST_CASE("shared experts stand in the normaliser, without the bias of the choice: Inkling", "[with_shared]") {
    const std::vector<float> bias{0, 0, 2};
    const moe::WithShared gate{
        moe::TokenChoice<moe::Sigmoid>{.top_k = 1, .normalize = true, .scale = 3, .selection_bias = bias}, 2};
    const std::vector<double> logits{1, 2, -1, 0, 0.5};  // three routed, two shared
    const auto chosen = choose(gate, logits);
    CHECK(chosen.experts == Ids{2, 3, 4});
    const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
    const double sum = sigmoid(-1) + sigmoid(0) + sigmoid(0.5);
    CHECK(moe_test::difference(chosen.weights,
                               std::vector<double>{3 * sigmoid(-1) / sum, 3 * sigmoid(0) / sum, 3 * sigmoid(0.5) / sum},
                               1e-14) == "");
}

TEST_CASE("WithShared names what it refuses", "[with_shared]") {
    const moe::TokenChoice<> inner{.top_k = 3};
    CHECK_THAT(refusal(moe::WithShared{inner, 0}, 8), moe_test::contains("n_shared is 0, it must lie in 1..7"));
    CHECK_THAT(refusal(moe::WithShared{inner, 8}, 8), moe_test::contains("n_shared is 8"));
    CHECK_THAT(refusal(moe::WithShared{inner, -1}, 8), moe_test::contains("n_shared is -1"));
    CHECK_THAT(refusal(moe::WithShared{inner, 6}, 8), moe_test::contains("top_k 3 exceeds the 2 experts"));
    CHECK(refusal(moe::WithShared{inner, 5}, 8) == "no error");
}

}  // namespace moe_test::with_shared_test
