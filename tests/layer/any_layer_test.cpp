#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "layer/batch_runner.hpp"
#include "moe/moe.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/counting_allocator.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::any_layer_test {

namespace {

using moe::Compute;
using moe::ErrorCode;
using moe::Format;
using moe_test::contains;
using moe_test::error_of;

constexpr std::size_t n = 17;

moe_test::LayerShape shape() {
    moe_test::LayerShape result;
    result.n_experts = 6;
    result.d_model = 40;
    result.d_ff = 50;
    result.biases = true;
    result.shared_widths = {16, 33};
    result.shared_mode = moe::SharedMode::gated;
    result.n_identity = 1;
    return result;
}

template <class Layer, class T>
std::vector<T> run(const Layer& layer, const moe_test::Batch<T>& batch, std::size_t workers = 1) {
    moe::Workspace workspace;
    return moe_test::run_tokens(layer, batch, moe_test::first_tokens(batch.n_tokens()), false, workspace,
                                moe_test::ThreadExecutor(workers));
}

template <class Layer>
void check_same(const Layer& layer, const moe::AnyLayer<typename Layer::value_type>& any) {
    using T = typename Layer::value_type;
    moe_test::Draw draw(3);
    const moe_test::Batch<T> batch(draw, n, layer.d_model());
    const std::vector<T> expected = run(layer, batch);
    CHECK(moe_test::same_bits(run(any, batch), expected));
    CHECK(moe_test::same_bits(run(any, batch, 3), expected));
    CHECK(any.d_model() == layer.d_model());
    CHECK(any.n_experts() == layer.n_experts());
    CHECK(any.workspace_bytes(n, 2) == layer.workspace_bytes(n, 2));
    CHECK(any.describe().text() == layer.describe().text());
    moe::RoutingPlan<T> plan;
    moe::Workspace workspace;
    const auto x = moe::view(batch.x.data(), n, batch.d_model);
    any.route(x, plan, workspace, moe::SerialExecutor{}, {.token_ids = batch.ids});
    std::vector<T> y(batch.x.size());
    any.forward(x, plan, moe::view(y.data(), n, batch.d_model), workspace);
    CHECK(moe_test::same_bits(y, expected));
}

}  // namespace

TEST_CASE("a layer of any format, chosen when the program runs, has the bits of the same layer", "[any_layer]") {
    const moe_test::LayerCase<float> layer_case(shape(), 1);
    const auto layer = layer_case.layer(moe::AnyGate(moe::TokenChoice<>{.top_k = 2, .normalize = true}));
    check_same(layer, layer);
    check_same(moe::pack(layer), moe::pack(layer, Format::as_stored));
    check_same(moe::pack(layer), moe::pack(layer, moe::find_format("float32"), moe_test::ThreadExecutor(2)));
    check_same(moe::pack<moe::bfloat16>(layer), moe::pack(layer, Format::bfloat16));
    check_same(moe::pack<moe::float16>(layer), moe::pack(layer, moe::find_format("float16")));
    check_same(moe::pack<moe::Int8>(layer), moe::pack(layer, Format::int8));
    check_same(moe::pack<moe::Int4>(layer), moe::pack(layer, Format::int4));
    check_same(moe::pack<moe::Int8>(layer, moe::SerialExecutor{}, Compute::int8),
               moe::pack(layer, Format::int8, moe::SerialExecutor{}, Compute::int8));
    check_same(moe::pack<moe::Int4>(layer, moe::SerialExecutor{}, Compute::int8),
               moe::pack(layer, Format::int4, moe::SerialExecutor{}, Compute::int8));
}

TEST_CASE("weights of 16 and of 64 bits", "[any_layer]") {
    const moe_test::LayerCase<moe::bfloat16> half(shape(), 2);
    const auto of_half = half.layer(moe::TokenChoice<>{.top_k = 2});
    check_same(moe::pack(of_half), moe::pack(of_half, Format::as_stored));
    check_same(moe::pack<moe::Int8>(of_half), moe::pack(of_half, Format::int8));
    check_same(moe::pack<float>(of_half), moe::pack(of_half, Format::float32));
    const moe_test::LayerCase<double> twice(shape(), 3);
    const auto of_double = twice.layer(moe::TokenChoice<>{.top_k = 2});
    check_same(of_double, of_double);
    check_same(moe::pack(of_double), moe::pack(of_double, Format::float64));
    for (const Format format : {Format::float32, Format::bfloat16, Format::float16, Format::int8, Format::int4}) {
        const auto error = error_of([&] { (void)moe::pack(of_double, format); });
        CHECK(error.code == ErrorCode::format);
        CHECK_THAT(error.text, contains(moe::format_name(format)));
    }
    CHECK(error_of([&] { (void)moe::pack(of_half, Format::float64); }).code == ErrorCode::format);
    CHECK(error_of([&] { (void)moe::pack(of_half, static_cast<Format>(9)); }).code == ErrorCode::range);
    CHECK(error_of([&] { (void)moe::pack(of_half, Format::float32, moe::SerialExecutor{}, Compute::int8); }).code ==
          ErrorCode::range);
}

TEST_CASE("formats have names", "[any_layer]") {
    for (int i = 0; i <= static_cast<int>(Format::int4); ++i) {
        CHECK(moe::find_format(moe::format_name(static_cast<Format>(i))) == static_cast<Format>(i));
    }
    const auto error = error_of([] { (void)moe::find_format("Q4_K"); });
    CHECK(error.code == ErrorCode::not_found);
    CHECK_THAT(error.text, contains("Q4_K") && contains("int8"));
    CHECK(error_of([] { (void)moe::format_name(static_cast<Format>(7)); }).code == ErrorCode::range);
}

TEST_CASE("layers of several formats in one container, copied, moved, under another gate, as groups", "[any_layer]") {
    const moe_test::LayerCase<float> layer_case(shape(), 4);
    const auto layer = layer_case.layer(moe::TokenChoice<>{.top_k = 2});
    const std::vector<moe::AnyLayer<float>> layers{layer, moe::pack(layer, Format::int8),
                                                   moe::AnyLayer(moe::pack<moe::bfloat16>(layer))};
    moe_test::Draw draw(5);
    const moe_test::Batch<float> batch(draw, n, layer.d_model());
    CHECK(moe_test::same_bits(run(layers[1], batch), run(moe::pack<moe::Int8>(layer), batch)));

    moe::AnyLayer<float> copy = layers[2];
    moe::AnyLayer<float> taken = std::move(copy);
    CHECK(moe_test::same_bits(run(taken, batch), run(layers[2], batch)));
    const auto error = error_of([&] { (void)run(copy, batch); });  // NOLINT: what was moved from is tested
    CHECK(error.code == ErrorCode::state);
    CHECK_THAT(error.text, contains("moved from"));
    CHECK(error_of([&] { (void)copy.d_model(); }).code == ErrorCode::state);

    CHECK(moe_test::same_bits(run(moe::pack(layers[0], Format::int8), batch), run(layers[1], batch)));
    CHECK(moe_test::same_bits(run(moe::pack(layers[0]), batch), run(layer, batch)));
    const auto twice = error_of([&] { (void)moe::pack(layers[1], Format::int4); });
    CHECK(twice.code == ErrorCode::missing);
    CHECK_THAT(twice.text, contains("packed already"));

    const auto top_one = moe::TokenChoice<>{.top_k = 1};
    CHECK(moe_test::same_bits(run(layers[0].with_gate(top_one), batch), run(layer.with_gate(top_one), batch)));
    CHECK(error_of([&] { (void)layers[0].with_gate(moe::TokenChoice<>{.top_k = 100}); }).code == ErrorCode::range);

    const std::vector<float> rows(3 * layer.d_model(), 0.1F);
    const moe::HierarchicalLayer deep{
        moe::Router{moe::view(rows.data(), 3, layer.d_model()), moe::TokenChoice<>{.top_k = 3, .normalize = true}},
        layers};
    CHECK(run(deep, batch).size() == batch.x.size());

    moe::Workspace workspace;
    std::vector<float> y(batch.x.size());
    moe::ForwardPass<moe::AnyLayer<float>> pass = layers[1].prepare(
        moe::view(batch.x.data(), n, batch.d_model), moe::view(y.data(), n, batch.d_model), workspace, 1);
    for (int phase = 0; phase < moe::n_phases; ++phase) {
        pass.run_phase(static_cast<moe::Phase>(phase), 0, 1);
    }
    CHECK(moe_test::same_bits(y, run(layers[1], batch)));
}

TEST_CASE("a call allocates nothing once its workspace has grown", "[any_layer]") {
    const moe_test::LayerCase<float> layer_case(shape(), 6);
    const auto layer = moe::pack(layer_case.layer(moe::AnyGate(moe::TokenChoice<>{.top_k = 2})), Format::int4);
    moe_test::Draw draw(7);
    const moe_test::Batch<float> batch(draw, n, layer.d_model());
    std::vector<float> y(batch.x.size());
    moe::Workspace workspace;
    const auto forward = [&] {
        layer.forward(moe::view(batch.x.data(), n, batch.d_model), moe::view(y.data(), n, batch.d_model), workspace);
    };
    forward();
    const std::size_t before = moe_test::allocations();
    forward();
    const std::size_t after = moe_test::allocations();
    CHECK(after == before);
}

}  // namespace moe_test::any_layer_test
