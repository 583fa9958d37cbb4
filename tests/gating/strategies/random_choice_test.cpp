// RandomChoice against its definition, and whether it is fair.

#include <moe/gating/strategies/random_choice.hpp>
#include <moe/reference/strategies/baselines.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gating/strategies/token_strategy.hpp"
#include "support/catch.hpp"

namespace moe_test::random_choice_test {

namespace reference = moe::reference;
using moe_test::choose;
using moe_test::Dice;
using moe_test::refusal;

static_assert(moe_test::is_token_gate<moe::RandomChoice>);
static_assert(!moe::RandomChoice::needs_logits);

namespace {

template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    for (int row = 0; row < 1000; ++row) {
        const std::size_t n = moe_test::expert_counts[dice.below(moe_test::expert_counts.size())];
        const std::size_t k = dice.one_in(8) ? n : 1 + dice.below(std::min<std::size_t>(n, 12));
        const std::uint64_t position = dice.one_in(8) ? ~std::uint64_t{0} - dice.below(4) : dice.below(100'000);
        const moe::RandomChoice gate{static_cast<int>(k), dice.below(1000)};
        const reference::Choice expected{reference::random_choice(gate.seed, position, n, k),
                                         reference::Vector(k, 1 / static_cast<double>(k))};
        INFO("row " << row << ", E " << n << ", k " << k << ", position " << position);
        REQUIRE(moe_test::disagreement(choose<T>(gate, {}, n, {.position = position}), expected) == "");
        REQUIRE(moe_test::repeats<T>(gate, {}, n, {.position = position}));
    }
}

}  // namespace

TEST_CASE("RandomChoice in float is its definition", "[random_choice]") { compare_many<float>(1); }

TEST_CASE("RandomChoice in double is its definition", "[random_choice]") { compare_many<double>(2); }

TEST_CASE("RandomChoice takes every expert once where k is their number", "[random_choice]") {
    for (std::uint64_t position = 0; position < 50; ++position) {
        auto chosen = choose<float>(moe::RandomChoice{.top_k = 9}, {}, 9, {.position = position}).experts;
        std::sort(chosen.begin(), chosen.end());
        REQUIRE(chosen == std::vector<moe::ExpertId>{0, 1, 2, 3, 4, 5, 6, 7, 8});
    }
}

TEST_CASE("RandomChoice gives every expert and every slot its share", "[random_choice]") {
    constexpr std::size_t n = 10;
    constexpr std::size_t k = 3;
    constexpr std::size_t n_tokens = 20'000;
    std::vector<std::size_t> counts(n * k);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const auto chosen = choose<float>(moe::RandomChoice{.top_k = k, .seed = 7}, {}, n, {.position = t}).experts;
        for (std::size_t slot = 0; slot < k; ++slot) {
            ++counts[slot * n + static_cast<std::size_t>(chosen[slot])];
        }
    }
    // Each count is binomial, (20000, 0.1): mean 2000, deviation 42. Five deviations leave room for 30 counts.
    for (const std::size_t count : counts) {
        CHECK(std::abs(static_cast<double>(count) - 2000) < 5 * std::sqrt(n_tokens * 0.1 * 0.9));
    }
}

TEST_CASE("RandomChoice draws anew for every position and seed", "[random_choice]") {
    const auto at = [](std::uint64_t seed, std::uint64_t position) {
        return choose<float>(moe::RandomChoice{4, seed}, {}, 256, {.position = position}).experts;
    };
    CHECK(at(1, 5) == at(1, 5));
    CHECK(at(1, 5) != at(1, 6));
    CHECK(at(1, 5) != at(2, 5));
}

TEST_CASE("RandomChoice reads no logits", "[random_choice]") {
    const std::vector<float> none(6, std::numeric_limits<float>::quiet_NaN());
    CHECK(choose<float>(moe::RandomChoice{2, 1}, none) == choose<float>(moe::RandomChoice{2, 1}, {}, 6));
}

TEST_CASE("RandomChoice names what it refuses", "[random_choice][errors]") {
    CHECK(refusal(moe::RandomChoice{8}, 8) == "no error");
    CHECK(refusal(moe::RandomChoice{9}, 8) == "RandomChoice: top_k is 9, it must lie in 1..8, the number of experts");
    CHECK(refusal(moe::RandomChoice{0}, 8) == "RandomChoice: top_k is 0, it must lie in 1..8, the number of experts");
}

}  // namespace moe_test::random_choice_test
