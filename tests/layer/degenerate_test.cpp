#include <cstddef>
#include <vector>

#include "experts/bank_runner.hpp"
#include "layer/batch_runner.hpp"
#include "support/catch.hpp"
#include "support/executors.hpp"
#include "support/multiply_add.hpp"

namespace moe_test::degenerate_test {

/// Shapes at the edge: no tokens, one expert, all experts, none chosen.
namespace {

template <class Layer, class T>
std::vector<T> run_all(const Layer& layer, const moe_test::Batch<T>& batch, bool accumulate = false) {
    moe::Workspace workspace;
    return moe_test::run_tokens(layer, batch, moe_test::first_tokens(batch.n_tokens()), accumulate, workspace,
                                moe_test::ReversedExecutor(3));
}

/// Chooses what the test says for every token, with weight 1.
struct Always {
    std::vector<moe::ExpertId> experts;
    [[nodiscard]] std::size_t max_per_token() const { return experts.empty() ? 1 : experts.size(); }
    std::size_t select(std::span<const float>, moe::Selection out) const {
        std::copy(experts.begin(), experts.end(), out.experts.begin());
        std::fill(out.weights.begin(), out.weights.end(), 1.0F);
        return experts.size();
    }
};

moe_test::LayerShape shape_of(std::size_t n_experts, std::size_t d_model = 19, std::size_t d_ff = 23) {
    moe_test::LayerShape shape;
    shape.n_experts = n_experts;
    shape.d_model = d_model;
    shape.d_ff = d_ff;
    shape.biases = true;
    return shape;
}

}  // namespace

TEST_CASE("no tokens: nothing is read, nothing is written, no error", "[layer]") {
    moe_test::LayerShape shape = shape_of(5);
    shape.shared_widths = {7};
    shape.shared_mode = moe::SharedMode::gated;
    const moe_test::LayerCase<float> layer_case(shape, 1);
    moe_test::Draw draw(2);
    const moe_test::GateCases gates(draw, 5);
    const moe::MatrixView<const float> x(nullptr, 0, 19, 19);
    const moe::MatrixView<float> y(nullptr, 0, 19, 19);
    for (const moe::AnyGate& gate : gates.gates()) {
        const auto layer = layer_case.layer(gate);
        moe::Workspace workspace;
        moe::RoutingPlan<float> plan;
        CHECK_NOTHROW(layer.forward(x, y, workspace));
        CHECK_NOTHROW(layer.forward(x, y, workspace, moe_test::ThreadExecutor(3)));
        CHECK_NOTHROW(layer.route(x, plan, workspace));
        CHECK(plan.view().n_tokens == 0);
        CHECK(plan.view().n_experts == 5);
        CHECK_NOTHROW(layer.forward(x, plan, y, workspace));
    }
}

TEST_CASE("no tokens and a router input of another width than x", "[layer]") {
    const moe_test::LayerCase<float> layer_case(shape_of(3), 1);
    const std::vector<float> router(3 * 11, 0.5F);
    const moe::MoELayer layer(moe::Router(moe::view(router.data(), 3, 11), moe::TokenChoice<moe::Softmax>{}),
                              layer_case.bank());
    moe::ForwardOptions<float> options;
    options.router_input = moe::view(router.data(), 0, 11);
    moe::Workspace workspace;
    std::vector<float> y(19);
    CHECK_NOTHROW(layer.forward(moe::view(router.data(), 0, 19), moe::view(y.data(), 0, 19), workspace,
                                moe::SerialExecutor{}, options));
    options.router_input = moe::view(router.data(), 1, 11);
    CHECK_NOTHROW(layer.forward(moe::view(router.data(), 1, 19), moe::view(y.data(), 1, 19), workspace,
                                moe::SerialExecutor{}, options));
}

TEST_CASE("one expert with weight 1 is that expert", "[layer]") {
    for (std::size_t size = 1; size <= 70; ++size) {
        const moe_test::LayerCase<float> layer_case(shape_of(1, size, 71 - size), size);
        moe_test::Draw draw(size);
        const moe_test::Batch<float> batch(draw, 9, size);
        const auto layer = layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 1});
        REQUIRE(moe_test::same_bits(run_all(layer, batch), moe_test::run_experts(layer_case.bank(), batch.x)));
    }
}

TEST_CASE("all tokens on one expert of many, the others empty", "[layer]") {
    const moe_test::LayerCase<float> layer_case(shape_of(9), 3);
    moe_test::Draw draw(4);
    const moe_test::Batch<float> batch(draw, 2 * moe::max_task_rows + 3, 19);
    const std::vector<float> all =
        moe_test::run_experts(layer_case.bank(), std::vector<float>(batch.x.begin(), batch.x.begin() + 100 * 19));
    for (const moe::ExpertId e : {0, 4, 8}) {
        const std::vector<float> y = run_all(layer_case.layer(Always{{e}}), batch);
        const auto expected = std::span(all).subspan(static_cast<std::size_t>(e) * 100 * 19, 100 * 19);
        CHECK(moe_test::same_bits(std::span(y).first(100 * 19), expected));
    }
}

TEST_CASE("k of all experts is the dense mixture", "[layer]") {
    for (std::size_t n_experts = 1; n_experts <= 12; ++n_experts) {
        const moe_test::LayerCase<double> layer_case(shape_of(n_experts), n_experts);
        moe_test::Draw draw(5);
        const moe_test::Batch<double> batch(draw, 21, 19);
        const auto top_all = layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = static_cast<int>(n_experts)});
        const auto dense = layer_case.layer(moe::Dense<moe::Softmax>{});
        CHECK(moe_test::same_bits(run_all(top_all, batch), run_all(dense, batch)));
    }
}

TEST_CASE("a token without experts gets zero, or keeps what it had", "[layer]") {
    const moe_test::LayerCase<float> layer_case(shape_of(4), 6);
    moe_test::Draw draw(7);
    const moe_test::Batch<float> batch(draw, 33, 19);
    const auto layer = layer_case.layer(Always{{}});
    CHECK(run_all(layer, batch) == std::vector<float>(batch.y.size(), 0.0F));
    CHECK(moe_test::same_bits(run_all(layer, batch, true), batch.y));
}

TEST_CASE("an expert chosen twice by a token is added twice", "[layer]") {
    const moe_test::LayerCase<float> layer_case(shape_of(4), 8);
    moe_test::Draw draw(9);
    const moe_test::Batch<float> batch(draw, 10, 19);
    const std::vector<float> once = run_all(layer_case.layer(Always{{2}}), batch);
    const std::vector<float> twice = run_all(layer_case.layer(Always{{2, 2}}), batch);
    std::vector<float> doubled = once;
    for (float& value : doubled) {
        value *= 2;
    }
    CHECK(moe_test::same_bits(twice, doubled));
}

TEST_CASE("null experts add nothing, the token, or a constant", "[layer]") {
    moe_test::LayerShape shape = shape_of(2);
    shape.n_zero = shape.n_identity = shape.n_constant = 1;
    const moe_test::LayerCase<float> layer_case(shape, 10);
    moe_test::Draw draw(11);
    const moe_test::Batch<float> batch(draw, 8, 19);
    CHECK(run_all(layer_case.layer(Always{{2}}), batch) == std::vector<float>(batch.y.size(), 0.0F));
    CHECK(run_all(layer_case.layer(Always{{3}}), batch) == batch.x);
    const std::vector<float> constant = run_all(layer_case.layer(Always{{4}}), batch);
    const auto row = layer_case.options().null_experts.constants.row_span(0);
    for (std::size_t t = 0; t < 8; ++t) {
        CHECK(std::equal(row.begin(), row.end(), constant.begin() + static_cast<std::ptrdiff_t>(t * 19)));
    }
}

TEST_CASE("a constant expert with mixes adds its softmax of the token and its constant", "[layer]") {
    moe_test::LayerShape shape = shape_of(2);
    shape.n_constant = 2;
    const moe_test::LayerCase<float> layer_case(shape, 10);
    moe_test::Draw draw(11);
    const moe_test::Batch<float> batch(draw, 8, 19);
    std::vector<float> mixes(4 * 19, 0.0F);  // of expert 2: equal shares; of expert 3: all of x or all of the constant
    std::fill_n(mixes.begin() + 2 * 19, 19, 1e6F);
    moe::LayerOptions<float> options = layer_case.options();
    options.null_experts.mixes = moe::view(std::as_const(mixes).data(), 4, 19);
    const auto constant = options.null_experts.constants;
    const auto run = [&](std::vector<moe::ExpertId> experts) {
        const Always gate{std::move(experts)};
        return run_all(moe::MoELayer{layer_case.router(gate), layer_case.bank(), options}, batch);
    };
    const std::vector<float> half = run({2});
    const std::vector<float> whole = run({3});
    for (std::size_t t = 0; t < 8; ++t) {
        double sum = 0;
        for (std::size_t i = 0; i < 19; ++i) {
            sum += static_cast<double>(batch.x[t * 19 + i]);
        }
        for (std::size_t i = 0; i < 19; ++i) {
            const float x = batch.x[t * 19 + i];
            CHECK(half[t * 19 + i] == moe_test::multiply_add(0.5F, constant(0, i), 0.5F * x));
            CHECK(whole[t * 19 + i] == (sum > 0 ? x : constant(1, i)));
        }
    }
}

TEST_CASE("rows of x, y and the router input may have strides; what lies between rows is left alone", "[layer]") {
    const moe_test::LayerCase<float> layer_case(shape_of(5), 12);
    moe_test::Draw draw(13);
    const moe_test::Batch<float> batch(draw, 27, 19);
    const auto layer = layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2});
    const std::vector<float> expected = run_all(layer, batch);
    // x and y side by side in one block of memory, with a column between them that belongs to neither
    constexpr std::size_t stride = 2 * 19 + 1;
    std::vector<float> block(27 * stride, -77.0F);
    for (std::size_t t = 0; t < 27; ++t) {
        std::copy_n(&batch.x[t * 19], 19, &block[t * stride]);
    }
    moe::Workspace workspace;
    moe::ForwardOptions<float> options;
    options.router_input = moe::view(std::as_const(block).data(), 27, 19, stride);
    layer.forward(moe::view(std::as_const(block).data(), 27, 19, stride), moe::view(block.data() + 20, 27, 19, stride),
                  workspace, moe_test::ThreadExecutor(2), options);
    for (std::size_t t = 0; t < 27; ++t) {
        CHECK(moe_test::same_bits(std::span(block).subspan(t * stride + 20, 19),
                                  std::span(expected).subspan(t * 19, 19)));
        CHECK(moe_test::same_bits(std::span(block).subspan(t * stride, 19), std::span(batch.x).subspan(t * 19, 19)));
        CHECK(block[t * stride + 19] == -77.0F);
    }
}

}  // namespace moe_test::degenerate_test
