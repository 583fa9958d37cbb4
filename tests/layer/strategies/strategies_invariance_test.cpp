#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "layer/invariance/invariance.hpp"
#include "layer/strategies/strategy_layer.hpp"

namespace moe_test::strategies_invariance_test {

/// What may change around a token, under every strategy: threads for all; batch and order where its experts do not hang
/// on the batch; the order alone where they do.

namespace {

using moe_test::Hangs;
using moe_test::Strategy;

template <class T>
moe_test::StrategyBench<T> random_bench(std::uint64_t seed) {
    moe_test::Draw draw(seed);
    const moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 40, 9);
    return {shape, draw.size(1, 40), seed};
}

/// Empty if all ways to share out the work give the bits of one thread, else which did not.
template <class T>
std::string broken_by_threads(const moe_test::Expected<T>& expected, const moe_test::StrategyLayer<T>& layer,
                              std::size_t n_tokens) {
    const std::vector<std::size_t> all = moe_test::first_tokens(n_tokens);
    moe::Workspace workspace;
    for (std::size_t workers = 2; workers <= 4; ++workers) {
        if (!expected.holds_for(layer, all, workspace, moe_test::ThreadExecutor(workers))) {
            return std::to_string(workers) + " threads";
        }
        if (!expected.holds_for(layer, all, workspace, moe_test::ReversedExecutor(workers))) {
            return std::to_string(workers) + " workers in reverse";
        }
    }
    return {};
}

template <class T>
void check_threads() {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
        const auto bench = random_bench<T>(seed);
        for (const Strategy& strategy : bench.strategies.all()) {
            INFO("seed " << seed << ", " << strategy.name);
            const auto layer = bench.layer(strategy);
            moe::Workspace workspace;
            const moe_test::Expected<T> expected(layer, bench.batch, false, workspace);
            REQUIRE(expected.finite());
            REQUIRE(broken_by_threads(expected, layer, bench.batch.n_tokens()) == "");
        }
    }
}

template <class T>
void check_positions() {
    for (std::uint64_t seed = 100; seed < 112; ++seed) {
        const auto bench = random_bench<T>(seed);
        moe_test::Draw draw(seed + 1);
        for (const Strategy& strategy : bench.strategies.all()) {
            if (strategy.hangs != Hangs::on_batch) {
                INFO("seed " << seed << ", " << strategy.name);
                const auto layer = bench.layer(strategy);
                moe::Workspace workspace;
                const moe_test::Expected<T> expected(layer, bench.batch, draw.coin(), workspace);
                REQUIRE(expected.finite());
                REQUIRE(moe_test::broken_by(draw, expected, layer, bench.batch.n_tokens(), workspace) == "");
            }
        }
    }
}

/// Both halves of the batch in calls of their own, each told where it begins.
template <class T>
std::vector<T> in_two_calls(const moe_test::StrategyBench<T>& bench, const moe_test::StrategyLayer<T>& layer) {
    const std::size_t d = bench.batch.d_model;
    const std::size_t n_tokens = bench.batch.n_tokens();
    std::vector<T> y(bench.batch.x.size());
    moe::Workspace workspace;
    for (const auto& [first, end] : {std::pair{std::size_t{0}, n_tokens / 2}, std::pair{n_tokens / 2, n_tokens}}) {
        moe::ForwardOptions<T> options;
        options.token_ids = std::span(bench.batch.ids).subspan(first, end - first);
        options.first_position = moe_test::batch_position + first;
        layer.forward(moe::view(bench.batch.x.data() + first * d, end - first, d),
                      moe::view(y.data() + first * d, end - first, d), workspace, moe::SerialExecutor{}, options);
    }
    return y;
}

}  // namespace

TEST_CASE("every strategy gives the same bits on any number of threads, in any order of tasks", "[strategies]") {
    check_threads<float>();
    check_threads<double>();
}

TEST_CASE("a strategy that chooses token by token gives a token the same bits in any batch and order", "[strategies]") {
    check_positions<float>();
    check_positions<double>();
}

TEST_CASE("a batch in two calls has the bits of one where each is told its first position", "[strategies]") {
    for (std::uint64_t seed = 200; seed < 220; ++seed) {
        const auto bench = random_bench<float>(seed);
        for (const Strategy& strategy : bench.strategies.all()) {
            if (strategy.hangs != Hangs::on_batch) {
                INFO("seed " << seed << ", " << strategy.name);
                const auto layer = bench.layer(strategy);
                REQUIRE(moe_test::same_bits(in_two_calls(bench, layer), bench.forward(layer, bench.options())));
            }
        }
    }
}

TEST_CASE("the order of a batch does not matter to a batch gate that settles nothing by it", "[strategies]") {
    // In double, where no two scores are equal, nor two assignments equally good.
    std::size_t n_compared = 0;
    for (std::uint64_t seed = 300; seed < 340; ++seed) {
        moe_test::Draw draw(seed);
        const moe_test::StrategyBench<double> bench(moe_test::routing_shape(draw.size(2, 9)), draw.size(1, 30), seed);
        const std::vector<std::size_t> all = moe_test::first_tokens(bench.batch.n_tokens());
        for (const Strategy& strategy : bench.strategies.those_that_hang(Hangs::on_batch)) {
            if (strategy.permutes) {
                INFO("seed " << seed << ", " << strategy.name);
                const auto layer = bench.layer(strategy);
                moe::Workspace workspace;
                const moe_test::Expected<double> expected(layer, bench.batch, false, workspace);
                REQUIRE(expected.finite());
                REQUIRE(expected.holds_for(layer, moe_test::shuffled(draw, all), workspace, moe::SerialExecutor{}));
                ++n_compared;
            }
        }
    }
    CHECK(n_compared >= 400);
}

}  // namespace moe_test::strategies_invariance_test
