#include <cstddef>
#include <new>
#include <vector>

#include "layer/batch_runner.hpp"
#include "moe/layer/pack.hpp"
#include "support/catch.hpp"
#include "support/computes.hpp"
#include "support/counting_allocator.hpp"
#include "support/executors.hpp"

namespace moe_test::packed_allocation_test {

/// No assertion stands where allocations are counted: Catch2 allocates.

namespace {

moe_test::LayerShape rich_shape() {
    moe_test::LayerShape shape;
    shape.n_experts = 5;
    shape.d_model = 37;
    shape.d_ff = 29;
    shape.biases = true;
    shape.shared_widths = {11, 40};
    shape.shared_mode = moe::SharedMode::gated;
    shape.n_identity = 1;
    return shape;
}

/// Allocations of calls with no more tokens than the first, on 1 and on 4 workers.
template <class Layer>
std::size_t allocations_once_grown(const Layer& layer) {
    moe_test::Draw draw(3);
    moe_test::Batch<float> batch(draw, 50, layer.d_model());
    const auto x = [&](std::size_t n) {
        return moe::view(static_cast<const float*>(batch.x.data()), n, batch.d_model);
    };
    const auto y = [&](std::size_t n) { return moe::view(batch.y.data(), n, batch.d_model); };
    moe::Workspace workspace;
    layer.forward(x(50), y(50), workspace, moe_test::ReversedExecutor(4));
    const std::size_t before = moe_test::allocations();
    for (const std::size_t n : {50U, 1U, 0U, 17U}) {
        layer.forward(x(n), y(n), workspace, moe_test::ReversedExecutor(4));
        layer.forward(x(n), y(n), workspace);
    }
    return moe_test::allocations() - before;
}

template <class F>
void check_format() {
    const moe_test::LayerCase<float> layer_case(rich_shape(), 5);
    const auto layer = layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true});
    for (const moe::Compute compute : moe_test::computes<F>()) {
        CHECK(allocations_once_grown(moe::pack<F>(layer, moe::SerialExecutor{}, compute)) == 0);
    }
}

}  // namespace

TEST_CASE("packed layers allocate nothing once the workspace has grown", "[allocation]") {
    check_format<moe::Int8>();
    check_format<moe::Int4>();
    check_format<moe::bfloat16>();
}

TEST_CASE("whichever allocation of packing fails, nothing leaks", "[allocation]") {
    const moe_test::LayerCase<float> layer_case(rich_shape(), 6);
    const auto layer = layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2});
    std::size_t failures = 0;
    for (bool failed = true; failed;) {
        failed = false;
        const std::ptrdiff_t live = moe_test::live_blocks();
        moe_test::fail_allocation(failures + 1);
        try {
            (void)moe::pack<moe::Int8>(layer, moe::SerialExecutor{}, moe::Compute::int8);
        } catch (const std::bad_alloc&) {
            failed = true;
        }
        moe_test::fail_allocation(0);
        failures += failed ? 1U : 0U;
        CHECK(moe_test::live_blocks() == live);
    }
    CHECK(failures > 4);
}

}  // namespace moe_test::packed_allocation_test
