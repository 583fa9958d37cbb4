#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <vector>

#include "layer/batch_runner.hpp"
#include "moe/layer/pack.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::packed_layer_test {

/// What pack() makes of a layer.
namespace {

using moe::Compute;
using Gate = moe::TokenChoice<moe::Softmax>;
using moe_test::contains;

moe_test::LayerShape some_shape() {
    moe_test::LayerShape shape;
    shape.d_model = 70;
    shape.d_ff = 45;
    shape.biases = true;
    return shape;
}

template <class Layer>
std::vector<float> run(const Layer& layer, const moe_test::Batch<float>& batch) {
    moe::Workspace workspace;
    return moe_test::run_tokens(layer, batch, moe_test::first_tokens(batch.n_tokens()), false, workspace,
                                moe_test::ReversedExecutor(3));
}

template <class F>
using Packed = moe::PackedExperts<F, moe::AnyForm>;

}  // namespace

TEST_CASE("pack() keeps the format unless another is named, on any executor, and copies what it needs", "[packed]") {
    moe_test::LayerShape shape = some_shape();
    shape.shared_widths = {33, 7};
    shape.shared_mode = moe::SharedMode::gated;
    shape.n_identity = 1;
    const moe_test::LayerCase<float> layer_case(shape, 4);
    const auto layer = layer_case.layer(Gate{.top_k = 3, .normalize = true});
    moe_test::Draw draw(5);
    const moe_test::Batch<float> batch(draw, 30, shape.d_model);
    const std::vector<float> expected = run(layer, batch);
    const auto same = moe::pack(layer);
    static_assert(std::is_same_v<decltype(same)::experts_type, Packed<float>>);
    CHECK(moe_test::same_bits(run(same, batch), expected));
    CHECK(moe_test::same_bits(run(moe::pack(layer, moe_test::ThreadExecutor(4)), batch), expected));
    const auto small = moe::pack<moe::Int8>(layer, moe_test::ThreadExecutor(4), Compute::int8);
    static_assert(std::is_same_v<decltype(small)::shared_type, moe::SharedExperts<Packed<moe::Int8>, float>>);
    CHECK(small.experts().compute() == Compute::int8);
    CHECK(small.shared().experts().back().compute() == Compute::int8);
    const std::vector<float> y = run(small, batch);
    CHECK(moe_test::nmse(y, expected) < 1e-3);
    CHECK(moe_test::same_bits(run(moe::pack<moe::Int8>(layer, moe::SerialExecutor{}, Compute::int8), batch), y));
    const auto error = moe_test::error_of([&] { (void)moe::pack(layer, moe::SerialExecutor{}, Compute::int8); });
    CHECK(error.code == moe::ErrorCode::range);
    CHECK_THAT(error.text, contains("only Int8 and Int4"));
}

TEST_CASE("a quantised layer needs no more workspace than its float original", "[packed]") {
    const moe_test::LayerCase<float> layer_case(some_shape(), 6);
    const auto layer = layer_case.layer(Gate{.top_k = 2});
    const auto packed = moe::pack<moe::Int8>(layer, moe::SerialExecutor{}, Compute::int8);
    CHECK(packed.workspace_bytes(512, 4) <= layer.workspace_bytes(512, 4));
    const moe::AlignedBuffer memory(packed.workspace_bytes(30, 2));
    moe::Workspace exact(std::span(memory.data(), memory.size()));
    moe_test::Draw draw(7);
    const moe_test::Batch<float> batch(draw, 30, 70);
    moe::Workspace grown;
    const moe_test::Expected<float> expected(packed, batch, false, grown);
    CHECK(expected.holds_for(packed, moe_test::first_tokens(30), exact, moe_test::ReversedExecutor(2)));
    moe::Workspace small(std::span(memory.data(), memory.size() - 1));
    const auto error = moe_test::error_of(
        [&] { (void)expected.holds_for(packed, moe_test::first_tokens(30), small, moe_test::ReversedExecutor(2)); });
    CHECK(error.code == moe::ErrorCode::capacity);
}

TEST_CASE("a quantised layer works in any memory, NaN in all of it", "[packed]") {
    const moe_test::LayerCase<float> layer_case(some_shape(), 8);
    const auto layer = moe::pack<moe::Int4>(layer_case.layer(Gate{.top_k = 2}), moe::SerialExecutor{}, Compute::int8);
    moe_test::Draw draw(9);
    for (const std::size_t n_tokens : {0U, 1U, 30U}) {
        const moe_test::Batch<float> batch(draw, n_tokens, 70);
        moe::Workspace fresh;
        const moe_test::Expected<float> expected(layer, batch, false, fresh);
        CHECK(expected.finite());
        const moe::AlignedBuffer memory(layer.workspace_bytes(n_tokens, 2));
        std::fill(memory.data(), memory.data() + memory.size(), std::byte{0xFF});
        moe::Workspace dirty(std::span(memory.data(), memory.size()));
        CHECK(expected.holds_for(layer, moe_test::first_tokens(n_tokens), dirty, moe_test::ReversedExecutor(2)));
    }
}

}  // namespace moe_test::packed_layer_test
