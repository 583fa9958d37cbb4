#include <cstddef>
#include <vector>

#include "layer/pass/concurrency.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::phases_test {

namespace {

/// Whether a pass prepared for `prepared` workers and driven by `nth` host threads gives the bits of forward.
template <class Layer, class T>
bool driven_agrees(const Layer& layer, const moe_test::Batch<T>& batch, bool accumulate, std::size_t prepared,
                   std::size_t nth, moe::Workspace& workspace) {
    const std::size_t n = batch.n_tokens();
    const std::vector<T> expected =
        moe_test::run_tokens(layer, batch, moe_test::first_tokens(n), accumulate, workspace, moe::SerialExecutor{});
    std::vector<T> y = batch.y;
    moe::ForwardOptions<T> options;
    options.accumulate = accumulate;
    options.token_ids = batch.ids;
    auto pass = layer.prepare(moe::view(batch.x.data(), n, batch.d_model), moe::view(y.data(), n, batch.d_model),
                              workspace, prepared, options);
    REQUIRE(pass.n_workers() == prepared);
    moe_test::drive(pass, nth);
    return moe_test::same_bits(y, expected);
}

auto some_layer(const moe_test::LayerCase<float>& layer_case) {
    return layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2});
}

}  // namespace

TEST_CASE("phases driven by the threads of a host give the bits of forward, with fewer workers than prepared too",
          "[phases]") {
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        moe_test::Draw draw(seed);
        const moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 70, 6);
        const moe_test::LayerCase<float> layer_case(shape, seed);
        const moe_test::GateCases gates(draw, shape.n_choices());
        const auto layer = layer_case.layer(gates.gates()[seed % gates.gates().size()]);
        const moe_test::Batch<float> batch(draw, draw.size(1, 40), shape.d_model);
        moe::Workspace workspace;
        const std::size_t prepared = draw.size(1, 8);
        INFO("seed " << seed << ", prepared for " << prepared);
        REQUIRE(driven_agrees(layer, batch, draw.coin(), prepared, prepared, workspace));
        REQUIRE(driven_agrees(layer, batch, draw.coin(), prepared, draw.size(1, prepared), workspace));
    }
}

TEST_CASE("a large batch in phases", "[phases]") {
    const moe_test::LayerCase<float> layer_case(moe_test::shared_layer_shape(), 1);
    const auto layer = some_layer(layer_case);
    moe_test::Draw draw(2);
    const moe_test::Batch<float> batch(draw, 2 * moe::max_task_rows + 5, layer.d_model());
    moe::Workspace workspace;
    for (const std::size_t nth : {1U, 2U, 3U, 8U}) {
        CHECK(driven_agrees(layer, batch, false, 8, nth, workspace));
    }
}

TEST_CASE("a plan given to the phases", "[phases]") {
    const moe_test::LayerCase<float> layer_case(moe_test::shared_layer_shape(), 3);
    const auto layer = some_layer(layer_case);
    moe_test::Draw draw(4);
    const moe_test::Batch<float> batch(draw, 30, layer.d_model());
    const auto x = moe::view(batch.x.data(), 30, layer.d_model());
    std::vector<float> expected(batch.x.size());
    std::vector<float> y(batch.x.size());
    moe::Workspace workspace;
    moe::RoutingPlan<float> plan;
    layer.route(x, plan, workspace);
    layer.forward(x, moe::view(expected.data(), 30, layer.d_model()), workspace);
    auto pass = layer.prepare(x, plan, moe::view(y.data(), 30, layer.d_model()), workspace, 3);
    moe_test::drive(pass, 3);
    CHECK(moe_test::same_bits(y, expected));
}

TEST_CASE("workers that cannot be are refused, with both numbers", "[phases]") {
    const moe_test::LayerCase<float> layer_case(moe_test::shared_layer_shape(), 5);
    const auto layer = some_layer(layer_case);
    std::vector<float> x(layer.d_model());
    std::vector<float> y(layer.d_model(), 7.0F);
    moe::Workspace workspace;
    const auto x_view = moe::view(static_cast<const float*>(x.data()), 1, x.size());
    const auto y_view = moe::view(y.data(), 1, y.size());
    auto pass = layer.prepare(x_view, y_view, workspace, 4);
    for (const auto& [ith, nth] : {std::pair<std::size_t, std::size_t>{4, 4}, {5, 4}, {0, 5}, {4, 5}, {0, 0}, {1, 1}}) {
        for (int phase = 0; phase < moe::n_phases; ++phase) {
            const auto error =
                moe_test::error_of([&, i = ith, n = nth] { pass.run_phase(static_cast<moe::Phase>(phase), i, n); });
            CHECK(error.code == moe::ErrorCode::range);
            CHECK_THAT(error.text, moe_test::contains("worker " + std::to_string(ith) + " of " + std::to_string(nth)));
            CHECK_THAT(error.text, moe_test::contains("prepared for 4"));
        }
    }
    CHECK(y == std::vector<float>(y.size(), 7.0F));
    const auto error = moe_test::error_of([&] { (void)layer.prepare(x_view, y_view, workspace, 0); });
    CHECK(error.code == moe::ErrorCode::range);
    CHECK_THAT(error.text, moe_test::contains("0 threads"));
}

TEST_CASE("an executor that turns up with more workers than it announced is refused, not believed", "[phases]") {
    struct Grown {
        static std::size_t concurrency() { return 2; }
        static void run(moe::ParallelWork work) {
            for (std::size_t ith = 0; ith < 3; ++ith) {
                work(ith, 3);
            }
        }
    };
    const moe_test::LayerCase<float> layer_case(moe_test::shared_layer_shape(), 5);
    const auto layer = some_layer(layer_case);
    moe_test::Draw draw(1);
    moe_test::Batch<float> batch(draw, 30, layer.d_model());
    moe::Workspace workspace;
    const auto error = moe_test::error_of([&] {
        layer.forward(moe::view(std::as_const(batch.x).data(), 30, batch.d_model),
                      moe::view(batch.y.data(), 30, batch.d_model), workspace, Grown{});
    });
    CHECK(error.code == moe::ErrorCode::range);
    CHECK_THAT(error.text, moe_test::contains("of 3") && moe_test::contains("prepared for 2"));
}

TEST_CASE("phases have names", "[phases]") {
    CHECK(std::string(moe::phase_name(moe::Phase::logits)) == "logits");
    CHECK(std::string(moe::phase_name(moe::Phase::output)) == "output");
    static_assert(moe::n_phases == static_cast<int>(moe::Phase::output) + 1);
}

}  // namespace moe_test::phases_test
