#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/counting_allocator.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::training_test {

/// Parameters, and with them whole trainings: a layer learns what another one does.
namespace {

using moe::ErrorCode;

constexpr std::size_t n_experts = 4;
constexpr std::size_t d = 6;
constexpr std::size_t d_ff = 17;
constexpr std::size_t batch = 64;

/// A layer and all that it takes to train it.
class Model {
public:
    explicit Model(std::uint64_t seed)
        : parameters_({{.name = "router", .rows = n_experts, .cols = d, .scale = 0.5, .decay = false},
                       {.name = "gate", .n_matrices = n_experts, .rows = d_ff, .cols = d, .scale = 0.6},
                       {.name = "up", .n_matrices = n_experts, .rows = d_ff, .cols = d, .scale = 0.6},
                       {.name = "down", .n_matrices = n_experts, .rows = d, .cols = d_ff, .scale = 0.6}},
                      seed) {
        to_.router = parameters_["router"].gradient_stack();
        to_.experts = {.gate = parameters_["gate"].gradient_stack(),
                       .up = parameters_["up"].gradient_stack(),
                       .down = parameters_["down"].gradient_stack()};
    }
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    [[nodiscard]] auto layer() const {
        return moe::MoELayer{
            moe::Router{parameters_["router"].stack(), moe::TokenChoice<>{.top_k = 2}},
            moe::SwiGLU{parameters_["gate"].stack(), parameters_["up"].stack(), parameters_["down"].stack()}};
    }
    [[nodiscard]] moe::Parameters<float>& parameters() { return parameters_; }
    [[nodiscard]] const moe::LayerGradients<float>& gradients() const { return to_; }

private:
    moe::Parameters<float> parameters_;
    moe::LayerGradients<float> to_;
};

struct Training {
    std::size_t steps = 400;
    std::size_t micro_batch = batch;
    bool packed = false;
    double clip = 1;
};

struct Result {
    double first = 0;
    double last = 0;
    std::size_t allocations = 0;  ///< after the first steps
    std::vector<float> values;
};

/// Mean squared error of the teacher's outputs, on a new batch at every step.
template <class E>
Result train(const Training& training, const E& executor) {
    const Model teacher(1);
    Model student(2);
    const auto taught = teacher.layer();
    const auto layer = student.layer();
    auto packed = moe::pack(layer);
    moe::Tape<float> tape;
    moe::Workspace workspace;
    moe::AdamW adam{.decay = 1e-4};
    std::vector<float> x(batch * d);
    std::vector<float> target(batch * d);
    std::vector<float> y(batch * d);
    Result result;
    std::size_t allocations = 0;
    for (std::size_t step = 0; step < training.steps; ++step) {
        for (std::size_t i = 0; i < x.size(); ++i) {
            x[i] = 2 * moe::random_uniform(step, i) - 1;
        }
        taught.forward(moe::view(std::as_const(x).data(), batch, d), moe::view(target.data(), batch, d), workspace);
        moe::zero_gradients(student.parameters().gradients(), executor);
        double loss = 0;
        for (std::size_t first = 0; first < batch; first += training.micro_batch) {
            const std::size_t n = std::min(training.micro_batch, batch - first);
            const auto part = moe::view(std::as_const(x).data() + first * d, n, d);
            const auto out = moe::view(y.data() + first * d, n, d);
            const auto learn = [&](const auto& model) {
                moe::forward(model, part, out, tape, workspace, executor);
                for (std::size_t i = first * d; i < (first + n) * d; ++i) {
                    y[i] -= target[i];  // 2 (y - target) / size, but for the constant, is the gradient
                    loss += static_cast<double>(y[i]) * static_cast<double>(y[i]) / static_cast<double>(y.size());
                }
                moe::backward(model, tape, out, moe::MatrixView<float>(), student.gradients(), workspace, executor);
            };
            training.packed ? learn(packed) : learn(layer);
        }
        (void)moe::clip_by_global_norm(student.parameters().gradients(), training.clip, executor);
        adam.rate = 2e-2 * (step < training.steps / 2 ? 1 : 0.2);
        student.parameters().update(adam, step + 1, executor);
        if (training.packed) {
            packed.repack(layer, executor);
        }
        (step == 0 ? result.first : result.last) = loss;
        if (step == 4) {
            allocations = moe_test::allocations();
        }
    }
    result.allocations = moe_test::allocations() - allocations;
    for (const moe::Parameter<float>& parameter : student.parameters().all()) {
        result.values.insert(result.values.end(), parameter.value().begin(), parameter.value().end());
    }
    return result;
}

}  // namespace

TEST_CASE("a layer learns what another one does", "[training]") {
    const Result result = train({}, moe::SerialExecutor{});
    INFO("from " << result.first << " to " << result.last);
    CHECK(result.last < 0.1 * result.first);
    CHECK(result.last > 0);
    CHECK(result.allocations == 0);
}

TEST_CASE("a training has the same bits for any threads, packed or not, and with gradients of micro-batches",
          "[training]") {
    constexpr std::size_t steps = 60;
    const Result expected = train({.steps = steps}, moe::SerialExecutor{});
    CHECK(moe_test::same_bits(train({.steps = steps}, moe_test::ThreadExecutor(2)).values, expected.values));
    CHECK(moe_test::same_bits(train({.steps = steps}, moe_test::ReversedExecutor(3)).values, expected.values));
    for (const std::size_t micro_batch : {1U, 7U, 16U, 63U}) {
        CHECK(moe_test::same_bits(train({.steps = steps, .micro_batch = micro_batch}, moe::SerialExecutor{}).values,
                                  expected.values));
    }
    const Result packed = train({.steps = steps, .packed = true}, moe::SerialExecutor{});
    CHECK(moe_test::same_bits(packed.values, expected.values));
    CHECK(packed.allocations == 0);
    CHECK_FALSE(
        moe_test::same_bits(train({.steps = steps, .clip = 0.1}, moe::SerialExecutor{}).values, expected.values));
}

TEST_CASE("parameters start normal, stand apart, and stay where they are when their owner is moved", "[parameters]") {
    moe::Parameters<double> made({{.name = "a", .n_matrices = 2, .rows = 50, .cols = 100, .scale = 0.5},
                                  {.name = "b", .cols = 3},
                                  {.name = "c", .rows = 50, .cols = 200, .scale = 0.5}},
                                 7);
    const moe::Parameter<double> a = made["a"];
    moe::Parameters<double> parameters = std::move(made);
    REQUIRE(parameters.all().size() == 3);
    CHECK(made.gradients().size() == 0);
    CHECK(parameters.gradients().size() == 20003);
    CHECK(parameters["a"].value().data() == a.value().data());
    double sum = 0;
    double squares = 0;
    for (const double value : a.value()) {
        sum += value;
        squares += value * value;
    }
    CHECK(std::abs(sum) < 5 * 0.5 * 100);  // 5 standard deviations of 10,000
    CHECK(std::abs(squares - 2500) < 5 * 0.25 * std::sqrt(2.0 * 10'000));
    CHECK_FALSE(moe_test::same_bits(a.value(), parameters["c"].value()));  // a stream each
    CHECK(moe_test::same_bits(parameters["b"].value(), std::vector<double>(3, 0.0)));
    CHECK(moe_test::same_bits(a.gradient(), std::vector<double>(10'000, 0.0)));
    CHECK(a.stack().n_experts() == 2);
    CHECK(a.stack().outputs() == 50);
    CHECK(a.gradient_stack().matrix(1).data == a.gradient().data() + 5000);
    CHECK(a.matrix().rows() == 100);
    CHECK(&a.gradient_matrix()(99, 99) == &a.gradient().back());
    for (const moe::Parameter<double>& parameter : parameters.all()) {
        std::fill(parameter.gradient().begin(), parameter.gradient().end(), 1.0);
    }
    CHECK(moe::squared_norm(parameters.gradients()) == 20003);
}

TEST_CASE("each parameter has its own rate and decay", "[parameters]") {
    moe::Parameters<double> parameters({{.name = "a", .cols = 5, .scale = 1},
                                        {.name = "still", .cols = 5, .scale = 1, .decay = false},
                                        {.name = "slow", .cols = 5, .scale = 1, .rate = 0.5}});
    std::vector<double> before;
    for (const moe::Parameter<double>& parameter : parameters.all()) {
        before.insert(before.end(), parameter.value().begin(), parameter.value().end());
    }
    parameters.update(moe::AdamW{.rate = 0.25, .decay = 0.5}, 1);  // with zero gradients
    for (std::size_t i = 0; i < 5; ++i) {
        CHECK(parameters["a"].value()[i] == before[i] * 0.875);
        CHECK(parameters["still"].value()[i] == before[5 + i]);
        CHECK(parameters["slow"].value()[i] == before[10 + i] * 0.9375);
    }
}

TEST_CASE("parameters that cannot be are errors", "[parameters]") {
    const auto refused = [](auto&& call, ErrorCode code, const std::string& text) {
        const auto error = moe_test::error_of(call);
        INFO(error.text);
        CHECK(error.code == code);
        CHECK_THAT(error.text, moe_test::contains(text));
    };
    refused([] { (void)moe::Parameters<float>({{.name = "a", .rows = 0}}); }, ErrorCode::shape, "a is 1 x 0 x 1");
    refused(
        [] {
            (void)moe::Parameters<float>({{.name = "a"}, {.name = "b"}, {.name = "a"}});
        },
        ErrorCode::duplicate, "called a");
    refused([] { (void)moe::Parameters<float>({{.name = "a", .rows = ~std::size_t{0}, .cols = 2}}); },
            ErrorCode::overflow, "does not fit");
    moe::Parameters<float> parameters({{.name = "a", .scale = 1}, {.name = "b", .scale = 1, .rate = -1}});
    const float before = parameters["a"].value()[0];
    refused([&] { (void)parameters["c"]; }, ErrorCode::not_found, "none of the 2 is called c");
    refused([&] { parameters.update(moe::AdamW{}, 1); }, ErrorCode::range, "rate is -0.001");
    refused([&] { parameters.update(moe::AdamW{}, 0); }, ErrorCode::range, "step is 0");
    CHECK(parameters["a"].value()[0] == before);
    moe::Parameters<float> none({});
    none.update(moe::AdamW{}, 1);
    CHECK(none.gradients().size() == 0);
}

}  // namespace moe_test::training_test
