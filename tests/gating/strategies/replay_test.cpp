#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/replay.hpp>

#include <cstdint>
#include <utility>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "layer/batch_runner.hpp"
#include "moe/routing/plan.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::replay_test {

using moe_test::choose_batch;
using moe_test::message_of;

namespace {

static_assert(moe::BatchGate<moe::Replay<>> && moe::BatchGate<moe::Replay<>, double>);
static_assert(moe::BatchGate<moe::Replay<double>> && moe::BatchGate<moe::Replay<double>, double>);
static_assert(!moe::needs_logits(moe::Replay<>{}));

/// What was recorded, token by token, and the plan of it.
template <class W>
struct Recording {
    std::size_t n_experts;
    std::vector<moe_test::Chosen<W>> tokens;
    moe::RoutingPlan<W> plan;

    Recording(moe_test::Dice& dice, std::size_t n_tokens, std::size_t experts) : n_experts(experts), tokens(n_tokens) {
        const std::size_t width = 1 + dice.below(std::min<std::size_t>(experts, 6));
        std::vector<moe::ExpertId> ids(n_tokens * width, moe::no_expert);
        std::vector<W> weights(ids.size());
        for (std::size_t t = 0; t < n_tokens; ++t) {
            const std::size_t count = dice.below(width + 1);
            for (std::size_t slot = 0; slot < count; ++slot) {
                ids[t * width + slot] = static_cast<moe::ExpertId>(dice.below(n_experts));
                weights[t * width + slot] = static_cast<W>(dice.uniform(-1, 1)) / W(3);
                tokens[t].experts.push_back(ids[t * width + slot]);
                tokens[t].weights.push_back(weights[t * width + slot]);
            }
        }
        plan.assign(moe::view(std::as_const(ids).data(), n_tokens, width),
                    moe::view(std::as_const(weights).data(), n_tokens, width), n_experts);
    }
};

/// A window of a recording, replayed at its positions with some padding, equals what was recorded.
template <class T, class W>
void check_random_windows(std::uint64_t seed) {
    moe_test::Dice dice{seed};
    for (int repeat = 0; repeat < 1000; ++repeat) {
        const std::size_t n_experts = moe_test::expert_counts[dice.below(moe_test::expert_counts.size())];
        const Recording<W> recorded(dice, dice.below(12), n_experts);
        const std::uint64_t origin = dice.pick(std::uint64_t{0}, std::uint64_t{40}, ~std::uint64_t{0} - 50);
        const std::size_t first = dice.below(recorded.tokens.size() + 1);
        const std::size_t n_tokens = dice.below(recorded.tokens.size() - first + 1);
        moe_test::BatchFacts facts{.first_position = origin + first};
        for (std::size_t t = 0; t < n_tokens && repeat % 3 == 0; ++t) {
            facts.valid.push_back(dice.one_in(4) ? 0 : 1);
        }
        const auto gate = moe::replay_of(recorded.plan.view(), origin);
        const auto rows = repeat % 2 == 0 ? choose_batch<T>(gate, {}, n_tokens, n_experts, facts)
                                          : choose_batch<T>(moe::AnyGate(gate), {}, n_tokens, n_experts, facts);
        bool same = true;
        for (std::size_t t = 0; t < n_tokens; ++t) {
            moe_test::Chosen<T> expected;
            if (facts.valid.empty() || facts.valid[t] != 0) {
                expected.experts = recorded.tokens[first + t].experts;
                expected.weights.assign(recorded.tokens[first + t].weights.begin(),
                                        recorded.tokens[first + t].weights.end());
            }
            same = same && rows.kept(t) == expected;
        }
        if (!same) {
            FAIL("case " << repeat << " differs");
        }
    }
}

}  // namespace

TEST_CASE("Replay repeats any window of a recording", "[replay]") {
    check_random_windows<float, float>(1);
    check_random_windows<double, float>(2);
    check_random_windows<double, double>(3);
    check_random_windows<float, double>(4);
}

TEST_CASE("Replay refuses tokens that were not recorded, padding aside", "[replay]") {
    moe_test::Dice dice{5};
    const Recording<float> recorded(dice, 3, 4);
    const auto gate = moe::replay_of(recorded.plan.view(), 10);
    const auto text = [&](std::size_t n_tokens, const moe_test::BatchFacts& facts) {
        return message_of([&] { (void)choose_batch<float>(gate, {}, n_tokens, 4, facts); });
    };
    CHECK(text(3, {.first_position = 10}) == "no error");
    CHECK(text(4, {.first_position = 10}) ==
          "Replay: the token at position 13 was not recorded; 3 tokens from position 10 were");
    CHECK(text(1, {.first_position = 9}) ==
          "Replay: the token at position 9 was not recorded; 3 tokens from position 10 were");
    CHECK(text(4, {.valid = {1, 1, 1, 0}, .first_position = 10}) == "no error");
    CHECK(text(0, {.first_position = 99}) == "no error");
}

TEST_CASE("Replay follows the position of each token, also where several tokens have the same", "[replay]") {
    moe_test::Dice dice{7};
    const Recording<float> recorded(dice, 3, 4);
    const auto plan = recorded.plan.view();
    REQUIRE_FALSE(plan.experts_of(2).empty());
    const moe_test::BatchFacts facts{.first_position = 99, .positions = {12, 10, 12, 11, 12, 12}};
    const auto rows = choose_batch<float>(moe::replay_of(plan, 10), {}, 6, 4, facts);
    for (std::size_t t = 0; t < 6; ++t) {
        const auto row = static_cast<std::size_t>(facts.positions[t] - 10);
        const auto experts = plan.experts_of(row);
        const auto weights = plan.weights_of(row);
        INFO("token " << t);
        CHECK(rows.kept(t).experts == std::vector<moe::ExpertId>(experts.begin(), experts.end()));
        CHECK(rows.kept(t).weights == std::vector<float>(weights.begin(), weights.end()));
    }
}

TEST_CASE("Replay validates the arrays of its plan", "[replay]") {
    const std::vector<moe::Index> offsets{0, 1, 3};
    const std::vector<moe::ExpertId> experts{2, 0, 1};
    const std::vector<float> weights{1, 2, 3};
    const auto refusal = [&](const moe::Replay<>& gate, std::size_t n_experts = 3) {
        return message_of([&] { moe::validate_gate(gate, n_experts); });
    };
    CHECK(refusal({offsets, experts, weights}) == "no error");
    CHECK(moe::gate_max_per_token(moe::Replay<>{offsets, experts, weights}, 2, 3) == 2);
    CHECK(refusal({}) == "Replay: token_offsets is empty, it must begin with 0");
    CHECK(refusal({offsets, experts, std::span(weights).first(2)}) == "Replay: 3 experts and 2 weights");
    CHECK(refusal({offsets, experts, weights}, 2) == "Replay: assignment 0 names expert 2, the experts are 0..1");
    const std::vector<moe::ExpertId> negative{2, -1, 1};
    CHECK(refusal({offsets, negative, weights}) == "Replay: assignment 1 names expert -1, the experts are 0..2");
    const std::vector<moe::Index> late{1, 1, 3};
    CHECK(refusal({late, experts, weights}) ==
          "Replay: token_offsets go from 1 to 3, they must go from 0 to 3, the number of experts");
    const std::vector<moe::Index> falling{0, 4, 3};
    CHECK(refusal({falling, experts, weights}) == "Replay: token_offsets descend at 1");
    CHECK(refusal({offsets, experts, weights, 0, 1}) ==
          "Replay: most_per_token is 1, but a recorded token has 2 experts");
    CHECK(refusal({offsets, experts, weights, 0, 2}) == "no error");
    const std::vector<moe::Index> crowded{0, 3};
    const std::vector<moe::ExpertId> crowd{0, 1, 0};
    CHECK(refusal({crowded, crowd, weights}, 2) ==
          "gate: max_per_token is 3, it must lie in 1..2, the number of experts");
}

TEST_CASE("a layer under Replay repeats the forward pass that was recorded, bit for bit, whole or in parts",
          "[replay]") {
    moe_test::LayerShape shape;
    shape.n_experts = 6;
    const moe_test::LayerCase<float> layer_case(shape, 3);
    const auto layer = layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2});
    moe_test::Draw draw(4);
    moe_test::Batch<float> batch(draw, 20, layer.d_model());
    const auto x = moe::view(std::as_const(batch.x).data(), 20, layer.d_model());
    const auto y = moe::view(batch.y.data(), 20, layer.d_model());
    moe::Workspace workspace;
    moe::RoutingPlan<float> plan;
    layer.route(x, plan, workspace);
    layer.forward(x, y, workspace);
    const std::vector<float> expected = batch.y;
    const auto replayed = layer.with_gate(moe::replay_of(plan.view(), 100));
    for (const std::size_t part : {20U, 7U, 1U}) {
        std::fill(batch.y.begin(), batch.y.end(), -1.0F);
        for (std::size_t t = 0; t < 20; t += part) {
            const std::size_t n = std::min<std::size_t>(part, 20 - t);
            moe::ForwardOptions<float> options;
            options.first_position = 100 + t;
            replayed.forward(moe::view(x.row(t), n, x.cols()), moe::view(y.row(t), n, y.cols()), workspace,
                             moe::SerialExecutor{}, options);
        }
        CHECK(moe_test::same_bits(batch.y, expected));
    }
}

}  // namespace moe_test::replay_test
