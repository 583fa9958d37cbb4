#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "layer/strategies/strategy_layer.hpp"
#include "moe/gating/adaptors/capacity.hpp"
#include "moe/gating/adaptors/cosine.hpp"
#include "moe/gating/adaptors/forced.hpp"
#include "moe/gating/strategies/expert_choice.hpp"
#include "moe/gating/strategies/replay.hpp"
#include "moe/stats/trace.hpp"
#include "support/catch.hpp"

namespace moe_test::strategies_equal_test {

/// Strategies that must give the same layer. To the bit: the experts of a token are added in ascending order, whatever
/// the order they were chosen in.

namespace {

using moe_test::Hangs;
using moe_test::Strategy;
using moe_test::StrategyBench;

template <class T>
StrategyBench<T> random_bench(std::uint64_t seed) {
    moe_test::Draw draw(seed);
    const moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 30, 9);
    return {shape, draw.size(1, 30), seed};
}

template <class T>
void check_dense(std::uint64_t seed) {
    moe_test::Draw draw(seed);
    const std::size_t n_experts = draw.size(1, 40);
    const StrategyBench<T> bench(moe_test::routing_shape(n_experts), draw.size(1, 40), seed);
    const int k = static_cast<int>(n_experts);
    const int groups = n_experts % 2 == 0 ? 2 : 1;
    const std::vector<Strategy> all{
        {.name = "top-k of all", .gate = moe::TokenChoice<>{.top_k = k}},
        {.name = "top-p of mass 1", .gate = moe::TopP<>{.mass = 1}},
        {.name = "threshold 0", .gate = moe::Threshold<moe::Softmax>{}},
        {.name = "top-k per group", .gate = moe::TopKPerGroup<>{.n_groups = groups, .top_k = k / groups}},
        {.name = "expert choice", .gate = moe::ExpertChoice<>{.capacity_factor = static_cast<double>(k)}},
        {.name = "expert choice, cap E",
         .gate = moe::ExpertChoice<>{.capacity_factor = static_cast<double>(k), .max_per_token_cap = k}},
    };
    const std::vector<T> dense = bench.forward(bench.layer(moe::Dense<>{}, n_experts), bench.options());
    REQUIRE(moe_test::all_finite(dense));
    for (const Strategy& strategy : all) {
        INFO("seed " << seed << ", " << strategy.name);
        CHECK(moe_test::same_bits(bench.forward(bench.layer(strategy.gate, n_experts), bench.options()), dense));
    }
}

/// `gate`, and Forced with what it has chosen.
template <class T, class G>
void check_forced(const StrategyBench<T>& bench, const G& gate, std::size_t n_logits) {
    const Strategy strategy{.name = "own", .gate = gate, .n_logits = n_logits};
    const moe::RoutingPlan<T> plan = bench.route(strategy, bench.options());
    const std::size_t n_tokens = bench.batch.n_tokens();
    const std::size_t k = plan.view().n_assignments() / n_tokens;
    REQUIRE(plan.view().n_assignments() == n_tokens * k);
    const auto experts = moe::view(plan.view().experts.data(), n_tokens, k);
    const moe::AnyGate forced(
        moe::Forced<G>{.gate = gate, .experts = experts, .first_position = moe_test::batch_position});
    CHECK(moe_test::same_bits(bench.forward(bench.layer(forced, n_logits), bench.options()), bench.forward(strategy)));
}

template <class T>
void check_forced_gates(std::uint64_t seed) {
    const auto bench = random_bench<T>(seed);
    INFO("seed " << seed);
    const std::size_t n = bench.layer_case.shape().n_choices();
    const int k = static_cast<int>(n < 4 ? n : 4);
    check_forced(bench, moe::TokenChoice<>{.top_k = k, .normalize = true, .scale = 2.5}, n);
    check_forced(bench, moe::TokenChoice<>{.top_k = k, .weight_from = moe::WeightFrom::softmax_of_selected}, n);
    const std::vector<float> bias(n, 0.25F);
    check_forced(bench,
                 moe::TokenChoice<moe::Sigmoid>{.top_k = k,
                                                .normalize = moe::Normalize::sum(1e-20),
                                                .selection_bias = bias,
                                                .per_expert_scale = bias,
                                                .logit_softcap = 3},
                 n);
    moe_test::Draw draw(seed + 1);
    const std::vector<float> centroids = moe_test::random_elements<float>(draw, n * 3, 1);
    if (bench.strategies.most_logits() >= 3) {
        check_forced(bench,
                     moe::Cosine<moe::TokenChoice<>>{.gate = {.top_k = k, .normalize = true},
                                                     .centroids = moe::view(centroids.data(), n, 3)},
                     3);
    }
}

/// A call that was recorded, played again by each of the ways there are.
template <class T>
void check_replay(const StrategyBench<T>& bench, const Strategy& strategy, const moe::ForwardOptions<T>& options) {
    moe::TraceWriter<T> writer(bench.layer_case.shape().n_choices());
    moe::TraceRecorder<T> recorder(writer);
    auto recorded = options;
    recorded.observer = &recorder;
    const auto layer = bench.layer(strategy);
    const std::vector<T> y = bench.forward(layer, recorded);

    moe::TraceReader<T> reader(writer.bytes());
    moe::RoutingPlan<T> plan;
    REQUIRE(reader.next(plan));
    const moe::AnyGate replay(moe::replay_of(plan.view(), moe_test::batch_position));
    const std::size_t n = bench.layer_case.shape().n_choices();
    CHECK(moe_test::same_bits(bench.forward(bench.layer(replay, n), options), y));
    moe::Workspace workspace;
    std::vector<T> again(y.size());
    const auto out = moe::view(again.data(), bench.batch.n_tokens(), bench.batch.d_model);
    layer.forward_with(replay, bench.x(), out, workspace, options);
    CHECK(moe_test::same_bits(again, y));
    std::fill(again.begin(), again.end(), T(3));
    layer.forward(bench.x(), plan.view(), out, workspace, moe::SerialExecutor{}, options);
    CHECK(moe_test::same_bits(again, y));
}

template <class T>
void check_replays(std::uint64_t seed) {
    const auto bench = random_bench<T>(seed);
    moe_test::Draw draw(seed + 1);
    std::vector<std::uint8_t> valid(bench.batch.n_tokens());
    std::generate(valid.begin(), valid.end(), [&] { return draw.size(0, 3) > 0 ? 1 : 0; });
    auto padded = bench.options();
    padded.valid = valid;
    for (const Strategy& strategy : bench.strategies.all()) {
        INFO("seed " << seed << ", " << strategy.name);
        check_replay(bench, strategy, bench.options());
        check_replay(bench, strategy, padded);
    }
}

}  // namespace

TEST_CASE("whatever takes every expert by its score is the dense mixture", "[strategies]") {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        check_dense<float>(seed);
        check_dense<double>(seed);
    }
}

TEST_CASE("a mask that allows all experts changes no bit, and may come with a call", "[strategies]") {
    for (std::uint64_t seed = 100; seed < 120; ++seed) {
        const auto bench = random_bench<float>(seed);
        const std::size_t n = bench.layer_case.shape().n_choices();
        std::vector<std::uint8_t> allowed(n, 1);
        for (const Strategy& strategy : bench.strategies.all()) {
            if (strategy.gate.is_batch_gate() || strategy.other_logits) {
                continue;  // Masked stands around neither
            }
            INFO("seed " << seed << ", " << strategy.name);
            const moe::AnyGate masked(moe::Masked<moe::AnyGate>{.gate = strategy.gate, .allowed = allowed});
            const auto layer = bench.layer(strategy);
            CHECK(moe_test::same_bits(bench.forward(bench.layer(masked, n), bench.options()), bench.forward(strategy)));

            allowed[seed % n] = 0;
            moe::Workspace workspace;
            std::vector<float> y(bench.batch.x.size());
            layer.forward_with(masked, bench.x(), moe::view(y.data(), bench.batch.n_tokens(), bench.batch.d_model),
                               workspace, bench.options());
            const Strategy without{.name = "masked", .gate = masked, .n_logits = n};
            CHECK(moe_test::same_bits(y, bench.forward(without)));
            const auto plan = bench.route(without, bench.options());
            CHECK(plan.view().tokens_of(seed % n).empty());
            allowed[seed % n] = 1;
        }
    }
}

TEST_CASE("capacity without a limit is the gate inside", "[strategies]") {
    for (std::uint64_t seed = 200; seed < 220; ++seed) {
        const auto bench = random_bench<float>(seed);
        for (const Strategy& strategy : bench.strategies.all()) {
            const std::vector<float> y = bench.forward(strategy);
            for (unsigned order = 0; order <= static_cast<unsigned>(moe::CapacityOrder::random); ++order) {
                INFO("seed " << seed << ", " << strategy.name << ", order " << order);
                const moe::AnyGate unlimited(
                    moe::Capacity<moe::AnyGate>{.gate = strategy.gate,
                                                .limit = moe::CapacityLimit::fixed(1'000'000),
                                                .group = seed % 2 * 4,
                                                .order = static_cast<moe::CapacityOrder>(order)});
                CHECK(
                    moe_test::same_bits(bench.forward(bench.layer(unlimited, strategy.n_logits), bench.options()), y));
            }
        }
    }
}

TEST_CASE("experts forced as the gate would have chosen them have its weights", "[strategies]") {
    for (std::uint64_t seed = 300; seed < 340; ++seed) {
        check_forced_gates<float>(seed);
        check_forced_gates<double>(seed);
    }
}

TEST_CASE("a recorded call is replayed to the bit, under every strategy, through a trace", "[strategies]") {
    for (std::uint64_t seed = 400; seed < 415; ++seed) {
        check_replays<float>(seed);
        check_replays<double>(seed);
    }
}

}  // namespace moe_test::strategies_equal_test
