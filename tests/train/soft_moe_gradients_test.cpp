#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/reference/backward/layer/soft_moe.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/counting_allocator.hpp"
#include "support/executors.hpp"
#include "train/gradient_memory.hpp"

namespace moe_test::soft_moe_gradients_test {

namespace {

using moe::ErrorCode;

struct Shape {
    std::size_t n_experts;
    std::size_t slots_per_expert;
    std::size_t d_model;
    std::size_t d_ff;
    std::size_t d_router;
    moe::SoftMoEOptions options{};
    moe::AnyForm form{};

    [[nodiscard]] std::size_t n_slots() const { return n_experts * slots_per_expert; }
};

/// A layer, tokens, gradients, and the same in double.
template <class T>
struct Case {
    using Bank = moe::ExpertBank<T, moe::AnyForm>;

    Shape shape;
    std::size_t n;
    std::vector<T> slots, x, read, dy, dx, y, d_slots, d_scale, d_read;
    BankWeights<T> weights;
    Bank bank;
    moe::SoftMoELayer<T, Bank> layer;
    BankGradients<T> experts;
    moe::SoftGradients<T> to;
    moe::TapeOf<moe::SoftMoELayer<T, Bank>> tape;
    moe::Workspace workspace;
    moe::ForwardOptions<T> options;

    Case(Draw& draw, const Shape& the_shape, std::size_t n_tokens, bool own_input)
        : shape(the_shape),
          n(n_tokens),
          slots(random_elements<T>(draw, shape.n_slots() * shape.d_router, 1)),
          x(random_elements<T>(draw, n * shape.d_model, 1)),
          read(random_elements<T>(draw, own_input ? n * shape.d_router : 0, 1)),
          dy(random_elements<T>(draw, n * shape.d_model, 1)),
          y(n * shape.d_model),
          weights(draw, shape.n_experts, shape.d_model, shape.d_ff, shape.form.gated(), draw.coin()),
          bank(shape.form, weights.stacks()),
          layer(moe::view(std::as_const(slots).data(), shape.n_slots(), shape.d_router), bank, shape.options) {
        if (own_input) {
            options.router_input = moe::view(std::as_const(read).data(), n, shape.d_router);
        }
        clear();
    }
    Case(const Case&) = delete;
    Case& operator=(const Case&) = delete;

    void clear() {
        to.slots = gradient_stack(d_slots, 1, shape.n_slots(), shape.d_router);
        d_scale.assign(1, T(0));
        to.scale = d_scale;
        d_read.assign(read.size(), T(0));
        to.router_input = moe::view(d_read.data(), read.empty() ? 0 : n, shape.d_router);
        to.experts = experts.over(bank);
        dx.assign(n * shape.d_model, T(7));
    }
    template <class E = moe::SerialExecutor>
    void forward(const E& executor = {}) {
        moe::forward(layer, moe::view(std::as_const(x).data(), n, shape.d_model), moe::view(y.data(), n, shape.d_model),
                     tape, workspace, executor, options);
    }
    template <class E = moe::SerialExecutor>
    void backward(const E& executor = {}, const moe::BackwardOptions& how = {}) {
        moe::backward(layer, tape, moe::view(std::as_const(dy).data(), n, shape.d_model),
                      moe::view(dx.data(), n, shape.d_model), to, workspace, executor, how);
    }
    [[nodiscard]] std::vector<T> all() const {
        std::vector<T> result = dx;
        for (const std::vector<T>* part : {&d_slots, &d_scale, &d_read}) {
            result.insert(result.end(), part->begin(), part->end());
        }
        experts.append_to(result);
        return result;
    }

    [[nodiscard]] GradientError compare() const {
        reference::SoftMoE definition{
            shape.d_model, to_vector(slots), {}, shape.options.normalize, shape.options.scale};
        for (std::size_t e = 0; e < shape.n_experts; ++e) {
            definition.experts.push_back(reference_expert(bank, shape.form, e));
        }
        const auto rows = [this](const std::vector<T>& values) {
            std::vector<reference::Vector> result;
            for (std::size_t t = 0; t < n; ++t) {
                result.push_back(to_vector(std::span(values).subspan(t * values.size() / n, values.size() / n)));
            }
            return result;
        };
        const reference::SoftMoEGradients expected =
            reference::backward(definition, rows(x), rows(read.empty() ? x : read), rows(dy));
        GradientError error;
        reference::Vector of_x;
        reference::Vector of_read;
        for (std::size_t t = 0; t < expected.x.size(); ++t) {
            reference::Vector row = expected.x[t];
            if (read.empty()) {
                reference::add_scaled(row, 1, expected.router_input[t]);
            } else {
                of_read.insert(of_read.end(), expected.router_input[t].begin(), expected.router_input[t].end());
            }
            of_x.insert(of_x.end(), row.begin(), row.end());
        }
        error.compare(dx, of_x);
        error.compare(d_read, of_read);
        error.compare(d_slots, expected.slots);
        error.compare(d_scale, {expected.scale});
        experts.compare(error, expected.experts);
        return error;
    }
};

Shape random_shape(Draw& draw) {
    Shape shape{draw.size(1, 7), draw.size(1, 5), draw.size(1, 70), draw.size(1, 40), 0};
    if (draw.size(0, 4) == 0) {
        shape.slots_per_expert = draw.size(20, 60);
    }
    shape.d_router = draw.coin() ? shape.d_model : draw.size(1, 50);
    shape.options.normalize = draw.size(0, 3) > 0;
    shape.options.scale = std::array{1.0, 0.25, 6.0, -3.0}.at(draw.size(0, 3)) / (shape.options.normalize ? 1 : 8);
    shape.form.kind = static_cast<moe::FormKind>(draw.size(0, static_cast<std::size_t>(moe::FormKind::silu)));
    return shape;
}

/// Over all cases together, as the forward pass is held against the definition.
template <class T>
double check_random(std::uint64_t seed, std::size_t n_cases) {
    Draw draw(seed);
    GradientError all;
    std::size_t far = 0;
    for (std::size_t i = 0; i < n_cases; ++i) {
        const Shape shape = random_shape(draw);
        const std::size_t n = std::array<std::size_t, 6>{0, 1, 2, 7, 31, 60}.at(draw.size(0, 5));
        Case<T> c(draw, shape, n, shape.d_router != shape.d_model || draw.size(0, 3) == 0);
        c.forward(ThreadExecutor(1 + i % 3));
        std::vector<T> plain(c.y.size());
        c.layer.forward(moe::view(std::as_const(c.x).data(), n, shape.d_model),
                        moe::view(plain.data(), n, shape.d_model), c.workspace, moe::SerialExecutor{}, c.options);
        REQUIRE(same_bits(c.y, plain));
        c.backward(ReversedExecutor(1 + i % 3));
        const GradientError error = c.compare();
        REQUIRE(error.sizes_differ == 0);
        // a case alone may cancel; it must still be right to three digits less
        far += error.nmse() <= (std::is_same_v<T, double> ? 1e-18 : 1e-6) ? 0U : 1U;
        all.error += error.error;
        all.power += error.power;
    }
    CHECK(far == 0);
    CHECK(all.power > 1);
    return all.nmse();
}

const Shape middle{3, 5, 137, 19, 137, {.normalize = true, .scale = 4}, {}};

}  // namespace

TEST_CASE("gradients of Soft MoE are those of the definition", "[gradients][soft_moe]") {
    CHECK(check_random<double>(1, 150) <= 1e-24);
    CHECK(check_random<float>(2, 150) <= 1e-12);
}

TEST_CASE("gradients of Soft MoE have the same bits for any threads", "[gradients][soft_moe]") {
    Draw draw(3);
    Case<float> c(draw, middle, 90, false);
    c.forward();
    c.backward();
    const std::vector<float> expected = c.all();
    for (const std::size_t workers : {2U, 3U, 8U}) {
        c.clear();
        c.forward(ThreadExecutor(workers));
        c.backward(ThreadExecutor(workers));
        CHECK(same_bits(c.all(), expected));
        c.clear();
        c.forward();
        c.backward(ReversedExecutor(workers));
        CHECK(same_bits(c.all(), expected));
    }
}

TEST_CASE("padding takes part in no gradient of Soft MoE, whatever stands in it", "[gradients][soft_moe]") {
    Draw draw(4);
    const std::size_t d = middle.d_model;
    Case<float> c(draw, middle, 20, false);
    Draw again(4);
    Case<float> padded(again, middle, 20, false);
    c.forward();
    c.backward();
    std::vector<std::uint8_t> valid(23, 1);
    for (const std::size_t t : {0U, 7U, 22U}) {
        valid[t] = 0;
        const auto at = static_cast<std::ptrdiff_t>(t * d);
        padded.x.insert(padded.x.begin() + at, d, std::numeric_limits<float>::quiet_NaN());
        padded.dy.insert(padded.dy.begin() + at, d, std::numeric_limits<float>::quiet_NaN());
    }
    padded.n = 23;
    padded.y.resize(23 * d);
    padded.options.valid = valid;
    padded.clear();
    padded.forward();
    padded.backward();
    CHECK(std::all_of(padded.dx.begin(), padded.dx.begin() + static_cast<std::ptrdiff_t>(d),
                      [](float value) { return value == 0; }));
    for (const std::size_t t : {22U, 7U, 0U}) {
        const auto at = padded.dx.begin() + static_cast<std::ptrdiff_t>(t * d);
        padded.dx.erase(at, at + static_cast<std::ptrdiff_t>(d));
    }
    CHECK(same_bits(padded.all(), c.all()));

    std::fill(valid.begin(), valid.end(), std::uint8_t{0});  // nothing else is there
    padded.clear();
    padded.forward();
    padded.backward();
    CHECK(padded.all() == std::vector<float>(padded.all().size(), 0.0F));
}

TEST_CASE("Soft MoE: dx is added to, not wanted, or without what flows through the logits", "[gradients][soft_moe]") {
    Draw draw(5);
    Case<float> c(draw, middle, 20, false);
    c.forward();
    c.backward();
    const std::vector<float> dx = c.dx;
    const std::vector<float> slots = c.d_slots;
    c.clear();
    c.to = {.slots = c.to.slots};
    c.forward();
    c.backward(moe::SerialExecutor{}, {.accumulate_dx = true});
    CHECK(same_bits(c.d_slots, slots));
    CHECK(c.experts.up == std::vector<float>(c.experts.up.size()));
    for (std::size_t i = 0; i < dx.size(); ++i) {
        CHECK(std::abs(c.dx[i] - 7 - dx[i]) <= 1e-5F * (7 + std::abs(dx[i])));
    }
    c.clear();
    c.forward();
    moe::backward(c.layer, c.tape, moe::view(std::as_const(c.dy).data(), c.n, middle.d_model), moe::MatrixView<float>(),
                  c.to, c.workspace);
    CHECK(c.dx == std::vector<float>(dx.size(), 7.0F));
    CHECK(same_bits(c.d_slots, slots));
    c.clear();
    c.forward();
    c.backward(moe::SerialExecutor{}, {.through_router = false});
    CHECK_FALSE(same_bits(c.dx, dx));
    CHECK(same_bits(c.d_slots, slots));
}

TEST_CASE("calls of Soft MoE that cannot be are errors before anything is written", "[gradients][soft_moe]") {
    Draw draw(6);
    const std::size_t d = middle.d_model;
    Case<float> c(draw, middle, 20, false);
    const auto dy = moe::view(std::as_const(c.dy).data(), 20, d);
    const auto dx = moe::view(c.dx.data(), 20, d);
    check_refused([&] { c.backward(); }, ErrorCode::state, "holds no forward pass");
    c.forward();
    const auto other = c.layer;
    check_refused([&] { moe::backward(other, c.tape, dy, dx, c.to, c.workspace); }, ErrorCode::state, "another layer");
    check_refused([&] { moe::backward(c.layer, c.tape, dy, moe::view(c.dx.data(), 20, d - 1), c.to, c.workspace); },
                  ErrorCode::shape, "dx is 20 x 136");
    check_refused([&] { moe::backward(c.layer, c.tape, dy, moe::view(c.x.data(), 20, d), c.to, c.workspace); },
                  ErrorCode::layout, "x (20 x 137");
    check_refused([&] { moe::backward(c.layer, c.tape, dy, moe::view(c.slots.data(), 15, d), c.to, c.workspace); },
                  ErrorCode::shape, "dx is 15 x 137");
    auto wrong = c.to;
    wrong.slots = moe::stacked_gradients(c.d_slots.data(), 1, 15, d - 1);
    check_refused([&] { moe::backward(c.layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::shape,
                  "the slots are 1 x 15 x 136, they must be 1 x 15 x 137");
    wrong = c.to;
    wrong.slots = moe::stacked_gradients(c.dx.data(), 1, 15, d);
    check_refused([&] { moe::backward(c.layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::layout,
                  "overlaps dx");
    wrong = c.to;
    wrong.experts.up = wrong.experts.down;
    check_refused([&] { moe::backward(c.layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::shape,
                  "must be 3 x 19 x 137");
    CHECK(c.dx == std::vector<float>(20 * d, 7.0F));
    CHECK(c.d_slots == std::vector<float>(c.d_slots.size()));
    c.backward();
    check_refused([&] { c.backward(); }, ErrorCode::state, "used up");
}

TEST_CASE("Soft MoE: nothing is allocated once tape and workspace have grown", "[gradients][soft_moe]") {
    Draw draw(7);
    Case<float> c(draw, middle, 20, false);
    c.forward();
    c.backward();
    const std::size_t before = allocations();
    c.forward();
    c.backward();
    CHECK(allocations() == before);
}

}  // namespace moe_test::soft_moe_gradients_test
