#include <cstddef>
#include <vector>

#include "layer/strategies/strategy_layer.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::strategies_allocation_test {

/// No assertion stands where allocations are counted: Catch2 allocates.

namespace {

using moe_test::Strategy;
using moe_test::StrategyBench;

template <class Work>
std::size_t allocations_of(Work&& work) {
    const std::size_t before = moe_test::allocations();
    work();
    return moe_test::allocations() - before;
}

template <class T>
void check_growth(const StrategyBench<T>& bench, const Strategy& strategy, std::size_t workers) {
    const auto layer = bench.layer(strategy);
    const auto options = bench.options();
    const moe_test::ReversedExecutor executor(workers);
    std::vector<T> y(bench.batch.x.size());
    const auto out = moe::view(y.data(), bench.batch.n_tokens(), bench.batch.d_model);
    moe::Workspace workspace;
    layer.forward(bench.x(), out, workspace, executor, options);
    CHECK(workspace.capacity() == layer.workspace_bytes(bench.batch.n_tokens(), workers));
    const std::vector<T> first = y;
    const std::size_t made = allocations_of([&] {
        for (int repeat = 0; repeat < 3; ++repeat) {
            layer.forward(bench.x(), out, workspace, executor, options);
        }
    });
    CHECK(made == 0);
    CHECK(moe_test::same_bits(y, first));
}

/// Memory of exactly workspace_bytes, the byte behind which is not the layer's, is enough; one less is an error.
template <class T>
void check_exact(const StrategyBench<T>& bench, const Strategy& strategy, std::size_t workers) {
    const auto layer = bench.layer(strategy);
    const auto options = bench.options();
    const moe_test::ReversedExecutor executor(workers);
    const std::vector<T> expected = bench.forward(layer, options);
    std::vector<T> y(bench.batch.x.size(), T(5));
    const std::vector<T> before = y;
    const auto out = moe::view(y.data(), bench.batch.n_tokens(), bench.batch.d_model);
    const std::size_t bytes = layer.workspace_bytes(bench.batch.n_tokens(), workers);
    const moe::AlignedBuffer memory(bytes);
    std::fill(memory.data(), memory.data() + bytes, std::byte{0xFF});  // a NaN, and a huge index
    moe::Workspace small(std::span(memory.data(), bytes - 1));
    CHECK(moe_test::error_of([&] { layer.forward(bench.x(), out, small, executor, options); }).code ==
          moe::ErrorCode::capacity);
    CHECK(y == before);
    moe::Workspace exact(std::span(memory.data(), bytes));
    CHECK(allocations_of([&] { layer.forward(bench.x(), out, exact, executor, options); }) == 0);
    CHECK(moe_test::same_bits(y, expected));
}

template <class T>
void check_all(std::size_t n_experts) {
    moe_test::LayerShape shape = moe_test::routing_shape(n_experts);
    shape.shared_widths = {7};
    shape.n_identity = 1;
    for (const std::size_t n_tokens : {1U, 5U, 40U}) {
        const StrategyBench<T> bench(shape, n_tokens, n_experts + n_tokens);
        for (const Strategy& strategy : bench.strategies.all()) {
            INFO(n_experts << " experts, " << n_tokens << " tokens, " << strategy.name);
            for (const std::size_t workers : {1U, 3U}) {
                check_growth(bench, strategy, workers);
                check_exact(bench, strategy, workers);
            }
        }
    }
}

}  // namespace

TEST_CASE("no strategy allocates once the workspace has grown, and workspace_bytes is what it needs", "[allocation]") {
    for (const std::size_t n_experts : {1U, 3U, 8U, 35U}) {
        check_all<float>(n_experts);
        check_all<double>(n_experts);
    }
}

}  // namespace moe_test::strategies_allocation_test
