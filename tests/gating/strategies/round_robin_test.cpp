// RoundRobin against its definition, and whether it balances.

#include <moe/gating/strategies/round_robin.hpp>
#include <moe/reference/strategies/baselines.hpp>

#include <algorithm>
#include <vector>

#include "gating/strategies/token_strategy.hpp"
#include "support/catch.hpp"

namespace moe_test::round_robin_test {

namespace reference = moe::reference;
using moe_test::choose;
using moe_test::Dice;
using moe_test::refusal;
using Ids = std::vector<moe::ExpertId>;

static_assert(moe_test::is_token_gate<moe::RoundRobin>);
static_assert(!moe::RoundRobin::needs_logits);

namespace {

template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    for (int row = 0; row < 1000; ++row) {
        const std::size_t n = moe_test::expert_counts[dice.below(moe_test::expert_counts.size())];
        const std::size_t k = dice.one_in(8) ? n : 1 + dice.below(std::min<std::size_t>(n, 12));
        const std::uint64_t position = dice.below(2000);
        const moe::RoundRobin gate{static_cast<int>(k)};
        const reference::Choice expected{reference::round_robin(position, n, k),
                                         reference::Vector(k, 1 / static_cast<double>(k))};
        INFO("row " << row << ", E " << n << ", k " << k << ", position " << position);
        REQUIRE(moe_test::disagreement(choose<T>(gate, {}, n, {.position = position}), expected) == "");
        REQUIRE(moe_test::repeats<T>(gate, {}, n, {.position = position}));
    }
}

}  // namespace

TEST_CASE("RoundRobin in float is its definition", "[round_robin]") { compare_many<float>(1); }

TEST_CASE("RoundRobin in double is its definition", "[round_robin]") { compare_many<double>(2); }

TEST_CASE("RoundRobin gives any n tokens on end top_k places at every expert", "[round_robin]") {
    for (const std::uint64_t start : {0U, 3U, 1000U}) {
        std::vector<int> counts(7);
        for (std::uint64_t t = 0; t < 7; ++t) {
            for (const moe::ExpertId e : choose<float>(moe::RoundRobin{3}, {}, 7, {.position = start + t}).experts) {
                ++counts[static_cast<std::size_t>(e)];
            }
        }
        CHECK(counts == std::vector<int>(7, 3));
    }
}

TEST_CASE("RoundRobin goes on where position * top_k no longer fits", "[round_robin]") {
    // 2^64 - 1 = 3 * 5 * 17 * ..., so modulo 7 it is 1: 2^64 = 2^(3 * 21 + 1) = 2.
    CHECK(choose<float>(moe::RoundRobin{3}, {}, 7, {.position = ~std::uint64_t{0}}).experts == Ids{3, 4, 5});
}

TEST_CASE("RoundRobin names what it refuses", "[round_robin][errors]") {
    CHECK(refusal(moe::RoundRobin{8}, 8) == "no error");
    CHECK(refusal(moe::RoundRobin{9}, 8) == "RoundRobin: top_k is 9, it must lie in 1..8, the number of experts");
    CHECK(refusal(moe::RoundRobin{0}, 8) == "RoundRobin: top_k is 0, it must lie in 1..8, the number of experts");
}

}  // namespace moe_test::round_robin_test
