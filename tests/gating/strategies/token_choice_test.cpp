// What must hold of TokenChoice whatever the numbers, and what it refuses.

#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/dense.hpp>
#include <moe/gating/strategies/hash.hpp>
#include <moe/gating/strategies/token_choice.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <moe/core/random.hpp>
#include <string>
#include <vector>

#include "gating/gate_support.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/unaligned.hpp"

namespace moe_test::token_choice_test {

using moe_test::choose;
using moe_test::message_of;

namespace {

std::vector<double> random_row(std::uint64_t seed, std::size_t n, double low, double high) {
    std::vector<double> row(n);
    for (std::size_t i = 0; i < n; ++i) {
        row[i] = low + (high - low) * static_cast<double>(moe::random_uniform(seed, i));
    }
    return row;
}

std::vector<float> narrow(const std::vector<double>& values) { return {values.begin(), values.end()}; }

template <class Gate>
std::string refusal(const Gate& gate, std::size_t n_experts) {
    return message_of([&] { moe::validate_gate(gate, n_experts); });
}

}  // namespace

TEST_CASE("softmax of all, top-k, normalised is top-k of the logits, softmax of the selected", "[token_choice]") {
    for (std::uint64_t seed = 0; seed < 500; ++seed) {
        const std::vector<double> logits = random_row(seed, 5 + seed % 60, -6, 6);
        const int k = 1 + static_cast<int>(seed % 5);
        const auto before = choose(moe::TokenChoice<moe::Softmax>{.top_k = k, .normalize = true}, logits);
        const auto after = choose(
            moe::TokenChoice<moe::Identity>{
                .top_k = k, .select_on = moe::SelectOn::logits, .weight_from = moe::WeightFrom::softmax_of_selected},
            logits);
        REQUIRE(before.experts == after.experts);
        REQUIRE(moe_test::difference(before.weights, after.weights, 1e-14) == "");
    }
}

TEST_CASE("a constant added to all biases changes nothing with fill -inf, but does with fill 0", "[token_choice]") {
    std::size_t changed = 0;
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
        const std::vector<double> logits = random_row(seed, 32, -4, 4);
        const std::vector<float> bias = narrow(random_row(seed + 1000, 32, -0.25, 0.25));
        std::vector<float> lowered = bias;
        for (float& b : lowered) {
            b -= 1;
        }
        moe::TokenChoice<moe::Sigmoid> gate{.top_k = 6, .groups = {.n_groups = 8, .kept = 3}};
        gate.selection_bias = bias;
        const auto plain = choose(gate, logits);
        gate.selection_bias = lowered;
        REQUIRE(choose(gate, logits) == plain);
        gate.groups.fill = 0;
        changed += choose(gate, logits) != plain;
    }
    CHECK(changed > 150);
}

TEST_CASE("the selection bias moves the choice and never enters a weight", "[token_choice]") {
    const std::vector<double> logits{0.5, 0.25, 0, -0.25};
    const std::vector<float> bias{0, 0, 8, 8};
    moe::TokenChoice<moe::Sigmoid> gate{.top_k = 2};
    gate.selection_bias = bias;
    const auto chosen = choose(gate, logits);
    CHECK(chosen.experts == std::vector<moe::ExpertId>{2, 3});
    CHECK(moe_test::difference(chosen.weights, std::vector<double>{0.5, 1 / (1 + std::exp(0.25))}, 1e-16) == "");
}

TEST_CASE("k = E with softmax and no normalisation is the dense mixture", "[token_choice]") {
    for (const std::size_t n : {1U, 2U, 7U, 40U, 65U}) {
        const std::vector<double> logits = random_row(n, n, -5, 5);
        const auto chosen = choose(moe::TokenChoice<moe::Softmax>{.top_k = static_cast<int>(n)}, logits);
        std::vector<double> dense(n);
        moe::Softmax{}(std::span<const double>(logits), std::span<double>(dense));
        double sum = 0;
        for (std::size_t slot = 0; slot < n; ++slot) {
            CHECK(chosen.weights[slot] == dense[static_cast<std::size_t>(chosen.experts[slot])]);
            sum += chosen.weights[slot];
        }
        CHECK(std::abs(sum - 1) < 1e-14);
    }
}

TEST_CASE("ties go to the lower expert, signed zeros tie, NaN comes last", "[token_choice]") {
    constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
    constexpr float inf = std::numeric_limits<float>::infinity();
    const moe::TokenChoice<moe::Identity> gate{.top_k = 3};
    using Ids = std::vector<moe::ExpertId>;
    CHECK(choose<float>(gate, {1, 1, 1, 1, 1}).experts == Ids{0, 1, 2});
    CHECK(choose<float>(gate, {-0.0F, 0.0F, -0.0F, 1}).experts == Ids{3, 0, 1});
    CHECK(choose<float>(gate, {not_a_number, -1, 5, not_a_number}).experts == Ids{2, 1, 0});
    CHECK(choose<float>(gate, {not_a_number, inf, -inf, 0}).experts == Ids{1, 3, 0});
    CHECK(choose<float>(gate, std::vector<float>(6, not_a_number)).experts == Ids{0, 1, 2});
}

TEST_CASE("a logit of -infinity excludes its expert while others are left", "[token_choice]") {
    constexpr float inf = std::numeric_limits<float>::infinity();
    const std::vector<float> logits{-inf, 1, -inf, 2, -3, -inf, -4, -2};
    const std::vector<float> bias{90, 0, 80, 0, 0, 70, 0, 0};
    using Ids = std::vector<moe::ExpertId>;
    moe::TokenChoice<moe::Sigmoid> gate{.top_k = 5, .selection_bias = bias};
    CHECK(choose<float>(gate, logits).experts == Ids{3, 1, 7, 4, 6});
    gate.logit_softcap = 2;
    CHECK(choose<float>(gate, logits).experts == Ids{3, 1, 7, 4, 6});
    gate.top_k = 8;
    CHECK(choose<float>(gate, logits).experts == Ids{3, 1, 7, 4, 6, 0, 2, 5});
    CHECK(choose<float>(gate, std::vector<float>(8, -inf)).experts == Ids{0, 2, 5, 1, 3, 4, 6, 7});
}

TEST_CASE("excluded experts win neither their group nor its fill", "[token_choice]") {
    constexpr float inf = std::numeric_limits<float>::infinity();
    const std::vector<float> bias{9, 9, 0, 0, 9, 0};
    using Ids = std::vector<moe::ExpertId>;
    moe::TokenChoice<moe::Identity> gate{.top_k = 2, .selection_bias = bias};
    gate.groups = {.n_groups = 3, .kept = 1, .score_members = 2, .fill = 0};
    // The groups score NaN, -9 and -7 (without the expert of the bias): the third is kept, then come those filled.
    CHECK(choose<float>(gate, {-inf, -inf, -4, -5, -inf, -7}).experts == Ids{2, 3});
    gate.groups.fill = -static_cast<double>(inf);
    CHECK(choose<float>(gate, {-inf, -inf, -4, -5, -inf, -7}).experts == Ids{5, 2});
    CHECK(choose<float>(gate, {-inf, -inf, -inf, -5, -inf, -inf}).experts == Ids{3, 0});
}

TEST_CASE("experts up to 2^16 are told apart", "[token_choice]") {
    std::vector<float> logits(65536, 0.0F);
    logits[65535] = 3;
    logits[64] = 2;
    logits[257] = 1;
    const auto chosen = choose(moe::TokenChoice<moe::Sigmoid>{.top_k = 4}, logits);
    CHECK(chosen.experts == std::vector<moe::ExpertId>{65535, 64, 257, 0});
}

TEST_CASE("scores stay finite and accurate at the ends of the range", "[scores]") {
    const std::vector<double> logits{-1000, -745, -40, 0, 40, 1000};
    std::vector<double> scores(logits.size());
    const auto apply = [&](const auto& score) {
        score(std::span<const double>(logits), std::span<double>(scores));
        return moe_test::all_finite(scores);
    };
    CHECK(apply(moe::Softmax{}));
    CHECK(scores[5] == 1);
    CHECK(apply(moe::Sigmoid{}));
    CHECK(std::abs(scores[2] / std::exp(-40.0) - 1) < 1e-15);
    CHECK(scores[5] == 1);
    CHECK(apply(moe::SqrtSoftplus{}));
    CHECK(std::abs(scores[2] / std::exp(-20.0) - 1) < 1e-15);
    CHECK(scores[3] == std::sqrt(std::log(2.0)));
    CHECK(scores[5] == std::sqrt(1000.0));
    CHECK(apply(moe::ReluScore{}));
    CHECK(scores == std::vector<double>{0, 0, 0, 0, 40, 1000});
    CHECK(apply(moe::Uniform{}));
    CHECK(scores == std::vector<double>(6, 1.0));
}

TEST_CASE("an infinite p normalises by the largest weight", "[normalize]") {
    std::vector<float> weights{1, -4, 2};
    moe::Normalize::lp(std::numeric_limits<double>::infinity())(std::span<float>(weights));
    CHECK(weights == std::vector<float>{0.25F, -1, 0.5F});
}

TEST_CASE("TokenChoice names the values it refuses", "[token_choice][errors]") {
    using Gate = moe::TokenChoice<moe::Softmax>;
    const std::vector<float> seven(7);
    CHECK(refusal(Gate{.top_k = 2, .normalize = true}, 8) == "no error");
    CHECK(refusal(Gate{.top_k = 9}, 8) == "TokenChoice: top_k 9 exceeds the 8 experts");
    CHECK(refusal(Gate{.top_k = 0}, 8) == "TokenChoice: top_k is 0, it must be at least 1");
    CHECK(refusal(Gate{.top_k = -3}, 8) == "TokenChoice: top_k is -3, it must be at least 1");
    CHECK(refusal(Gate{}, 0) == "gate: there must be at least 1 expert, there are 0");
    CHECK(refusal(Gate{.selection_bias = seven}, 8) == "TokenChoice: selection_bias has 7 values for 8 experts");
    CHECK(refusal(Gate{.per_expert_scale = seven}, 8) == "TokenChoice: per_expert_scale has 7 values for 8 experts");
    CHECK_THAT(refusal(Gate{.scale = std::numeric_limits<double>::infinity()}, 8),
               moe_test::contains("TokenChoice: scale is inf"));
    CHECK_THAT(refusal(Gate{.logit_softcap = -1}, 8), moe_test::contains("TokenChoice: logit_softcap is -1"));
    for (const double wrong : {1e39, 1e-46, std::nan("")}) {  // in float: infinite, 0
        CHECK_THAT(refusal(Gate{.logit_softcap = wrong}, 8), moe_test::contains("0 (off) or positive and finite"));
    }
    CHECK_THAT(refusal(Gate{.scale = -1e39}, 8), moe_test::contains("TokenChoice: scale is -1e+39"));
    CHECK_THAT(refusal(Gate{.normalize = moe::Normalize::lp(0)}, 8), moe_test::contains("Normalize: the p of lp is 0"));
    CHECK_THAT(refusal(Gate{.normalize = moe::Normalize::sum(-1)}, 8), moe_test::contains("of a sum is -1"));
    CHECK_THAT(refusal(Gate{.normalize = moe::Normalize::clamped_sum(std::nan(""))}, 8),
               moe_test::contains("of a sum is nan"));
}

TEST_CASE("what a gate reads through a typed pointer must be aligned", "[token_choice][errors]") {
    using Gate = moe::TokenChoice<moe::Softmax>;
    const moe_test::Unaligned<float> odd(std::vector<float>(8));
    const std::span<const float> values(odd.data(), 8);
    CHECK_THAT(refusal(Gate{.selection_bias = values}, 8),
               moe_test::contains("TokenChoice: selection_bias must be aligned to the 4 bytes"));
    CHECK_THAT(refusal(Gate{.per_expert_scale = values}, 8),
               moe_test::contains("TokenChoice: per_expert_scale must be aligned to the 4 bytes"));
    const moe_test::Unaligned<std::int32_t> table(std::vector<std::int32_t>(8));
    CHECK_THAT(refusal(moe::Hash<>{.table = moe::view(table.data(), 4, 2)}, 8),
               moe_test::contains("Hash: the table must be aligned to the 4 bytes"));
}

TEST_CASE("TokenChoice names the groups it refuses", "[token_choice][errors]") {
    using Gate = moe::TokenChoice<moe::Sigmoid>;
    CHECK(refusal(Gate{.groups = {.n_groups = 4, .kept = 2}}, 8) == "no error");
    CHECK(refusal(Gate{.groups = {.n_groups = 0, .kept = 0}}, 8) == "no error");
    CHECK(refusal(Gate{.groups = {.n_groups = 1, .kept = 4}}, 8) ==
          "TokenChoice: 4 groups kept of 1; without groups, kept stays 1");
    CHECK(refusal(Gate{.groups = {.n_groups = -1}}, 8) == "TokenChoice: n_groups is -1, it must not be negative");
    CHECK(refusal(Gate{.groups = {.n_groups = 3}}, 8) == "TokenChoice: 3 groups do not divide 8 experts");
    CHECK(refusal(Gate{.groups = {.n_groups = 4, .kept = 5}}, 8) == "TokenChoice: 5 groups kept of 4, it must be 1..4");
    CHECK(refusal(Gate{.groups = {.n_groups = 4, .kept = 0}}, 8) == "TokenChoice: 0 groups kept of 4, it must be 1..4");
    CHECK(refusal(Gate{.groups = {.n_groups = 8, .kept = 2}}, 8) ==
          "TokenChoice: score_members is 2, a group has 1 experts");
    CHECK(refusal(Gate{.top_k = 5, .groups = {.n_groups = 4, .kept = 2}}, 8) ==
          "TokenChoice: top_k 5 exceeds the 4 experts of the 2 groups kept");
    CHECK(refusal(Gate{.groups = {.n_groups = 4, .kept = 2, .fill = std::nan("")}}, 8) ==
          "TokenChoice: the fill of the groups is NaN");
}

TEST_CASE("a gate refuses an enumerator that is none, and names its number", "[token_choice][errors]") {
    using Gate = moe::TokenChoice<moe::RuntimeScore>;
    CHECK(refusal(Gate{.score = {static_cast<moe::ScoreKind>(6)}}, 8) ==
          "RuntimeScore: no score function has the number 6");
    CHECK(refusal(Gate{.normalize = {static_cast<moe::Normalize::Kind>(4), 1.0}}, 8) ==
          "Normalize: no kind has the number 4");
    CHECK(refusal(Gate{.select_on = static_cast<moe::SelectOn>(3)}, 8) == "TokenChoice: select_on has no value 3");
    CHECK(refusal(Gate{.weight_from = static_cast<moe::WeightFrom>(200)}, 8) ==
          "TokenChoice: weight_from has no value 200");
    const moe::RuntimeScore none{static_cast<moe::ScoreKind>(77)};
    CHECK_THAT(refusal(moe::Dense<moe::RuntimeScore>{.score = none}, 8), moe_test::contains("number 77"));
    const std::vector<std::int32_t> table{0};
    CHECK_THAT(refusal(moe::Hash<moe::RuntimeScore>{.score = none, .table = moe::view(table.data(), 1, 1)}, 8),
               moe_test::contains("number 77"));
    CHECK_THAT(refusal(moe::AnyGate(Gate{.score = none}), 8), moe_test::contains("number 77"));
}

TEST_CASE("a score chosen at run time is the score of that name", "[scores]") {
    const std::vector<float> logits{1, -2, 0.5F, 3};
    const auto with = [&](moe::ScoreKind kind) {
        return choose(moe::TokenChoice<moe::RuntimeScore>{.score = {kind}, .top_k = 3}, logits);
    };
    CHECK(with(moe::ScoreKind::softmax) == choose(moe::TokenChoice<moe::Softmax>{.top_k = 3}, logits));
    CHECK(with(moe::ScoreKind::sigmoid) == choose(moe::TokenChoice<moe::Sigmoid>{.top_k = 3}, logits));
    CHECK(with(moe::ScoreKind::sqrt_softplus) == choose(moe::TokenChoice<moe::SqrtSoftplus>{.top_k = 3}, logits));
    CHECK(with(moe::ScoreKind::identity) == choose(moe::TokenChoice<moe::Identity>{.top_k = 3}, logits));
    CHECK(with(moe::ScoreKind::relu) == choose(moe::TokenChoice<moe::ReluScore>{.top_k = 3}, logits));
    CHECK(with(moe::ScoreKind::uniform) == choose(moe::TokenChoice<moe::Uniform>{.top_k = 3}, logits));
    CHECK_THAT(message_of([&] { (void)with(static_cast<moe::ScoreKind>(99)); }), moe_test::contains("99"));
}

TEST_CASE("an eps, a minimum or a p that is 0 in float is refused: it would divide by 0", "[token_choice]") {
    for (const double tiny : {1e-46, 7e-46, 1e-300}) {
        for (const moe::Normalize& normalize :
             {moe::Normalize::sum(tiny), moe::Normalize::clamped_sum(tiny), moe::Normalize::lp(tiny)}) {
            CHECK_THAT(refusal(moe::TokenChoice<>{.normalize = normalize}, 8), moe_test::contains("in float"));
        }
    }
    CHECK(refusal(moe::TokenChoice<>{.normalize = moe::Normalize::sum(1.5e-45)}, 8) == "no error");
    std::vector<float> weights(2, 0.0F);
    moe::Normalize::sum(1.5e-45)(std::span<float>(weights));
    CHECK(weights == std::vector<float>(2, 0.0F));
}

using Ids = std::vector<moe::ExpertId>;

TEST_CASE("scores that saturate are told apart by their logits, where no bias is added", "[token_choice]") {
    const std::vector<float> saturated{18, 30, 25, 40};  // their sigmoids are all 1 in float
    CHECK(choose(moe::TokenChoice<moe::Sigmoid>{.top_k = 3}, saturated).experts == Ids{3, 1, 2});
    CHECK(choose(moe::TokenChoice<moe::RuntimeScore>{.score = {moe::ScoreKind::sigmoid}, .top_k = 1}, saturated)
              .experts == Ids{3});
    CHECK(choose(moe::TokenChoice<>{.top_k = 2, .select_on = moe::SelectOn::sigmoid}, saturated).experts == Ids{3, 1});
    CHECK(choose(moe::TokenChoice<moe::Sigmoid>{.top_k = 2, .logit_softcap = 1}, saturated).experts == Ids{3, 1});
    // the softmax of all but the first is 0
    CHECK(choose(moe::TokenChoice<>{.top_k = 3}, std::vector<float>{0, -300, -200, -250}).experts == Ids{0, 2, 3});
    CHECK(choose(moe::TokenChoice<moe::SqrtSoftplus>{.top_k = 2}, std::vector<float>{-200, -190, -195}).experts ==
          Ids{1, 2});
    // groups of two: those of the greater sums take part, inside them the greater logit comes first
    moe::TokenChoice<moe::Sigmoid> grouped{.top_k = 2, .groups = {.n_groups = 2, .kept = 1}};
    CHECK(choose(grouped, std::vector<float>{-1, 40, 20, 30}).experts == Ids{3, 2});
    // what exact arithmetic ties stays in order of the index: ReLU, equal logits, a bias
    CHECK(choose(moe::TokenChoice<moe::ReluScore>{.top_k = 2}, std::vector<float>{-3, -2, -1}).experts == Ids{0, 1});
    CHECK(choose(moe::TokenChoice<moe::Sigmoid>{.top_k = 2}, std::vector<float>{20, 40, 40}).experts == Ids{1, 2});
    const std::vector<float> bias(4, 0.5F);
    CHECK(choose(moe::TokenChoice<moe::Sigmoid>{.top_k = 1, .selection_bias = bias}, saturated).experts == Ids{0});
}

TEST_CASE("masked groups rank below everything but excluded experts", "[token_choice]") {
    const float inf = std::numeric_limits<float>::infinity();
    const std::vector<float> bias{0, 0, 0, 0, 0, 0, -inf, -inf};
    moe::TokenChoice<moe::Sigmoid> gate{.top_k = 3, .selection_bias = bias, .groups = {.n_groups = 2, .kept = 1}};
    const std::vector<float> logits{-1, -2, -3, -4, 4, 3, 2, 1};
    CHECK(choose(gate, logits).experts == Ids{4, 5, 6});
    gate.selection_bias = {};
    const float nan = std::numeric_limits<float>::quiet_NaN();
    gate.top_k = 4;
    CHECK(choose(gate, std::vector<float>{-1, -2, -3, -4, 4, 3, nan, 1}).experts == Ids{4, 5, 7, 6});
    CHECK(choose(gate, std::vector<float>{-4, -2, -3, -1, 4, 3, -inf, -inf}).experts == Ids{4, 5, 0, 1});
}

}  // namespace moe_test::token_choice_test
