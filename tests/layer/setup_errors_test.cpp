#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/gate_cases.hpp"
#include "support/unaligned.hpp"

namespace moe_test::setup_errors_test {

using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

namespace {

using Bank = moe::ExpertBank<float, moe::AnyForm>;
const moe::TokenChoice<moe::Softmax> top_2{.top_k = 2};

moe_test::LayerShape small() {
    moe_test::LayerShape shape;
    shape.n_experts = 4;
    shape.d_model = 6;
    shape.d_ff = 5;
    return shape;
}

const moe_test::LayerCase<float> good(small(), 1);
const std::vector<float> memory(1000, 0.5F);

moe::LayerOptions<float> with_nulls(std::size_t zero, std::size_t identity, std::size_t constants, std::size_t width) {
    moe::LayerOptions<float> options;
    options.null_experts = {zero, identity, moe::view(memory.data(), constants, width)};
    return options;
}

/// Banks of one expert of the given d_model.
Bank shared_bank(std::size_t d_model, std::size_t n_experts = 1) {
    const auto stack = [&](std::size_t rows, std::size_t cols) {
        return moe::stacked(memory.data(), n_experts, rows, cols);
    };
    return {{}, {stack(3, d_model), stack(3, d_model), stack(d_model, 3), {}, {}, {}}};
}

}  // namespace

TEST_CASE("a router for another number of experts is refused; null experts count", "[layer][errors]") {
    const auto make = [](const moe::LayerOptions<float>& options) {
        return error_of([&] {
            moe::MoELayer(good.router(top_2),
                          moe_test::LayerCase<float>(
                              [] {
                                  moe_test::LayerShape shape = small();
                                  shape.n_experts = 3;
                                  return shape;
                              }(),
                              1)
                              .bank(),
                          options);
        });
    };
    auto error = make({});
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("among 4 experts") && contains("there are 3 and 0 null"));
    error = make(with_nulls(1, 1, 0, 6));
    CHECK_THAT(error.text, contains("among 4 experts") && contains("there are 3 and 2 null"));
    error = error_of([] { moe::MoELayer(good.router(top_2), good.bank(), with_nulls(0, 0, 1, 6)); });
    CHECK_THAT(error.text, contains("there are 4 and 1 null"));
}

TEST_CASE("constant experts and output bias must have the width of the layer", "[layer][errors]") {
    moe_test::LayerShape shape = small();
    shape.n_constant = 2;
    const moe_test::LayerCase<float> nulls(shape, 2);
    auto error = error_of([&] { moe::MoELayer(nulls.router(top_2), nulls.bank(), with_nulls(0, 0, 2, 7)); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("7 values") && contains("d_model 6"));

    moe::LayerOptions<float> options;
    options.output_bias = std::span(memory).first(5);
    error = error_of([&] { moe::MoELayer(good.router(top_2), good.bank(), options); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("5 values") && contains("d_model 6"));
}

TEST_CASE("mixes must be two rows a constant expert", "[layer][errors]") {
    moe_test::LayerShape shape = small();
    shape.n_constant = 2;
    const moe_test::LayerCase<float> nulls(shape, 2);
    const auto refused = [&](moe::MatrixView<const float> mixes) {
        moe::LayerOptions<float> options = with_nulls(0, 0, 2, 6);
        options.null_experts.mixes = mixes;
        return error_of([&] { moe::MoELayer(nulls.router(top_2), nulls.bank(), options); });
    };
    for (const std::size_t rows : {1U, 2U, 3U, 5U, 6U}) {
        CHECK(refused(moe::view(memory.data(), rows, 6)).text ==
              "MoELayer: the mixes of constant experts are " + std::to_string(rows) +
                  " x 6, but 2 constant experts of d_model 6 need two rows each");
    }
    const auto error = refused(moe::view(memory.data(), 4, 5));
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("are 4 x 5, but 2 constant experts of d_model 6"));
    const moe_test::Unaligned<float> odd(memory);
    CHECK_THAT(refused(moe::view(odd.data(), 4, 6)).text,
               contains("the mixes of constant experts must be aligned to the 4 bytes"));
}

TEST_CASE("a scale that is not finite in the type of the layer is refused", "[layer][errors]") {
    constexpr double inf = std::numeric_limits<double>::infinity();
    const std::vector<std::pair<double, const char*>> wrong{
        {inf, "inf"}, {-inf, "-inf"}, {std::numeric_limits<double>::quiet_NaN(), "nan"}, {1e39, "1e+39"}};
    for (const auto& [scale, value] : wrong) {
        moe::LayerOptions<float> options;
        options.routed_scale = scale;
        const auto error = error_of([&] { moe::MoELayer(good.router(top_2), good.bank(), options); });
        CHECK(error.code == ErrorCode::range);
        CHECK_THAT(error.text, contains("routed_scale is " + std::string(value)));
    }
    const moe::LayerOptions<double> wide{.routed_scale = 1e39, .output_bias = {}};
    CHECK_NOTHROW(wide.validate(6));
}

TEST_CASE("weight_at must be one of its values", "[layer][errors]") {
    moe::LayerOptions<float> options;
    options.weight_at = static_cast<moe::WeightAt>(2);
    const auto error = error_of([&] { moe::MoELayer(good.router(top_2), good.bank(), options); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("weight_at has no value 2"));
}

TEST_CASE("output bias and constant experts must be aligned to their type", "[layer][errors]") {
    const moe_test::Unaligned<float> odd(memory);
    moe::LayerOptions<float> options;
    options.output_bias = {odd.data(), 6};
    auto error = error_of([&] { moe::MoELayer(good.router(top_2), good.bank(), options); });
    CHECK(error.code == ErrorCode::alignment);
    CHECK_THAT(error.text, contains("the output bias must be aligned to the 4 bytes"));

    moe_test::LayerShape shape = small();
    shape.n_constant = 2;
    const moe_test::LayerCase<float> nulls(shape, 2);
    options = {};
    options.null_experts.constants = moe::view(odd.data(), 2, 6);
    error = error_of([&] { moe::MoELayer(nulls.router(top_2), nulls.bank(), options); });
    CHECK(error.code == ErrorCode::alignment);
    CHECK_THAT(error.text, contains("the constants of null experts must be aligned to the 4 bytes"));
}

TEST_CASE("shared experts must fit each other and the layer", "[layer][errors]") {
    using Shared = moe::SharedExperts<Bank>;
    auto error = error_of([] { moe::MoELayer(good.router(top_2), good.bank(), Shared(shared_bank(7))); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("d_model is 6"));
    error = error_of([] { Shared(std::vector<Bank>{}); });
    CHECK(error.code == ErrorCode::missing);
    error = error_of([] { Shared(shared_bank(6, 3)); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("not of 3"));
    error = error_of([] { Shared(std::vector<Bank>{shared_bank(6), shared_bank(5)}); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("d_model 5") && contains("6 of the first"));
}

TEST_CASE("an empty set of shared experts has no width; a mode must be one", "[layer][errors]") {
    using Shared = moe::SharedExperts<Bank>;
    CHECK(Shared{}.d_model() == 0);
    CHECK(Shared(shared_bank(6)).d_model() == 6);
    const auto error = error_of([] { Shared(shared_bank(6), static_cast<moe::SharedMode>(3)); });
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("SharedExperts: no mode has the number 3"));
}

TEST_CASE("gated shared experts need a gate of their shape", "[layer][errors]") {
    using Shared = moe::SharedExperts<Bank>;
    const std::vector<Bank> two{shared_bank(6), shared_bank(6)};
    auto error = error_of([&] { Shared(two, moe::SharedMode::gated); });
    CHECK(error.code == ErrorCode::missing);
    CHECK_THAT(error.text, contains("need gate weights"));
    error = error_of([&] { Shared(two, moe::stacked(memory.data(), 1, 3, 6)); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("3 x 6") && contains("2 shared experts of d_model 6"));
    error = error_of([&] { Shared(two, moe::stacked(memory.data(), 1, 2, 5)); });
    CHECK_THAT(error.text, contains("2 x 5") && contains("d_model 6"));
    error = error_of([&] { Shared(two, moe::stacked(memory.data(), 2, 1, 6)); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("stack of 2"));
}

TEST_CASE("a size too large to be is an overflow when the workspace is measured", "[layer][errors]") {
    const auto layer = good.layer(top_2);
    const auto error = error_of([&] { (void)layer.workspace_bytes(static_cast<std::size_t>(-1) / 16, 1); });
    CHECK(error.code == ErrorCode::overflow);
    CHECK(error_of([&] { (void)layer.workspace_bytes(std::size_t{1} << 31U, 1); }).code == ErrorCode::overflow);
    CHECK(error_of([&] { (void)layer.workspace_bytes(4, static_cast<std::size_t>(-1) / 1000); }).code ==
          ErrorCode::overflow);
    CHECK(error_of([&] { (void)layer.workspace_bytes(4, 0); }).code == ErrorCode::range);
    CHECK(layer.workspace_bytes(200, 2) > layer.workspace_bytes(100, 2));
    CHECK(layer.workspace_bytes(100, 3) > layer.workspace_bytes(100, 2));
}

}  // namespace moe_test::setup_errors_test
