// Cosine against its definition, around gates of every kind.

#include <moe/gating/adaptors/cosine.hpp>
#include <moe/gating/adaptors/forced.hpp>
#include <moe/gating/adaptors/masked.hpp>
#include <moe/gating/adaptors/without_null.hpp>
#include <moe/gating/strategies/round_robin.hpp>
#include <moe/gating/strategies/threshold.hpp>
#include <moe/reference/adaptors/cosine.hpp>
#include <moe/reference/strategies/threshold.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gating/adaptors/inner_gates.hpp"
#include "support/catch.hpp"
#include "support/unaligned.hpp"

namespace moe_test::cosine_test {

namespace reference = moe::reference;
using moe_test::choose;
using moe_test::Dice;
using moe_test::message_of;
using moe_test::NeighboursInFloat;
using moe_test::refusal;
using Ids = std::vector<moe::ExpertId>;

template <class G>
using Cosine = moe::Cosine<G>;
using Choice = moe::TokenChoice<moe::RuntimeScore>;
using TopAny = Cosine<moe::Threshold<moe::Sigmoid>>;

static_assert(moe_test::is_token_gate<Cosine<Choice>> && moe_test::is_token_gate<TopAny>);
static_assert(moe_test::is_token_gate<Cosine<moe::AnyGate>> && moe_test::is_token_gate<Cosine<NeighboursInFloat>>);
static_assert(moe::WeighingGate<Cosine<Choice>, double> && !moe::WeighingGate<TopAny>);
static_assert(!Cosine<moe::RoundRobin>::needs_logits);

namespace {

/// A projection and centroids: some equal to an earlier one, some zero.
struct CosineCase {
    std::size_t width = 0;
    std::vector<float> z;
    std::vector<float> centroids;
    [[nodiscard]] std::size_t n_experts() const { return centroids.size() / width; }
    [[nodiscard]] moe::MatrixView<const float> matrix() const {
        return moe::view(centroids.data(), n_experts(), width);
    }
};

CosineCase random_cosine(Dice& dice) {
    CosineCase c;
    const std::size_t n = moe_test::expert_counts[dice.below(10)];
    c.width = dice.pick(1U, 3U, 16U, 16U, 70U);
    const float size = dice.pick(1e-25F, 1.0F, 1e25F);
    c.z.resize(c.width);
    for (float& x : c.z) {
        x = size * dice.uniform(-1, 1);
    }
    if (dice.one_in(20)) {
        std::fill(c.z.begin(), c.z.end(), 0.0F);
    }
    for (std::size_t e = 0; e < n; ++e) {
        const std::size_t twin = e > 0 && dice.one_in(8) ? dice.below(e) : e;
        const float length = dice.one_in(20) ? 0.0F : 1.0F;
        for (std::size_t i = 0; i < c.width; ++i) {
            c.centroids.push_back(twin < e ? c.centroids[twin * c.width + i] : length * dice.uniform(-1, 1));
        }
    }
    return c;
}

/// Whether logits that are not made of the same centroid lie so close that rounding may exchange them, or the choice
/// of a threshold.
bool undecided(const CosineCase& c, const reference::Vector& logits, double epsilon, double threshold) {
    const Ids order = reference::top_k(logits, logits.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
        const auto a = static_cast<std::size_t>(order[i]);
        const auto b = static_cast<std::size_t>(order[i > 0 ? i - 1 : 0]);
        const bool twins = std::equal(c.matrix().row(a), c.matrix().row(a) + c.width, c.matrix().row(b));
        const double slack = 16 * epsilon * std::max(1.0, std::abs(logits[a]));
        if ((!twins && std::abs(logits[a] - logits[b]) <= slack) || std::abs(logits[a] - threshold) <= slack) {
            return true;
        }
    }
    return false;
}

template <class T>
void compare_many(std::uint64_t seed) {
    Dice dice{seed};
    int compared = 0;
    for (int row = 0; row < 3000 && compared < 1000; ++row) {
        const CosineCase c = random_cosine(dice);
        const std::size_t n = c.n_experts();
        moe_test::RuleCase rule;
        moe_test::set_rule(dice, n, rule);
        rule.gate.selection_bias = {};
        rule.rule.selection_bias.clear();
        const double tau = dice.pick(0.02, 0.07, 0.5, 1.0);
        const Cosine<Choice> gate{rule.gate, c.matrix(), tau};
        const reference::Vector logits =
            reference::cosine_logits(moe_test::wide(c.z), moe_test::wide(c.centroids), tau);
        constexpr auto epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
        if (undecided(c, logits, epsilon, std::numeric_limits<double>::infinity())) {
            continue;
        }
        ++compared;
        const std::vector<T> z = moe_test::in_type<T>(c.z);
        const auto chosen = choose<T>(gate, z, n);
        INFO("row " << row << ", E " << n << ", width " << c.width << ", temperature " << tau);
        // A logit of up to 50 is rounded, which moves its exponential by as many roundings.
        REQUIRE(moe_test::disagreement(chosen, reference::route(rule.rule, logits), 2 * n + 1024) == "");
        REQUIRE(moe_test::repeats<T>(gate, z, n));
        REQUIRE(moe_test::same_choice(chosen, choose<T>(Cosine<moe::AnyGate>{rule.gate, c.matrix(), tau}, z, n)));
        const moe::Forced<Cosine<Choice>> replay{
            gate, moe::view(static_cast<const moe::ExpertId*>(chosen.experts.data()), 1, chosen.experts.size())};
        REQUIRE(moe_test::same_choice(chosen, choose<T>(replay, z, n)));
    }
    CHECK(compared == 1000);
}

}  // namespace

TEST_CASE("Cosine around a TokenChoice in float is its definition", "[cosine]") { compare_many<float>(1); }

TEST_CASE("Cosine around a TokenChoice in double is its definition", "[cosine]") { compare_many<double>(2); }

TEST_CASE("Cosine around a threshold of sigmoids is the top-any gate of DynMoE", "[cosine]") {
    Dice dice{3};
    int compared = 0;
    for (int row = 0; row < 500; ++row) {
        const CosineCase c = random_cosine(dice);
        const std::size_t n = c.n_experts();
        const TopAny gate{{.threshold = 0.5, .keep_best = true}, c.matrix(), 0.5};
        const reference::Vector logits =
            reference::cosine_logits(moe_test::wide(c.z), moe_test::wide(c.centroids), 0.5);
        if (undecided(c, logits, std::numeric_limits<float>::epsilon(), 0)) {  // sigmoid(0) = 0.5
            continue;
        }
        ++compared;
        const reference::Vector scores = reference::scores_of(reference::Score::sigmoid, logits);
        const Ids expected = reference::above_threshold(scores, logits, reference::Vector(n, 0.5), 0, true, true);
        REQUIRE(choose<float>(gate, c.z, n).experts == expected);
    }
    CHECK(compared > 100);
}

TEST_CASE("Cosine of a case by hand", "[cosine]") {
    const std::vector<float> centroids{1, 0, 0, 0, 3, 4, -2, 0};
    const auto matrix = moe::view(centroids.data(), 4, 2);
    // |z| = 5: cosines 0.6, 0 (no direction), (9 + 16) / 25, -0.6.
    const moe::TokenChoice<moe::Identity> inner{.top_k = 4};
    const auto chosen = choose<double>(Cosine<moe::TokenChoice<moe::Identity>>{inner, matrix, 0.5}, {3, 4}, 4);
    CHECK(chosen.experts == Ids{2, 0, 1, 3});
    CHECK(moe_test::difference(chosen.weights, std::vector<double>{2, 1.2, 0, -1.2}, 1e-15) == "");
    const auto none = choose<double>(Cosine<moe::TokenChoice<moe::Identity>>{inner, matrix}, {0, 0}, 4);
    CHECK(none == moe_test::Chosen<double>{{0, 1, 2, 3}, {0, 0, 0, 0}});
    // The length of neither side counts, and the temperature is at least that of Tutel.
    const auto cold = choose<float>(Cosine<moe::TokenChoice<moe::Identity>>{inner, matrix, 1e-9}, {3e30F, 4e30F}, 4);
    CHECK(moe_test::difference(cold.weights, std::vector<double>{100, 60, 0, -60}, 1e-4) == "");
    const float not_a_number = std::numeric_limits<float>::quiet_NaN();
    CHECK(choose<float>(Cosine<moe::TokenChoice<>>{{.top_k = 2}, matrix}, {not_a_number, 1}, 4).experts == Ids{0, 1});
}

TEST_CASE("Cosine stands around gates of every kind", "[cosine]") {
    const std::vector<float> centroids{1, 0, 0, 1, -1, 0};
    const auto matrix = moe::view(centroids.data(), 3, 2);
    const auto in_float = choose<double>(Cosine<NeighboursInFloat>{{}, matrix}, {0, 2}, 3);
    CHECK(in_float == moe_test::Chosen<double>{{1, 2}, {1, 0}});
    CHECK(choose<double>(Cosine<moe::AnyGate>{NeighboursInFloat{}, matrix}, {0, 2}, 3) == in_float);
    CHECK(choose<float>(Cosine<moe::RoundRobin>{{2}, matrix}, {}, 3).experts == Ids{0, 1});
    const std::vector<std::uint8_t> mask{1, 0, 1};
    const moe::Masked<moe::TokenChoice<>> inner{{.top_k = 2}, mask};
    CHECK(choose<float>(Cosine<moe::Masked<moe::TokenChoice<>>>{inner, matrix}, {-1, 2}, 3).experts == Ids{2, 0});
    const std::vector<float> one{1, 1};
    CHECK(choose<float>(Cosine<moe::TokenChoice<>>{{}, moe::view(one.data(), 1, 2)}, {-1, 2}, 1).weights ==
          std::vector<float>{1});
}

TEST_CASE("Cosine names what it refuses", "[cosine][errors]") {
    using Gate = Cosine<moe::TokenChoice<>>;
    const std::vector<float> centroids(32, 1.0F);
    const auto matrix = moe::view(centroids.data(), 8, 4);
    const double not_a_number = std::numeric_limits<double>::quiet_NaN();
    CHECK(refusal(Gate{{.top_k = 8}, matrix}, 8) == "no error");
    CHECK(refusal(Gate{}, 8) == "Cosine: centroids is 0 x 0, it must have one row for each of the 8 experts");
    CHECK(refusal(Gate{{}, matrix}, 9) == "Cosine: centroids is 8 x 4, it must have one row for each of the 9 experts");
    CHECK_THAT(refusal(Gate{{}, matrix, not_a_number}, 8), moe_test::contains("Cosine: temperature is nan"));
    CHECK(refusal(Gate{{}, matrix, 1, 0}, 8) == "Cosine: min_temperature is 0, it must be finite and at least 1e-30");
    CHECK(refusal(Gate{{.top_k = 9}, matrix}, 8) == "TokenChoice: top_k 9 exceeds the 8 experts");
    CHECK(refusal(Cosine<moe::AnyGate>{moe_test::NobodyInBatch{}, matrix}, 8) ==
          "Cosine: the gate inside chooses for whole batches, it must choose token by token");
    CHECK(message_of([&] {
              (void)moe::gate_n_experts(Gate{{}, matrix}, 16);
          }) == "Cosine: the router makes 16 values, the centroids have 4");
    CHECK(moe::gate_n_experts(Gate{{}, matrix}, 4) == 8);
    const std::vector<std::uint8_t> mask(8, 1);
    const std::vector<float> as_wide_as_many(64, 1.0F);
    const Gate square{{}, moe::view(as_wide_as_many.data(), 8, 8)};
    CHECK(moe::gate_n_experts(square, 8) == 8);
    const std::string refused =
        "Masked: the gate inside reads 8 logits that are not those of its 8 experts; put the mask inside it";
    CHECK(message_of([&] { (void)moe::gate_n_experts(moe::Masked<Gate>{square, mask}, 8); }) == refused);
    using Nested = moe::WithoutNull<Gate>;
    CHECK(message_of([&] { (void)moe::gate_n_experts(moe::Masked<Nested>{{square, 8}, mask}, 8); }) == refused);
    CHECK(message_of([&] {
              (void)moe::gate_n_experts(moe::Masked<Gate>{{{}, matrix}, mask}, 4);
          }) == "Masked: the gate inside reads 4 logits for 8 experts; a mask of experts needs one logit an expert");
    const moe_test::Unaligned<float> odd(centroids);
    CHECK_THAT(refusal(Gate{{}, moe::view(odd.data(), 8, 4)}, 8),
               moe_test::contains("Cosine: centroids must be aligned to the 4 bytes"));
}

}  // namespace moe_test::cosine_test
