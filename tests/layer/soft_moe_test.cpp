#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/experts/expert.hpp"
#include "moe/layer/soft_moe_layer.hpp"
#include "moe/reference/layer/soft_moe.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::soft_moe_test {

namespace {

using moe_test::Draw;
using moe_test::error_of;
using moe_test::random_elements;

struct Shape {
    std::size_t n_experts;
    std::size_t slots_per_expert;
    std::size_t d_model;
    std::size_t d_ff;
    moe::SoftMoEOptions options{};
    moe::AnyForm form{};

    [[nodiscard]] std::size_t n_slots() const { return n_experts * slots_per_expert; }
};

/// A layer's memory, and the same in double.
template <class W>
struct Case {
    using T = moe::ComputeType<W>;
    using Bank = moe::ExpertBank<W, moe::AnyForm>;

    Case(Draw& draw, Shape the_shape)
        : shape(the_shape),
          slots(random_elements<W>(draw, shape.n_slots() * shape.d_model, 1)),
          weights(draw, shape.n_experts, shape.d_model, shape.d_ff, shape.form.gated(), draw.coin()) {}

    [[nodiscard]] Bank bank() const { return Bank(shape.form, weights.stacks()); }
    [[nodiscard]] moe::MatrixView<const W> slot_view() const {
        return moe::view(slots.data(), shape.n_slots(), shape.d_model);
    }
    [[nodiscard]] auto layer() const { return moe::SoftMoELayer{slot_view(), bank(), shape.options}; }
    [[nodiscard]] moe_test::reference::SoftMoE definition() const {
        moe_test::reference::SoftMoE layer{
            shape.d_model, moe_test::to_vector(slots), {}, shape.options.normalize, shape.options.scale};
        const Bank experts = bank();
        for (std::size_t e = 0; e < shape.n_experts; ++e) {
            layer.experts.push_back(moe_test::reference_expert(experts, shape.form, e));
        }
        return layer;
    }

    Shape shape;
    std::vector<W> slots;
    moe_test::BankWeights<W> weights;
};

template <class Layer, class T, class Executor = moe::SerialExecutor>
std::vector<T> forward(const Layer& layer, const std::vector<T>& x, std::vector<T> y, const Executor& executor = {},
                       const moe::ForwardOptions<T>& options = {}) {
    moe::Workspace workspace;
    const std::size_t d = layer.d_model();
    layer.forward(moe::view(x.data(), x.size() / d, d), moe::view(y.data(), y.size() / d, d), workspace, executor,
                  options);
    return y;
}

template <class T>
std::vector<moe_test::reference::Vector> rows_of(const std::vector<T>& x, std::size_t d) {
    std::vector<moe_test::reference::Vector> rows;
    for (std::size_t t = 0; t < x.size() / d; ++t) {
        rows.push_back(moe_test::to_vector(std::span(x).subspan(t * d, d)));
    }
    return rows;
}

Shape random_shape(Draw& draw) {
    Shape shape{draw.size(1, 7), draw.size(1, 5), draw.size(1, 70), draw.size(1, 40)};
    if (draw.size(0, 4) == 0) {
        shape.slots_per_expert = draw.size(20, 80);
    }
    shape.options.normalize = draw.size(0, 3) > 0;
    shape.options.scale = std::array{1.0, 0.25, 6.0, -3.0}.at(draw.size(0, 3)) / (shape.options.normalize ? 1 : 8);
    shape.form.kind = static_cast<moe::FormKind>(draw.size(0, static_cast<std::size_t>(moe::FormKind::silu)));
    return shape;
}

/// Over all cases together: logits reach 8 in size, so an error of a few units of each moves a weight by some 1e-6 of
/// itself in float, the mean over tokens by less; 1e-12 and 1e-24 are what the library promises of a layer.
template <class W>
void check_random_layers(std::uint64_t seed) {
    using T = moe::ComputeType<W>;
    Draw draw(seed);
    double error = 0;
    double power = 0;
    std::size_t far = 0;
    for (std::size_t c = 0; c < 150; ++c) {
        const Case<W> test(draw, random_shape(draw));
        const std::size_t d = test.shape.d_model;
        const std::size_t n_tokens = std::array<std::size_t, 7>{0, 1, 2, 7, 31, 60, 131}.at(draw.size(0, 6));
        const std::vector<T> x = random_elements<T>(draw, n_tokens * d, 1);
        const std::vector<T> read = random_elements<T>(draw, n_tokens * d, 1);
        const std::vector<T> before = random_elements<T>(draw, n_tokens * d, 1);
        moe::ForwardOptions<T> options;
        options.accumulate = draw.coin();
        const bool other_input = draw.size(0, 3) == 0;
        if (other_input) {
            options.router_input = moe::view(read.data(), n_tokens, d);
        }
        const std::vector<T> y = forward(test.layer(), x, before, moe_test::ReversedExecutor(draw.size(1, 3)), options);
        const auto expected = forward(test.definition(), rows_of(x, d), rows_of(other_input ? read : x, d));
        double case_error = 0;
        double case_power = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
            const double held = options.accumulate ? static_cast<double>(before[i]) : 0;
            const double difference = static_cast<double>(y[i]) - (held + expected[i / d][i % d]);
            case_error += difference * difference;
            case_power += held * held + expected[i / d][i % d] * expected[i / d][i % d];
        }
        // one case alone may cancel; it must still be right to three digits less
        far += case_error <= (std::is_same_v<T, double> ? 1e-18 : 1e-6) * case_power ? 0U : 1U;
        error += case_error;
        power += case_power;
    }
    CHECK(far == 0);
    CHECK(error <= (std::is_same_v<T, double> ? 1e-24 : 1e-12) * power);
    CHECK(power > 1);
}

const Shape middle{3, 5, 37, 19, {.normalize = true, .scale = 4}, {}};

}  // namespace

TEST_CASE("Soft MoE computes what the definition says", "[soft_moe]") {
    check_random_layers<float>(1);
    check_random_layers<double>(2);
    check_random_layers<moe::bfloat16>(3);
}

TEST_CASE("equal weights: every slot gets the mean token, every token the mean slot", "[soft_moe]") {
    Draw draw(4);
    Shape shape = middle;
    shape.options.scale = 0;
    const Case<float> test(draw, shape);
    const std::size_t d = shape.d_model;
    const std::vector<float> x = random_elements<float>(draw, 8 * d, 1);
    moe_test::reference::Vector mean(d);
    for (std::size_t i = 0; i < x.size(); ++i) {
        mean[i % d] += static_cast<double>(x[i]) / 8;
    }
    moe_test::reference::Vector expected(d);
    for (const auto& expert : test.definition().experts) {
        moe_test::reference::add_scaled(expected, 1.0 / 3, run(expert, mean));
    }
    const std::vector<float> y = forward(test.layer(), x, x);
    for (std::size_t t = 0; t < 8; ++t) {
        CHECK(moe_test::nmse(std::span(y).subspan(t * d, d), expected) <= 1e-12);
    }
}

TEST_CASE("one token, one slot: the expert itself", "[soft_moe]") {
    Draw draw(5);
    const Case<float> test(draw, {1, 1, 23, 7});
    const std::vector<float> x = random_elements<float>(draw, 23, 1);
    std::vector<float> y(23);
    moe::Workspace workspace;
    moe::Expert(test.bank()).forward(moe::view(x.data(), 1, 23), moe::view(y.data(), 1, 23), workspace);
    CHECK(moe_test::same_bits(forward(test.layer(), x, x), y));
}

TEST_CASE("Soft MoE gives the same bits on any threads and with packed experts", "[soft_moe]") {
    Draw draw(6);
    for (const Shape& shape : {middle, Shape{2, 70, 130, 33}}) {
        const Case<float> test(draw, shape);
        const std::vector<float> x = random_elements<float>(draw, 211 * shape.d_model, 1);
        const std::vector<float> y = forward(test.layer(), x, x);
        REQUIRE(moe_test::all_finite(y));
        for (const std::size_t threads : {2U, 3U, 8U}) {
            CHECK(moe_test::same_bits(forward(test.layer(), x, x, moe_test::ThreadExecutor(threads)), y));
            CHECK(moe_test::same_bits(forward(test.layer(), x, x, moe_test::ReversedExecutor(threads)), y));
        }
        const moe::SoftMoELayer packed{test.slot_view(), moe::PackedExperts(test.bank()), shape.options};
        CHECK(moe_test::same_bits(forward(packed, x, x, moe_test::ThreadExecutor(3)), y));
        const moe::SoftMoELayer small{test.slot_view(), moe::PackedExperts<moe::Int8, moe::AnyForm>(test.bank()),
                                      shape.options};
        CHECK(moe_test::nmse(forward(small, x, x), y) < 1e-3);
    }
}

TEST_CASE("padding takes part in nothing", "[soft_moe]") {
    Draw draw(7);
    const Case<float> test(draw, middle);
    const std::size_t d = middle.d_model;
    const std::vector<float> kept = random_elements<float>(draw, 90 * d, 1);
    const std::vector<float> expected = forward(test.layer(), kept, kept);
    std::vector<float> x;
    std::vector<std::uint8_t> valid;
    for (std::size_t t = 0; t < 90; ++t) {
        while (draw.size(0, 2) == 0) {
            x.insert(x.end(), d, std::numeric_limits<float>::quiet_NaN());
            valid.push_back(0);
        }
        x.insert(x.end(), &kept[t * d], &kept[t * d] + d);
        valid.push_back(1);
    }
    moe::ForwardOptions<float> options;
    options.valid = valid;
    const std::vector<float> before(x.size(), 5.0F);
    const std::vector<float> y = forward(test.layer(), x, before, moe_test::ThreadExecutor(3), options);
    options.accumulate = true;
    const std::vector<float> added = forward(test.layer(), x, before, moe_test::ThreadExecutor(3), options);
    std::size_t at = 0;
    for (std::size_t t = 0; t < valid.size(); ++t) {
        for (std::size_t i = t * d; i < (t + 1) * d; ++i) {
            CHECK(y[i] == (valid[t] != 0 ? expected[at] : 0));
            CHECK(added[i] == (valid[t] != 0 ? 5 + expected[at] : 5));
            at += valid[t];
        }
    }
    valid.assign(valid.size(), 0);
    options = {};
    options.valid = valid;
    CHECK(forward(test.layer(), x, before, moe_test::ThreadExecutor(3), options) == std::vector<float>(x.size()));
}

TEST_CASE("zero vectors have no direction: normalised, they compare as 0", "[soft_moe]") {
    Draw draw(8);
    const Case<float> test(draw, middle);
    const std::vector<float> zeros(5 * middle.d_model);
    const std::vector<float> y = forward(test.layer(), zeros, zeros);
    CHECK(moe_test::all_finite(y));
    CHECK(moe_test::same_bits(std::span(y).first(37), std::span(y).subspan(4 * 37, 37)));
}

namespace {

struct Plans : moe::Observer<float> {
    std::vector<std::size_t> tokens_of_experts;
    void on_plan(const moe::RoutingRecord<float>& record) override {
        for (std::size_t e = 0; e < record.plan.n_experts; ++e) {
            tokens_of_experts.push_back(record.plan.tokens_of(e).size());
        }
    }
};

}  // namespace

TEST_CASE("an observer watches the experts, whose tokens are the slots", "[soft_moe]") {
    Draw draw(9);
    const Case<float> test(draw, middle);
    Plans plans;
    moe::ForwardOptions<float> options;
    options.observer = &plans;
    const std::vector<float> x = random_elements<float>(draw, 7 * middle.d_model, 1);
    (void)forward(test.layer(), x, x, moe::SerialExecutor{}, options);
    CHECK(plans.tokens_of_experts == std::vector<std::size_t>{5, 5, 5});
}

TEST_CASE("slots, tokens and options that do not fit are refused", "[soft_moe][errors]") {
    Draw draw(10);
    const Case<float> test(draw, {3, 2, 6, 5});
    const std::vector<float> memory(100, 0.5F);
    const auto made = [&](std::size_t rows, moe::SoftMoEOptions options = {}) {
        return error_of([&] { (void)moe::SoftMoELayer(moe::view(memory.data(), rows, 6), test.bank(), options); }).text;
    };
    CHECK(made(7) == "SoftMoELayer: the slots are 7 x 6, which is no whole number of slots for each of 3 experts");
    CHECK(made(0) == "WeightStack: 1 experts of 0 x 6; every size must be at least 1");
    CHECK(made(6, {.normalize = true, .scale = 1e39}) == "SoftMoELayer: scale is 1e+39, it must be finite in float");
    CHECK_THAT(made(6, {.normalize = true, .scale = std::nan("")}), moe_test::contains("scale is nan"));

    const auto layer = test.layer();
    std::vector<float> y(100, 3.0F);
    moe::Workspace workspace;
    const auto call = [&](std::size_t rows, std::size_t cols, const moe::ForwardOptions<float>& options = {}) {
        return error_of([&] {
                   layer.forward(moe::view(memory.data(), 2, 6), moe::view(y.data(), rows, cols), workspace,
                                 moe::SerialExecutor{}, options);
               })
            .text;
    };
    CHECK(call(3, 6) == "SoftMoELayer: x is 2 x 6 and y is 3 x 6, both must be n_tokens x 6");
    moe::ForwardOptions<float> options;
    options.router_input = moe::view(memory.data(), 2, 5);
    CHECK(call(2, 6, options) ==
          "SoftMoELayer: what is compared with the slots is 2 x 5, it must be 2 x 6 as the tokens and the slots are");
    options = {};
    const std::vector<std::uint8_t> valid(3, 1);
    options.valid = valid;
    CHECK(call(2, 6, options) == "SoftMoELayer: 3 flags of valid tokens for 2 tokens");
    CHECK(error_of([&] {
              layer.forward(moe::view(std::as_const(y).data(), 2, 6), moe::view(y.data() + 3, 2, 6), workspace);
          }).code == moe::ErrorCode::layout);
    CHECK(y == std::vector<float>(100, 3.0F));
}

}  // namespace moe_test::soft_moe_test
