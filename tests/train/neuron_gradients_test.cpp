#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/reference/backward/layer/neuron_layer.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/counting_allocator.hpp"
#include "support/executors.hpp"
#include "train/gradient_memory.hpp"

namespace moe_test::neuron_gradients_test {

namespace {

using moe::ErrorCode;

/// Multiples of 1/8 in [-1, 1]: logits made of them are exact, and so is every choice.
template <class W>
std::vector<W> on_grid(Draw& draw, std::size_t count) {
    std::vector<W> values(count);
    for (W& value : values) {
        value = to_element<W>(std::round(draw.value() * 8) / 8);
    }
    return values;
}

struct Shape {
    std::size_t n_heads;
    std::size_t n_keys;
    std::size_t d_model;
    std::size_t d_router;
    std::size_t d_key;  ///< 0: no queries
    std::size_t top_k;
    moe::KeyWeights weights = moe::KeyWeights::softmax;

    [[nodiscard]] std::size_t n_logits() const { return 2 * n_heads * n_keys; }
    [[nodiscard]] std::size_t first_outputs() const { return d_key > 0 ? 2 * n_heads * d_key : n_logits(); }
};

/// A layer, tokens, gradients, and the same in double.
template <class W>
struct Case {
    using T = moe::ComputeType<W>;
    using Layer = moe::NeuronLayer<W, moe::Silu>;

    Shape shape;
    std::size_t n;
    std::vector<W> first, keys, down, up;
    std::vector<T> x, read, dy, dx, y, d_first, d_keys, d_read, d_down, d_up;
    Layer layer;
    moe::NeuronGradients<T> to;
    moe::TapeOf<Layer> tape;
    moe::Workspace workspace;
    moe::ForwardOptions<T> options;

    Case(Draw& draw, const Shape& the_shape, std::size_t n_tokens, bool own_input)
        : shape(the_shape),
          n(n_tokens),
          first(on_grid<W>(draw, shape.first_outputs() * shape.d_router)),
          keys(on_grid<W>(draw, shape.n_logits() * shape.d_key)),
          down(random_elements<W>(draw, shape.n_keys * shape.n_keys * shape.d_model, 1)),
          up(random_elements<W>(draw, down.size(), 1)),
          x(on_grid<T>(draw, n * shape.d_model)),
          read(on_grid<T>(draw, own_input ? n * shape.d_router : 0)),
          dy(random_elements<T>(draw, n * shape.d_model, 1)),
          y(n * shape.d_model),
          layer(make()) {
        if (own_input) {
            options.router_input = moe::view(std::as_const(read).data(), n, shape.d_router);
        }
        clear();
    }
    Case(const Case&) = delete;
    Case& operator=(const Case&) = delete;

    [[nodiscard]] Layer make() const {
        const auto of_token = moe::view(first.data(), shape.first_outputs(), shape.d_router);
        const std::size_t n_experts = shape.n_keys * shape.n_keys;
        return {shape.d_key > 0 ? moe::ProductKeyRouter<W>(
                                      of_token, moe::view(keys.data(), shape.n_logits(), shape.d_key), shape.n_heads)
                                : moe::ProductKeyRouter<W>(of_token, shape.n_heads),
                {static_cast<int>(shape.top_k), shape.weights},
                moe::view(down.data(), n_experts, shape.d_model),
                moe::view(up.data(), n_experts, shape.d_model)};
    }

    void clear() {
        const std::size_t n_experts = shape.n_keys * shape.n_keys;
        to.router = gradient_stack(d_first, 1, shape.first_outputs(), shape.d_router);
        to.keys = gradient_stack(d_keys, 1, shape.n_logits(), shape.d_key);
        d_read.assign(read.size(), T(0));
        to.router_input = moe::view(d_read.data(), read.empty() ? 0 : n, shape.d_router);
        d_down.assign(down.size(), T(0));
        d_up.assign(up.size(), T(0));
        to.down = moe::view(d_down.data(), n_experts, shape.d_model);
        to.up = moe::view(d_up.data(), n_experts, shape.d_model);
        dx.assign(n * shape.d_model, T(7));
    }
    template <class E = moe::SerialExecutor>
    void forward(std::size_t from = 0, std::size_t count = all_tokens, const E& executor = {}) {
        count = count == all_tokens ? n : count;
        moe::forward(layer, moe::view(std::as_const(x).data() + from * shape.d_model, count, shape.d_model),
                     moe::view(y.data() + from * shape.d_model, count, shape.d_model), tape, workspace, executor,
                     options);
    }
    template <class E = moe::SerialExecutor>
    void backward(std::size_t from = 0, std::size_t count = all_tokens, const E& executor = {},
                  const moe::BackwardOptions& how = {}) {
        count = count == all_tokens ? n : count;
        moe::backward(layer, tape, moe::view(std::as_const(dy).data() + from * shape.d_model, count, shape.d_model),
                      moe::view(dx.data() + from * shape.d_model, count, shape.d_model), to, workspace, executor, how);
    }
    static constexpr std::size_t all_tokens = static_cast<std::size_t>(-1);

    [[nodiscard]] std::vector<T> all() const {
        std::vector<T> result = dx;
        for (const std::vector<T>* part : {&d_first, &d_keys, &d_read, &d_down, &d_up}) {
            result.insert(result.end(), part->begin(), part->end());
        }
        return result;
    }

    [[nodiscard]] GradientError compare() const {
        reference::NeuronLayer definition{shape.d_model,
                                          shape.n_heads,
                                          shape.n_keys,
                                          shape.d_key > 0 ? to_vector(first) : reference::Vector{},
                                          to_vector(shape.d_key > 0 ? keys : first),
                                          shape.top_k,
                                          shape.weights == moe::KeyWeights::relu,
                                          to_vector(down),
                                          to_vector(up),
                                          [](double z) { return reference::silu(z); },
                                          [](double z) {
                                              const double s = reference::sigmoid(z);
                                              return s * (1 + z * (1 - s));
                                          }};
        reference::NeuronGradients expected = reference::zero_gradients(definition);
        reference::Vector of_x;
        reference::Vector of_read;
        for (std::size_t t = 0; t < n; ++t) {
            const auto row = [t](const std::vector<T>& values, std::size_t d) {
                return to_vector(std::span(values).subspan(t * d, d));
            };
            const reference::Vector token = row(x, shape.d_model);
            reference::NeuronTokenGradient one = reference::backward(
                definition, token, read.empty() ? token : row(read, shape.d_router), row(dy, shape.d_model), expected);
            if (read.empty()) {
                reference::add_scaled(one.x, 1, one.router_input);
            } else {
                of_read.insert(of_read.end(), one.router_input.begin(), one.router_input.end());
            }
            of_x.insert(of_x.end(), one.x.begin(), one.x.end());
        }
        GradientError error;
        error.compare(dx, of_x);
        error.compare(d_read, of_read);
        error.compare(d_first, shape.d_key > 0 ? expected.queries : expected.keys);
        error.compare(d_keys, shape.d_key > 0 ? expected.keys : reference::Vector{});
        error.compare(d_down, expected.down);
        error.compare(d_up, expected.up);
        return error;
    }
};

/// Over all cases together: what the library promises of a layer.
template <class W>
double check_random(std::uint64_t seed, std::size_t n_cases) {
    using T = moe::ComputeType<W>;
    Draw draw(seed);
    GradientError all;
    std::size_t far = 0;
    for (std::size_t i = 0; i < n_cases; ++i) {
        Shape shape{draw.size(1, 4), draw.size(1, 20), draw.size(1, 70), 0, draw.coin() ? draw.size(1, 20) : 0, 1};
        if (draw.size(0, 3) == 0) {
            shape.n_keys = draw.size(1, 2);  // few experts, to which everybody goes
        }
        shape.d_router = draw.coin() ? shape.d_model : draw.size(1, 40);
        shape.top_k = draw.size(1, std::min<std::size_t>(shape.n_keys * shape.n_keys, 9));
        shape.weights = draw.coin() ? moe::KeyWeights::softmax : moe::KeyWeights::relu;
        const std::size_t n = std::array<std::size_t, 5>{0, 1, 2, 23, 90}.at(draw.size(0, 4));
        Case<W> c(draw, shape, n, shape.d_router != shape.d_model || draw.size(0, 3) == 0);
        c.forward(0, n, ThreadExecutor(1 + i % 3));
        std::vector<T> plain(c.y.size());
        c.layer.forward(moe::view(std::as_const(c.x).data(), n, shape.d_model),
                        moe::view(plain.data(), n, shape.d_model), c.workspace, moe::SerialExecutor{}, c.options);
        REQUIRE(same_bits(c.y, plain));
        c.backward(0, n, ReversedExecutor(1 + i % 3));
        const GradientError error = c.compare();
        REQUIRE(error.sizes_differ == 0);
        // a case alone may cancel; it must still be right to three digits less
        far += error.nmse() <= (std::is_same_v<T, double> ? 1e-21 : 1e-9) ? 0U : 1U;
        all.error += error.error;
        all.power += error.power;
    }
    CHECK(far == 0);
    CHECK(all.power > 1);
    return all.nmse();
}

const Shape middle{3, 11, 137, 137, 9, 7};
constexpr std::size_t tokens = 90;

}  // namespace

TEST_CASE("gradients of neurons are those of the definition", "[gradients][neurons]") {
    CHECK(check_random<double>(1, 150) <= 1e-24);
    CHECK(check_random<float>(2, 150) <= 1e-12);
    CHECK(check_random<moe::bfloat16>(3, 50) <= 1e-12);
}

TEST_CASE("gradients of neurons have the same bits for any threads and any cut of a batch", "[gradients][neurons]") {
    for (const std::size_t n_keys : {11U, 2U}) {
        Shape shape = middle;
        shape.n_keys = n_keys;
        shape.top_k = std::min<std::size_t>(shape.top_k, n_keys * n_keys);
        Draw draw(4);
        Case<float> c(draw, shape, tokens, false);
        c.forward();
        c.backward();
        const std::vector<float> expected = c.all();
        for (const std::size_t workers : {2U, 3U, 8U}) {
            c.clear();
            c.forward(0, tokens, ThreadExecutor(workers));
            c.backward(0, tokens, ThreadExecutor(workers));
            CHECK(same_bits(c.all(), expected));
            c.clear();
            c.forward();
            c.backward(0, tokens, ReversedExecutor(workers));
            CHECK(same_bits(c.all(), expected));
        }
        for (const std::size_t piece : {1U, 7U, 50U}) {
            c.clear();
            for (std::size_t from = 0; from < tokens; from += piece) {
                const std::size_t count = std::min<std::size_t>(piece, tokens - from);
                c.forward(from, count);
                c.backward(from, count);
            }
            CHECK(same_bits(c.all(), expected));
        }
    }
}

TEST_CASE("neurons: a NaN stays in its token's dx, and padding adds nothing, whatever stands in it",
          "[gradients][neurons]") {
    Draw draw(5);
    Case<float> c(draw, middle, tokens, false);
    const std::size_t d = middle.d_model;
    c.forward();
    c.backward();
    const std::vector<float> dx = c.dx;
    c.clear();
    const float kept = std::exchange(c.x[5 * d + 2], std::numeric_limits<float>::quiet_NaN());
    c.forward();
    c.backward();
    for (std::size_t i = 0; i < dx.size(); ++i) {
        CHECK((i / d == 5 ? std::isnan(c.dx[i]) : c.dx[i] == dx[i]));
    }
    c.x[5 * d + 2] = kept;
    std::vector<std::uint8_t> valid(tokens, 1);
    valid[3] = valid[tokens - 1] = 0;
    c.options.valid = valid;
    c.clear();
    c.forward();
    c.backward();
    const std::vector<float> expected = c.all();
    c.clear();
    for (const std::size_t t : {std::size_t{3}, tokens - 1}) {
        std::fill_n(c.x.begin() + static_cast<std::ptrdiff_t>(t * d), d, std::numeric_limits<float>::quiet_NaN());
        std::fill_n(c.dy.begin() + static_cast<std::ptrdiff_t>(t * d), d, std::numeric_limits<float>::quiet_NaN());
        CHECK(std::all_of(&expected[t * d], &expected[t * d] + d, [](float value) { return value == 0; }));
    }
    c.forward();
    c.backward();
    CHECK(same_bits(c.all(), expected));
}

TEST_CASE("neurons: what is not wanted is not computed, and leaves the rest as it is", "[gradients][neurons]") {
    Draw draw(6);
    Case<float> c(draw, middle, tokens, false);
    c.forward();
    c.backward();
    const std::vector<float> dx = c.dx;
    const std::vector<float> up = c.d_up;
    const std::vector<float> first = c.d_first;
    c.clear();
    c.to = {.up = c.to.up};
    c.forward();
    c.backward(0, tokens, moe::SerialExecutor{}, {.accumulate_dx = true});
    CHECK(same_bits(c.d_up, up));
    CHECK(c.d_down == std::vector<float>(c.d_down.size()));
    for (std::size_t i = 0; i < dx.size(); ++i) {
        CHECK(std::abs(c.dx[i] - 7 - dx[i]) <= 1e-4F * (7 + std::abs(dx[i])));
    }
    c.clear();
    c.forward();
    moe::backward(c.layer, c.tape, moe::view(std::as_const(c.dy).data(), tokens, middle.d_model),
                  moe::MatrixView<float>(), c.to, c.workspace);
    CHECK(c.dx == std::vector<float>(dx.size(), 7.0F));
    CHECK(same_bits(c.d_first, first));
    c.clear();
    c.forward();
    c.backward(0, tokens, moe::SerialExecutor{}, {.through_router = false});
    CHECK_FALSE(same_bits(c.dx, dx));
    CHECK(same_bits(c.d_first, first));
}

TEST_CASE("calls of neurons that cannot be are errors before anything is written", "[gradients][neurons]") {
    Draw draw(7);
    const std::size_t d = middle.d_model;
    Case<float> c(draw, middle, tokens, false);
    const auto dy = moe::view(std::as_const(c.dy).data(), tokens, d);
    const auto dx = moe::view(c.dx.data(), tokens, d);
    check_refused([&] { c.backward(); }, ErrorCode::state, "holds no forward pass");
    c.forward();
    const auto other = c.make();
    check_refused([&] { moe::backward(other, c.tape, dy, dx, c.to, c.workspace); }, ErrorCode::state, "another layer");
    check_refused([&] { moe::backward(c.layer, c.tape, dy, moe::view(c.dx.data(), tokens, d - 1), c.to, c.workspace); },
                  ErrorCode::shape, "dx is 90 x 136");
    check_refused([&] { moe::backward(c.layer, c.tape, dy, moe::view(c.x.data(), tokens, d), c.to, c.workspace); },
                  ErrorCode::layout, "x (90 x 137");
    check_refused([&] { moe::backward(c.layer, c.tape, dy, moe::view(c.down.data(), tokens, d), c.to, c.workspace); },
                  ErrorCode::layout, "the rows of down");
    auto wrong = c.to;
    wrong.down = moe::view(c.d_down.data(), 120, d);
    check_refused([&] { moe::backward(c.layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::shape,
                  "down are 120 x 137, they must be 121 x 137");
    wrong = c.to;
    wrong.keys = wrong.router;
    check_refused([&] { moe::backward(c.layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::shape,
                  "the keys are 1 x 54 x 137, they must be 1 x 66 x 9");
    wrong = c.to;
    wrong.router = moe::stacked_gradients(c.dx.data(), 1, middle.first_outputs(), d);
    check_refused([&] { moe::backward(c.layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::layout,
                  "overlaps dx");
    CHECK(c.dx == std::vector<float>(tokens * d, 7.0F));
    CHECK(c.d_down == std::vector<float>(c.d_down.size()));
    c.backward();
    check_refused([&] { c.backward(); }, ErrorCode::state, "used up");

    Shape one_product = middle;
    one_product.d_key = 0;
    Case<float> direct(draw, one_product, 1, false);
    direct.forward();
    direct.to.keys = direct.to.router;
    check_refused([&] { direct.backward(); }, ErrorCode::missing, "one product");
}

TEST_CASE("neurons: nothing is allocated once tape and workspace have grown", "[gradients][neurons]") {
    Draw draw(8);
    Case<float> c(draw, middle, tokens, false);
    c.forward();
    c.backward();
    const std::size_t before = allocations();
    c.forward();
    c.backward();
    CHECK(allocations() == before);
}

}  // namespace moe_test::neuron_gradients_test
