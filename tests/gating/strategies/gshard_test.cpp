// The two experts of GShard against their definition, and the draws against their probabilities.

#include "moe/gating/strategies/gshard.hpp"

#include <cmath>
#include <limits>
#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/reference/strategies/gshard.hpp>
#include <sstream>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::gshard_test {

namespace reference = moe::reference;
using moe::GShardTop2;
using moe::SecondExpert;
using moe_test::choose;
using moe_test::message_of;
using Ids = std::vector<moe::ExpertId>;

static_assert(moe::TokenGate<GShardTop2, float> && moe::TokenGate<GShardTop2, double>);

namespace {

std::uint64_t stream_of(const GShardTop2& gate, std::uint64_t position) {
    return moe::random_stream(moe::random_stream(gate.seed, gate.step), position);
}

/// A weight is an exponential by a sum of n and once more by a sum of two; rounding of the argument as in
/// noisy_top_k_test.cpp. A quotient of small probabilities has no more than their relative error, which the argument
/// dominates: logits of a spread of up to 60 are what the cases hold, beyond that the probabilities are 0.
template <class T>
bool same_weights(const std::vector<T>& weights, const reference::Choice& expected, std::size_t n_experts) {
    const double bound = moe_test::rounding_bound<T>(n_experts + 80, 1);
    bool same = weights.size() == expected.weights.size();
    for (std::size_t slot = 0; same && slot < weights.size(); ++slot) {
        const auto w = static_cast<double>(weights[slot]);
        same = std::abs(w - expected.weights[slot]) <= bound || (std::isnan(w) && std::isnan(expected.weights[slot]));
    }
    return same;
}

/// Whether the draw of the second expert is too close to its probability to be the same in T.
template <class T>
bool is_close(reference::Second policy, const reference::Vector& logits, std::uint64_t stream) {
    const reference::Choice two = reference::two_experts(policy, logits, stream);
    const double chance = reference::chance_of_second(policy, two.weights[0], two.weights[1]);
    return std::abs(chance - moe::random_open_uniform(stream, 0)) <=
           2 * moe_test::rounding_bound<T>(logits.size() + 80, 1);
}

template <class T>
void compare_many(std::uint64_t seed) {
    moe_test::Dice dice{seed};
    std::size_t compared = 0;
    std::size_t wrong = 0;
    std::ostringstream text;
    for (int i = 0; i < 1100; ++i) {
        const std::size_t n_experts = moe_test::expert_counts[1 + dice.below(moe_test::expert_counts.size() - 1)];
        const std::vector<float> row = moe_test::random_logits(dice, n_experts);
        const std::vector<T> logits(row.begin(), row.end());
        const reference::Vector exact(row.begin(), row.end());
        const GShardTop2 gate{.second = static_cast<SecondExpert>(dice.below(4)),
                              .normalize = dice.one_in(2),
                              .seed = dice.below(100),
                              .step = dice.below(100)};
        const moe::TokenContext context{.position = dice.below(1000)};
        const auto policy = static_cast<reference::Second>(gate.second);
        const std::uint64_t stream = stream_of(gate, context.position);
        if (is_close<T>(policy, exact, stream)) {
            continue;
        }
        ++compared;
        const bool normalize = gate.normalize.kind != moe::Normalize::Kind::none;
        const reference::Choice expected = reference::gshard(policy, normalize, exact, stream);
        const auto chosen = choose<T>(gate, logits, n_experts, context);
        const auto again = choose<T>(moe::AnyGate(gate), logits, n_experts, context);
        if (chosen.experts != expected.experts || !same_weights(chosen.weights, expected, n_experts) ||
            again.experts != chosen.experts ||
            !moe_test::same_bits(again.weights, chosen.weights, moe_test::NonFinite::allow)) {
            ++wrong;
            text << "case " << i << ": E " << n_experts << ", policy " << static_cast<int>(gate.second) << "\n";
        }
    }
    INFO(text.str());
    CHECK(wrong == 0);
    CHECK(compared >= 1000);
}

/// Share of `n` positions in which the second expert of two is this one, or (-1) there is none.
double share_of(const GShardTop2& gate, const std::vector<double>& logits, moe::ExpertId second, std::size_t n) {
    double count = 0;
    for (std::size_t position = 0; position < n; ++position) {
        const Ids experts = choose(gate, logits, logits.size(), {.position = position}).experts;
        count += (experts.size() == 2 ? experts[1] : -1) == second ? 1 : 0;
    }
    return count / static_cast<double>(n);
}

}  // namespace

TEST_CASE("GShardTop2 chooses and weighs as the definition, in float", "[gshard]") { compare_many<float>(1); }
TEST_CASE("GShardTop2 chooses and weighs as the definition, in double", "[gshard]") { compare_many<double>(2); }

TEST_CASE("with all second experts GShardTop2 is the top 2 of the softmax", "[gshard]") {
    moe_test::Dice dice{3};
    for (int i = 0; i < 100; ++i) {
        std::vector<double> logits(8);
        for (double& l : logits) {
            l = static_cast<double>(dice.uniform(-3, 3));
        }
        REQUIRE(choose(GShardTop2{}, logits) == choose(moe::TokenChoice<>{.top_k = 2, .normalize = true}, logits));
        REQUIRE(choose(GShardTop2{.normalize = false}, logits) == choose(moe::TokenChoice<>{.top_k = 2}, logits));
    }
}

TEST_CASE("the second expert is kept with twice its probability", "[gshard]") {
    constexpr std::size_t n = 20000;
    const double bound = 5 * 0.5 / std::sqrt(n);
    const std::vector<double> logits{std::log(0.6), std::log(0.2), std::log(0.15), std::log(0.05)};
    const double kept = share_of({.second = SecondExpert::random, .seed = 1}, logits, 1, n);
    CHECK(kept == Approx(2 * 0.2).margin(bound));
    CHECK(share_of({.second = SecondExpert::random_of_two, .seed = 1}, logits, 1, n) == Approx(2 * 0.25).margin(bound));
    // 2 p2 >= 1: always
    CHECK(share_of({.second = SecondExpert::random_of_two, .seed = 1}, {1, 1, 0}, 1, 1000) == 1);
    // the others in proportion to their probabilities
    const GShardTop2 sampling{.second = SecondExpert::sampling, .seed = 1};
    CHECK(share_of(sampling, logits, 1, n) == Approx(0.2 / 0.4).margin(bound));
    CHECK(share_of(sampling, logits, 2, n) == Approx(0.15 / 0.4).margin(bound));
    CHECK(share_of(sampling, logits, 3, n) == Approx(0.05 / 0.4).margin(bound));
}

TEST_CASE("a lost second expert takes its share of the weight with it", "[gshard]") {
    const std::vector<double> logits{std::log(0.75), std::log(0.15), std::log(0.1)};
    GShardTop2 gate{.second = SecondExpert::random};
    std::uint64_t position = 0;
    while (choose(gate, logits, 3, {.position = position}).experts.size() == 2) {
        ++position;
    }
    const auto lost = choose(gate, logits, 3, {.position = position});
    CHECK(moe_test::difference(lost.weights, std::vector<double>{0.75 / 0.9}, 1e-15) == "");
    gate.step = 1;
    std::size_t changed = 0;
    for (std::uint64_t p = 0; p < 100; ++p) {
        const GShardTop2 first{.second = SecondExpert::random};
        changed += choose(gate, logits, 3, {.position = p}) == choose(first, logits, 3, {.position = p}) ? 0U : 1U;
    }
    CHECK(changed > 10);
}

TEST_CASE("NaN comes last in GShardTop2", "[gshard]") {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const SecondExpert second : {SecondExpert::all, SecondExpert::sampling}) {
        CHECK(choose<double>(GShardTop2{.second = second}, {nan, 1, nan, 2}).experts == Ids{3, 1});
        CHECK(choose<double>(GShardTop2{.second = second}, {nan, nan, nan}).experts == Ids{0, 1});
    }
    CHECK(choose<double>(GShardTop2{.second = SecondExpert::random}, {nan, nan, nan}).experts == Ids{0});
}

TEST_CASE("GShardTop2 names what it refuses", "[gshard][errors]") {
    CHECK(message_of([] { moe::validate_gate(GShardTop2{}, 1); }) == "GShardTop2: it chooses 2 experts of 1");
    CHECK(message_of([] { moe::validate_gate(GShardTop2{.second = static_cast<SecondExpert>(4)}, 2); }) ==
          "GShardTop2: second has no value 4");
    CHECK(message_of([] { moe::validate_gate(GShardTop2{.normalize = moe::Normalize::lp(0)}, 2); }) ==
          "Normalize: the p of lp is 0, it must be above 0");
}

}  // namespace moe_test::gshard_test
