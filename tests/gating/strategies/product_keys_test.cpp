// ProductKeys against its definition and against the best of all n * n sums.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/product_keys.hpp>
#include <moe/reference/strategies/product_keys.hpp>
#include <sstream>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::product_keys_test {

namespace reference = moe::reference;

namespace {

using moe::KeyWeights;
using moe::ProductKeys;
using moe_test::Dice;

static_assert(moe::TokenGate<ProductKeys, float> && moe::TokenGate<ProductKeys, double>);
static_assert(!moe::BatchGate<ProductKeys, float>);

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// Logits as the gate may see them, of up to 1000 keys a half.
std::vector<float> random_halves(Dice& dice) {
    return moe_test::random_logits(dice, 2 * moe_test::expert_counts[dice.below(dice.one_in(40) ? 13 : 8)]);
}

ProductKeys random_gate(Dice& dice, std::size_t n) {
    const std::size_t most = std::min<std::size_t>(n * n, dice.one_in(8) ? 200 : 20);
    return {static_cast<int>(1 + dice.below(most)), dice.pick(KeyWeights::softmax, KeyWeights::relu)};
}

/// A sum of two logits, and, of softmax, an exponential of a difference of such sums of at most 1e2 and a sum of k.
template <class T>
double weight_bound(std::size_t k, double weight) {
    return moe_test::rounding_bound<T>(2 * k + 512, 1e-6 + std::abs(weight));
}

template <class T>
bool same_weights(const std::vector<T>& weights, const reference::Vector& expected) {
    for (std::size_t slot = 0; slot < weights.size(); ++slot) {
        const auto w = static_cast<double>(weights[slot]);
        const bool special = !std::isfinite(expected[slot]) || std::abs(expected[slot]) > 1e37;
        if (special ? std::isfinite(w) && std::abs(w) < 1e36
                    : !(std::abs(w - expected[slot]) <= weight_bound<T>(weights.size(), expected[slot]))) {
            return false;
        }
    }
    return weights.size() == expected.size();
}

/// The definition sees the sums that T sees where the order of the sums is that of their roundings: logits on a grid,
/// or in double.
template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    std::size_t wrong = 0;
    std::ostringstream first_wrong;
    for (std::size_t c = 0; c < 1000; ++c) {
        std::vector<float> logits = random_halves(dice);
        for (float& l : logits) {
            l = std::isfinite(l) && std::abs(l) < 1e3F ? std::round(l * 1024) / 1024 : std::abs(l) < inf ? 0 : l;
        }
        const ProductKeys gate = random_gate(dice, logits.size() / 2);
        const auto chosen =
            moe_test::choose<T>(gate, std::vector<T>(logits.begin(), logits.end()), logits.size() * logits.size() / 4);
        const reference::Choice expected =
            reference::product_keys(reference::Vector(logits.begin(), logits.end()),
                                    static_cast<std::size_t>(gate.top_k), gate.weights == KeyWeights::relu);
        if (chosen.experts != expected.experts || !same_weights<T>(chosen.weights, expected.weights)) {
            first_wrong << (wrong++ == 0 ? "first wrong case: " + std::to_string(c) : "");
        }
    }
    INFO(first_wrong.str());
    CHECK(wrong == 0);
}

/// The k best of all sums, in the order of precedence.
template <class T>
std::vector<moe::ExpertId> best_of_all(const std::vector<T>& logits, std::size_t k) {
    const std::size_t n = logits.size() / 2;
    reference::Vector sums;
    for (std::size_t e = 0; e < n * n; ++e) {
        sums.push_back(static_cast<double>(logits[e / n]) + static_cast<double>(logits[n + e % n]));
    }
    return reference::top_k(sums, k);
}

template <class T>
void compare_with_all(std::uint64_t seed) {
    Dice dice{seed};
    for (std::size_t c = 0; c < 300; ++c) {
        const std::size_t n = dice.pick(1U, 2U, 3U, 5U, 13U, 40U);
        const bool grid = std::is_same_v<T, float> || dice.one_in(2);  // sums of the others are exact in double only
        std::vector<T> logits(2 * n);
        for (T& l : logits) {
            const float value = dice.uniform(-8, 8);
            l = static_cast<T>(grid ? std::round(value * 4) / 4 : value);
        }
        const ProductKeys gate{static_cast<int>(1 + dice.below(std::min<std::size_t>(n * n, 30)))};
        INFO("case " << c << ": " << n << " keys, top " << gate.top_k);
        CHECK(moe_test::choose<T>(gate, logits, n * n).experts ==
              best_of_all(logits, static_cast<std::size_t>(gate.top_k)));
    }
}

}  // namespace

TEST_CASE("product keys choose what the definition chooses", "[product_keys]") {
    compare_many<float>(1);
    compare_many<double>(2);
}

TEST_CASE("the choice is the best of all n * n sums", "[product_keys]") {
    compare_with_all<float>(3);
    compare_with_all<double>(4);
}

TEST_CASE("product keys by hand", "[product_keys]") {
    // sums: 3 + {0, 2, 1}, 1 + {0, 2, 1}, 2 + {0, 2, 1}
    const std::vector<float> logits{3, 1, 2, 0, 2, 1};
    auto chosen = moe_test::choose<float>(ProductKeys{4, KeyWeights::relu}, logits, 9);
    CHECK(chosen.experts == std::vector<moe::ExpertId>{1, 2, 7, 0});  // 5, 4, 4, 3: ties to the lower index
    CHECK(chosen.weights == std::vector<float>{5, 4, 4, 3});
    chosen = moe_test::choose<float>(ProductKeys{9, KeyWeights::softmax}, logits, 9);
    CHECK(chosen.experts == std::vector<moe::ExpertId>{1, 2, 7, 0, 4, 8, 5, 6, 3});
    chosen = moe_test::choose<float>(ProductKeys{2, KeyWeights::relu}, {-3, -1, -2, -5}, 4);
    CHECK(chosen.experts == std::vector<moe::ExpertId>{2, 0});
    CHECK(chosen.weights == std::vector<float>{0, 0});
    chosen = moe_test::choose<float>(ProductKeys{1}, {-7, 9}, 1);
    CHECK(chosen == moe_test::Chosen<float>{{0}, {1}});
}

TEST_CASE("what is not a number comes last and is still an expert", "[product_keys]") {
    auto chosen = moe_test::choose<float>(ProductKeys{2, KeyWeights::relu}, {not_a_number, 1, 2, not_a_number}, 4);
    CHECK(chosen.experts == std::vector<moe::ExpertId>{2, 0});
    CHECK(chosen.weights[0] == 3);
    CHECK(std::isnan(chosen.weights[1]));
    chosen = moe_test::choose<float>(ProductKeys{4}, {not_a_number, not_a_number, not_a_number, not_a_number}, 4);
    CHECK(chosen.experts == std::vector<moe::ExpertId>{0, 1, 2, 3});
    chosen = moe_test::choose<float>(ProductKeys{3, KeyWeights::relu}, {-inf, inf, 0, inf}, 4);
    CHECK(chosen.experts == std::vector<moe::ExpertId>{2, 3, 0});
}

TEST_CASE("a million experts are chosen from 2048 logits", "[product_keys]") {
    Dice dice{5};
    std::vector<float> logits(2048);
    for (float& l : logits) {
        l = std::round(dice.uniform(-1000, 1000)) / 8;
    }
    const ProductKeys gate{16};
    CHECK(moe::gate_n_experts(gate, 2048) == 1U << 20U);
    std::vector<moe::ExpertId> experts(16);
    std::vector<float> weights(16);
    std::vector<moe::ExpertId> order(gate.order_size(1024));
    CHECK(order.size() == 32);
    gate.choose<float>(logits, experts, weights, order);
    CHECK(experts == best_of_all(logits, 16));
}

TEST_CASE("settings that cannot be are refused", "[product_keys][errors]") {
    const auto refused = [](ProductKeys gate, std::size_t n_experts) {
        return moe_test::message_of([&] { moe::validate_gate(gate, n_experts); });
    };
    CHECK(refused({0}, 9) == "ProductKeys: top_k is 0, it must lie in 1..9, the number of experts");
    CHECK(refused({10}, 9) == "ProductKeys: top_k is 10, it must lie in 1..9, the number of experts");
    CHECK(refused({1}, 8) == "ProductKeys: the number of experts is a square, 8 is none");
    CHECK(refused({1, static_cast<KeyWeights>(2)}, 9) == "ProductKeys: no weights have the number 2");
    CHECK(moe_test::message_of([] { (void)moe::gate_n_experts(ProductKeys{}, 7); }) ==
          "ProductKeys: 7 logits are not two halves of as many keys");
    CHECK(moe_test::message_of([] { (void)moe::gate_n_experts(ProductKeys{}, 200000); }) ==
          "ProductKeys: two halves of 100000 keys are more experts than 2147483647");
    CHECK(moe_test::message_of([] { (void)moe::gate_n_experts(ProductKeys{}, 0); }) ==
          "gate: n_experts of 0 logits is 0, it must be at least 1");
}

TEST_CASE("product keys behind AnyGate, and run twice, are the same", "[product_keys]") {
    Dice dice{6};
    const ProductKeys gate{5};
    const moe::AnyGate any(gate);
    CHECK(any.n_experts(26) == 169);
    for (std::size_t c = 0; c < 20; ++c) {
        std::vector<double> logits(26);
        for (double& l : logits) {
            l = static_cast<double>(dice.uniform(-4, 4));
        }
        const auto chosen = moe_test::choose<double>(gate, logits, 169);
        CHECK(chosen == moe_test::choose<double>(gate, logits, 169));
        CHECK(chosen == moe_test::choose<double>(any, logits, 169));
    }
}

}  // namespace moe_test::product_keys_test
