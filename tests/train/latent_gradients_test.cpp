#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/counting_allocator.hpp"
#include "support/executors.hpp"
#include "train/gradient_memory.hpp"
#include "train/latent_case.hpp"

namespace moe_test::latent_gradients_test {

namespace {

using moe::ErrorCode;

Shape random_shape(Draw& draw) {
    Shape shape{random_layer_shape(draw, 40, 7), draw.size(1, 70), 0, {}, draw.coin()};
    shape.inner.shared_widths.clear();
    shape.inner.shared_mode = moe::SharedMode::add;
    shape.d_router = draw.coin() ? shape.d_model : draw.size(1, 40);
    for (std::size_t s = draw.size(0, 2); s > 0; --s) {
        shape.shared_widths.push_back(draw.size(1, 40));
    }
    return shape;
}

/// Over all cases together.
template <class T>
double check_random(std::uint64_t seed, std::size_t n_cases) {
    Draw draw(seed);
    GradientError all;
    std::size_t far = 0;
    std::size_t undecided = 0;
    for (std::size_t i = 0; i < n_cases; ++i) {
        const Shape shape = random_shape(draw);
        const std::size_t n = std::array<std::size_t, 5>{0, 1, 2, 7, 23}.at(draw.size(0, 4));
        Case<T> c(draw, shape, n, shape.d_router != shape.d_model || draw.size(0, 3) == 0);
        if (!c.is_decided()) {
            ++undecided;
            continue;
        }
        const auto layer = c.layer();
        c.forward(layer, 0, n, ThreadExecutor(1 + i % 3));
        std::vector<T> plain(c.y.size());
        layer.forward(moe::view(std::as_const(c.x).data(), n, shape.d_model), moe::view(plain.data(), n, shape.d_model),
                      c.workspace, moe::SerialExecutor{}, c.options);
        REQUIRE(same_bits(c.y, plain));
        c.backward(layer, 0, n, ReversedExecutor(1 + i % 3));
        const GradientError error = c.compare();
        REQUIRE(error.sizes_differ == 0);
        // a case alone may cancel; it must still be right to three digits less
        far += error.nmse() <= (std::is_same_v<T, double> ? 1e-21 : 1e-9) ? 0U : 1U;
        all.error += error.error;
        all.power += error.power;
    }
    CHECK(far == 0);
    CHECK(undecided < n_cases / 3);
    CHECK(all.power > 1);
    return all.nmse();
}

Shape middle() {
    Shape shape{{}, 61, 61, {19}, true};
    shape.inner.n_experts = 5;
    shape.inner.d_model = 23;
    shape.inner.d_ff = 31;
    shape.inner.output_bias = true;
    return shape;
}
constexpr std::size_t tokens = 151;

}  // namespace

TEST_CASE("gradients of a latent layer are those of the definition", "[gradients][latent]") {
    CHECK(check_random<double>(1, 150) <= 1e-24);
    CHECK(check_random<float>(2, 150) <= 1e-12);
}

TEST_CASE("gradients of a latent layer have the same bits for any threads and any cut of a batch",
          "[gradients][latent]") {
    Draw draw(3);
    Case<float> c(draw, middle(), tokens, false);
    const auto layer = c.layer();
    c.run(layer);
    const std::vector<float> expected = c.all();
    for (const std::size_t workers : {2U, 3U, 8U}) {
        c.clear();
        c.run(layer, ThreadExecutor(workers));
        CHECK(same_bits(c.all(), expected));
        c.clear();
        c.run(layer, ReversedExecutor(workers));
        CHECK(same_bits(c.all(), expected));
    }
    for (const std::size_t piece : {1U, 20U, 100U}) {
        c.clear();
        for (std::size_t from = 0; from < tokens; from += piece) {
            const std::size_t count = std::min<std::size_t>(piece, tokens - from);
            c.forward(layer, from, count);
            c.backward(layer, from, count);
        }
        CHECK(same_bits(c.all(), expected));
    }
}

TEST_CASE("a latent layer with packed experts has the gradients of views", "[gradients][latent]") {
    Draw draw(4);
    Case<float> c(draw, middle(), tokens, false);
    const auto layer = c.layer();
    c.run(layer);
    const std::vector<float> expected = c.all();
    c.clear();
    const auto banks = c.shared_banks();
    const moe::LatentLayer packed{moe::Linear<float>(layer.in()).packed(moe::SerialExecutor{}),
                                  moe::pack(layer.inner()),
                                  moe::Linear<float>(layer.out()).packed(moe::SerialExecutor{}),
                                  moe::SharedExperts(moe::PackedExperts<float, moe::AnyForm>(banks.front()))};
    c.run(packed);
    CHECK(same_bits(c.all(), expected));
}

TEST_CASE("a latent layer: a NaN stays in its token's dx, and padding adds nothing, whatever stands in it",
          "[gradients][latent]") {
    Draw draw(5);
    Case<float> c(draw, middle(), tokens, false);
    const auto layer = c.layer();
    const std::size_t d = c.shape.d_model;
    c.run(layer);
    const std::vector<float> dx = c.dx;
    c.clear();
    const float kept = std::exchange(c.x[5 * d + 2], std::numeric_limits<float>::quiet_NaN());
    c.run(layer);
    for (std::size_t i = 0; i < dx.size(); ++i) {
        CHECK((i / d == 5 ? std::isnan(c.dx[i]) : c.dx[i] == dx[i]));
    }
    c.x[5 * d + 2] = kept;
    std::vector<std::uint8_t> valid(tokens, 1);
    valid[3] = valid[tokens - 1] = 0;
    c.options.valid = valid;
    for (const std::size_t t : {std::size_t{3}, tokens - 1}) {
        std::fill_n(c.dy.begin() + static_cast<std::ptrdiff_t>(t * d), d, 0.0F);
    }
    c.clear();
    c.run(layer);
    const std::vector<float> expected = c.all();
    c.clear();
    for (const std::size_t t : {std::size_t{3}, tokens - 1}) {
        std::fill_n(c.x.begin() + static_cast<std::ptrdiff_t>(t * d), d, std::numeric_limits<float>::quiet_NaN());
    }
    c.run(layer);
    CHECK(same_bits(c.all(), expected));
}

TEST_CASE("a latent layer: what is not wanted is not computed, and leaves the rest as it is", "[gradients][latent]") {
    Draw draw(6);
    Case<float> c(draw, middle(), tokens, false);
    const auto layer = c.layer();
    c.run(layer);
    const std::vector<float> dx = c.dx;
    const std::vector<float> in = c.d_in;
    const std::vector<float> router = c.d_router;
    c.clear();
    c.to = {.in = c.to.in};
    c.run(layer, moe::SerialExecutor{}, {.accumulate_dx = true});
    CHECK(same_bits(c.d_in, in));
    CHECK(c.d_out == std::vector<float>(c.d_out.size()));
    for (std::size_t i = 0; i < dx.size(); ++i) {
        CHECK(std::abs(c.dx[i] - 7 - dx[i]) <= 1e-4F * (7 + std::abs(dx[i])));
    }
    c.clear();
    c.forward(layer, 0, tokens);
    moe::backward(layer, c.tape, moe::view(std::as_const(c.dy).data(), tokens, c.shape.d_model),
                  moe::MatrixView<float>(), c.to, c.workspace);
    CHECK(c.dx == std::vector<float>(dx.size(), 7.0F));
    CHECK(same_bits(c.d_in, in));
    CHECK(same_bits(c.d_router, router));
    c.clear();
    c.run(layer, moe::SerialExecutor{}, {.through_router = false});
    CHECK_FALSE(same_bits(c.dx, dx));
    CHECK(same_bits(c.d_router, router));
}

TEST_CASE("calls of a latent layer that cannot be are errors before anything is written", "[gradients][latent]") {
    Draw draw(7);
    Case<float> c(draw, middle(), tokens, false);
    const auto layer = c.layer();
    const std::size_t d = c.shape.d_model;
    const auto dy = moe::view(std::as_const(c.dy).data(), tokens, d);
    const auto dx = moe::view(c.dx.data(), tokens, d);
    check_refused([&] { c.backward(layer, 0, tokens); }, ErrorCode::state, "holds no forward pass");
    c.forward(layer, 0, tokens);
    const auto other = c.layer();
    check_refused([&] { moe::backward(other, c.tape, dy, dx, c.to, c.workspace); }, ErrorCode::state, "another layer");
    check_refused([&] { moe::backward(layer, c.tape, dy, moe::view(c.dx.data(), tokens, d - 1), c.to, c.workspace); },
                  ErrorCode::shape, "dx is 151 x 60");
    check_refused([&] { moe::backward(layer, c.tape, dy, moe::view(c.x.data(), tokens, d), c.to, c.workspace); },
                  ErrorCode::layout, "x (151 x 61");
    auto wrong = c.to;
    wrong.in = wrong.out;
    check_refused([&] { moe::backward(layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::shape,
                  "the projection in are 1 x 61 x 23, they must be 1 x 23 x 61");
    wrong = c.to;
    wrong.inner.experts.up = wrong.inner.experts.down;
    check_refused([&] { moe::backward(layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::shape,
                  "must be 5 x 31 x 23");
    wrong = c.to;
    wrong.shared.resize(2);
    check_refused([&] { moe::backward(layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::shape,
                  "2 shared experts");
    wrong = c.to;
    wrong.inner.router_input = moe::view(c.dx.data(), tokens, d);
    check_refused([&] { moe::backward(layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::missing, "part of dx");
    wrong = c.to;
    wrong.out_bias = std::span(c.dx).first(d);
    check_refused([&] { moe::backward(layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::layout, "overlaps dx");
    CHECK(c.dx == std::vector<float>(tokens * d, 7.0F));
    CHECK(c.d_in == std::vector<float>(c.d_in.size()));
    c.backward(layer, 0, tokens);
    check_refused([&] { c.backward(layer, 0, tokens); }, ErrorCode::state, "used up");
}

TEST_CASE("a latent layer: nothing is allocated once tape and workspace have grown", "[gradients][latent]") {
    Draw draw(8);
    Case<float> c(draw, middle(), tokens, false);
    const auto layer = c.layer();
    c.run(layer);
    const std::size_t before = allocations();
    c.run(layer);
    CHECK(allocations() == before);
}

}  // namespace moe_test::latent_gradients_test
