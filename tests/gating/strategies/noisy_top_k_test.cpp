// Noisy top-k gating and its two losses against their definitions, and the noise against its distribution.

#include "moe/gating/strategies/noisy_top_k.hpp"

#include <cmath>
#include <limits>
#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/noisy_top_k_load.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/reference/strategies/noisy_top_k.hpp>
#include <sstream>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::noisy_top_k_test {

namespace reference = moe::reference;
using moe::NoisyTopK;
using moe_test::choose;
using moe_test::difference;
using moe_test::message_of;

static_assert(moe::TokenGate<NoisyTopK, float> && moe::TokenGate<NoisyTopK, double>);

namespace {

struct Case {
    std::vector<float> logits;  // (2 n_experts)
    std::size_t n_experts = 0;
    std::uint64_t position = 0;
    NoisyTopK gate;
};

Case random_case(moe_test::Dice& dice) {
    Case c;
    c.n_experts = moe_test::expert_counts[dice.below(moe_test::expert_counts.size())];
    c.logits = moe_test::random_logits(dice, c.n_experts);
    const std::vector<float> noise = moe_test::random_logits(dice, c.n_experts);
    c.logits.insert(c.logits.end(), noise.begin(), noise.end());
    c.position = dice.pick(0U, 1U, 4000000000U) + dice.below(100);
    c.gate.top_k =
        static_cast<int>(1 + dice.below(dice.one_in(8) ? c.n_experts : std::min<std::size_t>(c.n_experts, 8)));
    c.gate.training = !dice.one_in(3);
    c.gate.seed = dice.below(1000);
    c.gate.step = dice.below(1000);
    return c;
}

/// H in T, as the gate compares it: the definition's values rounded once.
template <class T>
reference::Vector noisy(const Case& c) {
    const reference::Vector logits(c.logits.begin(), c.logits.end());
    reference::Vector h =
        c.gate.training ? reference::noisy_logits(logits, c.gate.seed, c.gate.step, c.position)
                        : reference::Vector(logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(c.n_experts));
    for (double& value : h) {
        value = static_cast<double>(static_cast<T>(value));
    }
    return h;
}

/// A weight is exp(h - max) by a sum of k such. Rounding d = h - max changes exp(d) by at most |d| exp(d) < 1
/// roundings.
template <class T>
bool same_weights(const std::vector<T>& weights, const reference::Choice& expected) {
    const double bound = moe_test::rounding_bound<T>(expected.weights.size() + 8, 1);
    for (std::size_t slot = 0; slot < weights.size(); ++slot) {
        const auto w = static_cast<double>(weights[slot]);
        const double e = expected.weights[slot];
        if (!(std::abs(w - e) <= bound) && !(std::isnan(w) && std::isnan(e))) {
            return false;
        }
    }
    return true;
}

template <class T>
void compare_many(std::uint64_t seed) {
    moe_test::Dice dice{seed};
    std::size_t wrong = 0;
    std::ostringstream text;
    for (int i = 0; i < 1000; ++i) {
        const Case c = random_case(dice);
        const std::vector<T> logits(c.logits.begin(), c.logits.end());
        const moe::TokenContext context{.position = c.position};
        const auto chosen = choose<T>(c.gate, logits, c.n_experts, context);
        const auto expected = reference::choose_top_k(noisy<T>(c), static_cast<std::size_t>(c.gate.top_k));
        const auto again = choose<T>(moe::AnyGate(c.gate), logits, c.n_experts, context);
        if (chosen.experts != expected.experts || !same_weights(chosen.weights, expected) ||
            again.experts != chosen.experts ||
            !moe_test::same_bits(again.weights, chosen.weights, moe_test::NonFinite::allow)) {
            ++wrong;
            text << "case " << i << ": E " << c.n_experts << ", k " << c.gate.top_k << ", training " << c.gate.training
                 << "\n";
        }
    }
    INFO(text.str());
    CHECK(wrong == 0);
}

/// Logits of a small gate whose noise has deviation about 1: softplus(0.54) is close to 1.
std::vector<double> small_logits() { return {1.5, 0.5, 0, -0.5, 0.54, 0.3, 1, -1}; }

}  // namespace

TEST_CASE("NoisyTopK chooses and weighs as the definition, in float", "[noisy_top_k]") { compare_many<float>(1); }
TEST_CASE("NoisyTopK chooses and weighs as the definition, in double", "[noisy_top_k]") { compare_many<double>(2); }

TEST_CASE("without noise NoisyTopK is the softmax of the best", "[noisy_top_k]") {
    const NoisyTopK gate{.top_k = 2, .training = false};
    const moe::TokenChoice<> plain{.top_k = 2, .weight_from = moe::WeightFrom::softmax_of_selected};
    const std::vector<double> logits = small_logits();
    CHECK(choose(gate, logits, 4) == choose(plain, std::vector<double>(logits.begin(), logits.begin() + 4)));
}

TEST_CASE("the noise belongs to seed, step, position and expert", "[noisy_top_k]") {
    const auto noise = [](NoisyTopK gate, std::uint64_t position) {
        std::vector<double> noisy(4);
        gate.add_noise<double>(small_logits(), position, noisy);
        return noisy;
    };
    const std::vector<double> first = noise({.seed = 1}, 5);
    CHECK(noise({.seed = 1}, 5) == first);
    CHECK(noise({.seed = 2}, 5) != first);
    CHECK(noise({.seed = 1, .step = 1}, 5) != first);
    CHECK(noise({.seed = 1}, 6) != first);
}

TEST_CASE("NaN stays behind every number, and a token of NaN alone still has experts", "[noisy_top_k]") {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const NoisyTopK gate{.top_k = 2};
    CHECK(choose<float>(gate, {nan, 1, 2, 0, 0, 0}, 3).experts.front() != 0);
    CHECK(choose<float>(gate, {1, 1, 2, nan, nan, 0}, 3).experts == std::vector<moe::ExpertId>{2, 0});
    CHECK(choose<float>(gate, {nan, nan, nan, 0, 0, 0}, 3).experts == std::vector<moe::ExpertId>{0, 1});
}

TEST_CASE("load is the share of draws in which an expert is chosen", "[noisy_top_k]") {
    // One expert's noise drawn anew, the others as they are: n draws, within five standard deviations of at most 1/2.
    const std::vector<double> logits = small_logits();
    const NoisyTopK gate{.top_k = 2, .seed = 3};
    std::vector<double> noisy(4);
    std::vector<moe::ExpertId> order(4);
    std::vector<double> loads(4, 0);
    moe::add_noisy_load<double>(gate, logits, 11, noisy, order, loads);
    constexpr std::size_t n = 20000;
    for (std::size_t e = 0; e < 4; ++e) {
        std::vector<double> redrawn(noisy);
        double hits = 0;
        for (std::size_t i = 0; i < n; ++i) {
            redrawn[e] = logits[e] + moe::random_normal(77 + e, i) * (std::log1p(std::exp(logits[4 + e])) + 0.01);
            const auto best = reference::top_k(redrawn, 2);
            hits += std::count(best.begin(), best.end(), static_cast<moe::ExpertId>(e)) > 0 ? 1 : 0;
        }
        CHECK(loads[e] == Approx(hits / n).margin(5 * 0.5 / std::sqrt(n)));
    }
}

TEST_CASE("load is that of the definition", "[noisy_top_k]") {
    moe_test::Dice dice{4};
    for (int i = 0; i < 200; ++i) {
        NoisyTopK gate{.seed = dice.below(100), .step = dice.below(100)};
        const std::size_t n_experts = 1 + dice.below(20);
        gate.top_k = static_cast<int>(1 + dice.below(n_experts));
        std::vector<double> expected(n_experts, 0);
        std::vector<double> loads(n_experts, 0);
        for (std::uint64_t t = 0; t < 3; ++t) {
            std::vector<double> logits(2 * n_experts);
            for (double& l : logits) {
                l = static_cast<double>(dice.uniform(-2, 2));
            }
            const reference::Vector h = reference::noisy_logits(logits, gate.seed, gate.step, t);
            for (std::size_t e = 0; e < n_experts; ++e) {
                expected[e] += reference::chance_of(logits, h, static_cast<std::size_t>(gate.top_k), e);
            }
            std::vector<double> noisy(n_experts);
            std::vector<moe::ExpertId> order(n_experts);
            moe::add_noisy_load<double>(gate, logits, t, noisy, order, loads);
        }
        REQUIRE(difference(loads, expected, 1e-13) == "");
    }
}

TEST_CASE("without noise load counts the tokens of an expert", "[noisy_top_k]") {
    std::vector<float> noisy(4);
    std::vector<moe::ExpertId> order(4);
    std::vector<double> loads(4, 0);
    const std::vector<float> logits{1, 3, 2, 0, 0, 0, 0, 0};
    moe::add_noisy_load<float>({.top_k = 2, .training = false}, logits, 0, noisy, order, loads);
    CHECK(loads == std::vector<double>{0, 1, 1, 0});
    moe::add_noisy_load<float>({.top_k = 4}, logits, 0, noisy, order, loads);
    CHECK(loads == std::vector<double>{1, 2, 2, 1});
    CHECK(message_of([&] { moe::add_noisy_load<float>({}, logits, 0, noisy, order, std::span(loads).first(3)); }) ==
          "add_noisy_load: 8 logits, memory for 4 and 4 values, loads of 3 experts");
}

TEST_CASE("importance sums the weights of each expert", "[noisy_top_k]") {
    const std::vector<moe::ExpertId> experts{0, 2, 2, moe::no_expert, moe::dropped(1), 0};
    const std::vector<float> weights{0.75F, 0.25F, 1, 7, 0.5F, 0.5F};
    std::vector<double> sums(3, 9);
    moe::gate_importance<float>(moe::view(experts.data(), 3, 2), moe::view(weights.data(), 3, 2), sums);
    CHECK(sums == std::vector<double>{1.25, 0, 1.25});
    CHECK(message_of([&] {
              moe::gate_importance<float>(moe::view(experts.data(), 3, 2), moe::view(weights.data(), 3, 2),
                                          std::span(sums).first(2));
          }) == "gate_importance: expert 2 of 2");
    CHECK(message_of([&] {
              moe::gate_importance<float>(moe::view(experts.data(), 3, 2), moe::view(weights.data(), 2, 2), sums);
          }) == "gate_importance: experts are 3 x 2, weights 2 x 2");
}

TEST_CASE("squared_variation is variance by mean squared", "[noisy_top_k]") {
    CHECK(moe::squared_variation(std::vector<double>{1, 2, 3}) == Approx(2.0 / 3 / 4).epsilon(1e-15));
    CHECK(moe::squared_variation(std::vector<double>{4, 0, 0, 0}) == Approx(3).epsilon(1e-15));
    CHECK(moe::squared_variation(std::vector<double>{5, 5}) == 0);
    CHECK(moe::squared_variation(std::vector<double>{0, 0}) == 0);
    CHECK(moe::squared_variation({}) == 0);
}

TEST_CASE("an expert whose noise has no width counts whole, in a tie too", "[noisy_top_k]") {
    // softplus(-1000) is 0 in double; experts 1 and 2 are equal, and the first of them is chosen.
    const std::vector<double> logits{3, 2, 2, 1, -1000, -1000, -1000, -1000};
    const moe::NoisyTopK gate{.top_k = 2, .least_deviation = 0};
    std::vector<double> noisy(4);
    std::vector<moe::ExpertId> order(4);
    std::vector<double> loads(4, 0.0);
    moe::add_noisy_load<double>(gate, logits, 0, noisy, order, loads);
    CHECK(loads == std::vector<double>{1, 1, 0, 0});
}

TEST_CASE("NoisyTopK names what it refuses", "[noisy_top_k][errors]") {
    const auto refuses = [](NoisyTopK gate) { return message_of([&] { moe::validate_gate(gate, 4); }); };
    CHECK(refuses({.top_k = 4}) == "no error");
    CHECK(refuses({.top_k = 0}) == "NoisyTopK: top_k is 0, it must lie in 1..4, the number of experts");
    CHECK(refuses({.top_k = 5}) == "NoisyTopK: top_k is 5, it must lie in 1..4, the number of experts");
    CHECK(refuses({.least_deviation = -1}) == "NoisyTopK: least_deviation is -1, it must be finite and not negative");
    CHECK(moe::gate_n_experts(NoisyTopK{}, 8) == 4);
    CHECK(message_of([] { (void)moe::gate_n_experts(NoisyTopK{}, 7); }) ==
          "NoisyTopK: it reads 2 logits an expert, the router gives 7");
}

}  // namespace moe_test::noisy_top_k_test
