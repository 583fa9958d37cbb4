// The smaller gates: SparseMixer, Dense, Hash and the archetype.

#include <moe/gating/archetype.hpp>
#include <moe/gating/strategies/dense.hpp>
#include <moe/gating/strategies/hash.hpp>
#include <moe/gating/strategies/sparse_mixer.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include "gating/gate_support.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::gates_test {

using moe_test::choose;
using moe_test::difference;
using moe_test::message_of;
using Ids = std::vector<moe::ExpertId>;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
const std::vector<std::int32_t> entries{0, 3, 2, 1, 3, 0};
const moe::MatrixView<const std::int32_t> table = moe::view(entries.data(), 3, 2);

}  // namespace

TEST_CASE("SparseMixer weighs each choice among those within 2 percent", "[sparse_mixer]") {
    // Relative to 2, 1.97 is within 0.02 and 1.95 is not; relative to 1.97, 1.95 is.
    const std::vector<double> logits{1, 2, 1.97, 1.95};
    const auto chosen = choose(moe::SparseMixer{}, logits);
    CHECK(chosen.experts == Ids{1, 2});
    const double second = 1 / (1 + std::exp(-0.02));
    CHECK(difference(chosen.weights, std::vector<double>{1 / (1 + std::exp(-0.03)), second}, 1e-15) == "");
    const std::vector<double> wider{1 / (1 + std::exp(-0.03) + std::exp(-0.05)), second};
    CHECK(difference(choose(moe::SparseMixer{.jitter = 0.02}, logits).weights, wider, 1e-15) == "");
}

TEST_CASE("SparseMixer gives weights near 1 where the logits are far apart", "[sparse_mixer]") {
    CHECK(choose<double>(moe::SparseMixer{}, {1, 2, 3}).weights == std::vector<double>{1, 1});
    // The distance is relative to the greater of |l| and the maximum: -3 and -3.05 are within 2 percent of |-3.05|.
    const auto negative = choose<double>(moe::SparseMixer{}, {-3, -3.05});
    CHECK(difference(negative.weights, std::vector<double>{1 / (1 + std::exp(-0.05)), 1}, 1e-15) == "");
    CHECK(choose<double>(moe::SparseMixer{}, {-3, -4}).weights == std::vector<double>{1, 1});
}

TEST_CASE("SparseMixer never chooses one expert twice", "[sparse_mixer]") {
    CHECK(choose<double>(moe::SparseMixer{}, {not_a_number, not_a_number, not_a_number}).experts == Ids{0, 1});
    CHECK(choose<double>(moe::SparseMixer{}, {not_a_number, -inf, not_a_number}).experts == Ids{1, 0});
    CHECK(choose<double>(moe::SparseMixer{}, {-inf, 5, -inf}).experts == Ids{1, 0});
    CHECK(choose<double>(moe::SparseMixer{}, {4, 4, 4}).experts == Ids{0, 1});
    CHECK(message_of([] { moe::validate_gate(moe::SparseMixer{}, 1); }) == "SparseMixer: it chooses 2 experts of 1");
    CHECK_THAT(message_of([] { moe::validate_gate(moe::SparseMixer{.jitter = -1}, 4); }),
               moe_test::contains("SparseMixer: jitter is -1"));
}

TEST_CASE("Dense takes every expert with its score", "[dense]") {
    const double total = 1 + std::exp(1) + std::exp(2);
    const auto chosen = choose<double>(moe::Dense<>{}, {0, 2, 1});
    CHECK(chosen.experts == Ids{0, 1, 2});
    CHECK(difference(chosen.weights, std::vector<double>{1 / total, std::exp(2) / total, std::exp(1) / total}, 1e-15) ==
          "");
    const auto halves = choose<double>(moe::Dense<moe::Uniform>{.normalize = true, .scale = 3}, {}, 6);
    CHECK(halves.weights == std::vector<double>(6, 0.5));
    CHECK_FALSE(moe::needs_logits(moe::Dense<moe::Uniform>{}));
    CHECK(moe::needs_logits(moe::Dense<>{}));
    CHECK_THAT(message_of([] { moe::validate_gate(moe::Dense<>{.scale = not_a_number}, 4); }),
               moe_test::contains("Dense: scale is "));
}

TEST_CASE("Hash takes the experts of the token id", "[hash]") {
    const moe::Hash<> plain{.table = table};
    CHECK_FALSE(moe::needs_logits(plain));
    CHECK(choose<float>(plain, {}, 4, {.token_id = 0}).experts == Ids{0, 3});
    CHECK(choose<float>(plain, {}, 4, {.token_id = 2}).experts == Ids{3, 0});
    CHECK(choose<float>(plain, {}, 4, {.token_id = 1}).weights == std::vector<float>{1, 1});
    CHECK(choose<float>(moe::Hash<>{.table = table, .normalize = true}, {}, 4, {.token_id = 1}).weights ==
          std::vector<float>{0.5F, 0.5F});

    const moe::Hash<moe::SqrtSoftplus> scored{.table = table, .normalize = moe::Normalize::sum(1e-20), .scale = 1.5};
    CHECK(moe::needs_logits(scored));
    const auto chosen = choose<double>(scored, {9, 1, -1, 9}, 4, {.token_id = 1});
    const double a = std::sqrt(std::log1p(std::exp(-1)));
    const double b = std::sqrt(std::log1p(std::exp(1)));
    CHECK(chosen.experts == Ids{2, 1});
    CHECK(difference(chosen.weights, std::vector<double>{1.5 * a / (a + b), 1.5 * b / (a + b)}, 1e-15) == "");
}

TEST_CASE("Hash names what it refuses", "[hash][errors]") {
    const moe::Hash<> gate{.table = table};
    CHECK(message_of([&] { (void)choose<float>(gate, {}, 4); }) ==
          "Hash: the token has no id (token_id is -1); give the router the token ids of the batch");
    CHECK(message_of([&] { (void)choose<float>(gate, {}, 4, {.token_id = 3}); }) ==
          "Hash: token id 3 lies outside the table of 3 rows");
    CHECK(message_of([&] { (void)choose<float>(gate, {}, 4, {.token_id = -5}); }) ==
          "Hash: token id -5 lies outside the table of 3 rows");
    CHECK_THAT(message_of([&] { moe::validate_gate(moe::Hash<>{.table = table, .scale = inf}, 4); }),
               moe_test::contains("Hash: scale is inf, it must be finite"));
    CHECK(message_of([&] { moe::validate_gate(gate, 3); }) ==
          "Hash: the table gives token id 0 the expert 3 in slot 1, the experts are 0..2");
    CHECK(message_of([&] { moe::validate_gate(gate, 1); }) == "Hash: the table gives 2 experts a token, there are 1");
    CHECK(message_of([&] { moe::validate_gate(moe::Hash<>{}, 4); }) == "Hash: the table is empty, 0 x 0");
}

TEST_CASE("the archetype takes the greatest logit", "[archetype]") {
    const auto expert = [](std::vector<float> logits) { return choose(moe::GateArchetype{}, logits).experts.front(); };
    CHECK(expert({1, 3, 2}) == 1);
    CHECK(expert({3, 3}) == 0);
    CHECK(expert({std::nanf(""), -1}) == 1);
    CHECK(expert({std::nanf(""), std::nanf("")}) == 0);
    CHECK(choose<double>(moe::GateArchetype{}, {1, 3, 2}).weights == std::vector<double>{1});
}

}  // namespace moe_test::gates_test
