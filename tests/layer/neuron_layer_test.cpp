#include "moe/layer/neuron_layer.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/layer/moe_layer.hpp"
#include "moe/reference/layer/neuron_layer.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/unaligned.hpp"

namespace moe_test::neuron_layer_test {

namespace {

using moe_test::Draw;
using moe_test::error_of;

/// Multiples of 1/8 in [-1, 1]: sums of products of these are exact, and so are the logits and every tie between them.
template <class W>
std::vector<W> on_grid(Draw& draw, std::size_t count) {
    std::vector<W> values(count);
    for (W& value : values) {
        value = moe_test::to_element<W>(std::round(draw.value() * 8) / 8);
    }
    return values;
}

struct Shape {
    std::size_t n_heads;
    std::size_t n_keys;
    std::size_t d_model;
    std::size_t d_key;  ///< 0: no queries
    std::size_t top_k;
    moe::KeyWeights weights = moe::KeyWeights::softmax;
};

/// A layer's memory, weights at odd addresses, and the same in double.
template <class W, class Activation = moe::Gelu>
struct Case {
    using T = moe::ComputeType<W>;

    Case(Draw& draw, Shape the_shape)
        : shape(the_shape),
          queries(on_grid<W>(draw, 2 * shape.n_heads * shape.d_key * shape.d_model)),
          keys(on_grid<W>(draw, 2 * shape.n_heads * shape.n_keys * (has_queries() ? shape.d_key : shape.d_model))),
          down_values(moe_test::random_elements<W>(draw, n_experts() * shape.d_model, 1)),
          up_values(moe_test::random_elements<W>(draw, n_experts() * shape.d_model, 1)),
          down(down_values),
          up(up_values) {}

    [[nodiscard]] bool has_queries() const { return shape.d_key > 0; }
    [[nodiscard]] std::size_t n_experts() const { return shape.n_keys * shape.n_keys; }
    [[nodiscard]] moe::ProductKeys gate() const { return {static_cast<int>(shape.top_k), shape.weights}; }
    [[nodiscard]] moe::ProductKeyRouter<W> router() const {
        const std::size_t halves = 2 * shape.n_heads;
        if (has_queries()) {
            return {moe::view(queries.data(), halves * shape.d_key, shape.d_model),
                    moe::view(keys.data(), halves * shape.n_keys, shape.d_key), shape.n_heads};
        }
        return {moe::view(keys.data(), halves * shape.n_keys, shape.d_model), shape.n_heads};
    }
    [[nodiscard]] auto layer() const { return layer(router()); }
    [[nodiscard]] auto layer(moe::ProductKeyRouter<W> from) const {
        return moe::NeuronLayer{std::move(from), gate(), moe::view(down.data(), n_experts(), shape.d_model),
                                moe::view(up.data(), n_experts(), shape.d_model), Activation{}};
    }
    [[nodiscard]] moe_test::reference::NeuronLayer definition(std::function<double(double)> activation) const {
        return {shape.d_model,
                shape.n_heads,
                shape.n_keys,
                moe_test::to_vector(queries),
                moe_test::to_vector(keys),
                shape.top_k,
                shape.weights == moe::KeyWeights::relu,
                moe_test::to_vector(down_values),
                moe_test::to_vector(up_values),
                std::move(activation)};
    }

    Shape shape;
    std::vector<W> queries, keys, down_values, up_values;
    moe_test::Unaligned<W> down, up;
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

/// What rounding may do to an output, by running error analysis: the logits are exact, the weights a softmax of k exact
/// values; |activation'| <= 1.2 and |activation(v)| <= 1 + |v|, evaluated within 8 units.
template <class T>
moe_test::reference::Vector bounds(const moe_test::reference::NeuronLayer& layer, const moe_test::reference::Vector& x,
                                   const moe_test::reference::Vector& before) {
    const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
    const moe_test::reference::Vector logits = moe_test::reference::logits(layer, x);
    moe_test::reference::Vector error(layer.d_model);
    moe_test::reference::Vector size;
    for (const double y : before) {
        size.push_back(std::abs(y));
    }
    for (std::size_t h = 0; h < layer.n_heads; ++h) {
        const auto first = logits.begin() + static_cast<std::ptrdiff_t>(2 * h * layer.n_keys);
        const auto choice = moe_test::reference::product_keys(
            {first, first + static_cast<std::ptrdiff_t>(2 * layer.n_keys)}, layer.top_k, layer.relu);
        for (std::size_t slot = 0; slot < layer.top_k; ++slot) {
            const auto e = static_cast<std::size_t>(choice.experts[slot]);
            const moe_test::Projection v(layer.down, {}, e, 1, x);
            const double v_error = moe_test::rounding_bound<T>(layer.d_model + 6, v.size);
            const double h_error = 1.2 * v_error + 8 * eps * (1 + std::abs(v.value) + v_error);
            const double hidden = std::abs(layer.activation(v.value)) + h_error;
            const double w_error = moe_test::rounding_bound<T>(2 * layer.top_k + 16, choice.weights[slot]);
            for (std::size_t i = 0; i < layer.d_model; ++i) {
                const double up = std::abs(layer.up[e * layer.d_model + i]);
                error[i] += up * (choice.weights[slot] * h_error + w_error * hidden);
                size[i] += up * choice.weights[slot] * hidden;
            }
        }
    }
    for (std::size_t i = 0; i < layer.d_model; ++i) {
        error[i] += moe_test::rounding_bound<T>(layer.n_heads * layer.top_k + 4, size[i]);
        error[i] *= std::is_same_v<T, double> ? 2 : 1;  // the definition rounds too
    }
    return error;
}

Shape random_shape(Draw& draw) {
    Shape shape{draw.size(1, 4), draw.size(1, 13), draw.size(1, 70), draw.coin() ? draw.size(1, 9) : 0, 1};
    shape.top_k = draw.size(1, std::min<std::size_t>(shape.n_keys * shape.n_keys, 20));
    shape.weights = draw.coin() ? moe::KeyWeights::softmax : moe::KeyWeights::relu;
    return shape;
}

/// Random layers and batches, on several threads, overwriting and accumulating.
template <class W, class Activation>
void check_random_layers(std::uint64_t seed, const std::function<double(double)>& activation) {
    using T = moe::ComputeType<W>;
    Draw draw(seed);
    double error = 0;
    double power = 0;
    std::size_t wrong = 0;
    for (std::size_t c = 0; c < 100; ++c) {
        const Case<W, Activation> test(draw, random_shape(draw));
        const std::size_t d = test.shape.d_model;
        const std::size_t n_tokens = std::array<std::size_t, 6>{0, 1, 2, 5, 13, 60}.at(draw.size(0, 5));
        const std::vector<T> x = on_grid<T>(draw, n_tokens * d);
        const std::vector<T> before = moe_test::random_elements<T>(draw, n_tokens * d, 1);
        moe::ForwardOptions<T> options;
        options.accumulate = draw.coin();
        const std::vector<T> y = forward(test.layer(), x, before, moe_test::ReversedExecutor(draw.size(1, 3)), options);
        const auto definition = test.definition(activation);
        for (std::size_t t = 0; t < n_tokens; ++t) {
            const auto row = [&](const std::vector<T>& of) {
                return moe_test::to_vector(std::span(of).subspan(t * d, d));
            };
            const auto held = options.accumulate ? row(before) : moe_test::reference::Vector(d, 0.0);
            const auto expected = combine(definition, logits(definition, row(x)), row(x));
            const auto allowed = bounds<T>(definition, row(x), held);
            for (std::size_t i = 0; i < d; ++i) {
                const double difference = static_cast<double>(y[t * d + i]) - (held[i] + expected[i]);
                wrong += std::abs(difference) <= allowed[i] ? 0U : 1U;
                error += difference * difference;
                power += expected[i] * expected[i];
            }
        }
    }
    CHECK(wrong == 0);
    CHECK(error <= (std::is_same_v<T, double> ? 1e-24 : 1e-12) * power);
    CHECK(power > 1);
}

constexpr Shape middle{3, 7, 37, 5, 6};

}  // namespace

TEST_CASE("layers of one-neuron experts compute what the definition says", "[neuron_layer]") {
    const auto gelu = [](double v) { return moe_test::reference::gelu_erf(v); };
    const auto silu = [](double v) { return moe_test::reference::silu(v); };
    check_random_layers<float, moe::Gelu>(1, gelu);
    check_random_layers<double, moe::Silu>(2, silu);
    check_random_layers<moe::bfloat16, moe::Silu>(3, silu);
    check_random_layers<moe::float16, moe::Gelu>(4, gelu);
}

TEST_CASE("one neuron an expert is what a layer over a bank of width 1 computes", "[neuron_layer]") {
    Draw draw(5);
    const Case<float> test(draw, {1, 5, 33, 0, 4});
    const std::vector<float> x = on_grid<float>(draw, 11 * 33);
    const moe::ExpertBank<float, moe::Plain<moe::Gelu>> bank({},
                                                             {.gate = {},
                                                              .up = moe::stacked(test.down_values.data(), 25, 1, 33),
                                                              .down = moe::stacked(test.up_values.data(), 25, 33, 1),
                                                              .gate_bias = {},
                                                              .up_bias = {},
                                                              .down_bias = {}});
    const moe::MoELayer layer{moe::Router{moe::view(test.keys.data(), 10, 33), test.gate()}, bank};
    const std::vector<float> zeros(x.size());
    CHECK(moe_test::nmse(forward(test.layer(), x, zeros), forward(layer, x, zeros)) <= 1e-12);
}

TEST_CASE("a million experts", "[neuron_layer]") {
    Draw draw(6);
    const Case<float> test(draw, {2, 1024, 3, 0, 16});
    const std::vector<float> x = on_grid<float>(draw, 2 * 3);
    const auto definition = test.definition([](double v) { return moe_test::reference::gelu_erf(v); });
    const std::vector<float> y = forward(test.layer(), x, x);
    moe_test::reference::Vector expected;
    for (std::size_t t = 0; t < 2; ++t) {
        const auto row = moe_test::to_vector(std::span(x).subspan(t * 3, 3));
        const auto part = combine(definition, logits(definition, row), row);
        expected.insert(expected.end(), part.begin(), part.end());
    }
    CHECK(moe_test::nmse(y, expected) <= 1e-12);
    CHECK(test.layer().n_experts() == 1U << 20U);
    CHECK(test.layer().workspace_bytes(1, 1) < test.layer().n_experts());  // nothing of it is proportional to these
}

TEST_CASE("a token's bits depend neither on its batch nor on the threads nor on packing", "[neuron_layer]") {
    Draw draw(7);
    for (const Shape& shape : {middle, Shape{1, 70, 130, 0, 16, moe::KeyWeights::relu}}) {
        const Case<float> test(draw, shape);
        const auto layer = test.layer();
        const std::size_t d = shape.d_model;
        const std::vector<float> x = moe_test::random_elements<float>(draw, 67 * d, 1);
        const std::vector<float> before = moe_test::random_elements<float>(draw, 67 * d, 1);
        const std::vector<float> y = forward(layer, x, before);
        REQUIRE(moe_test::all_finite(y));
        for (const std::size_t threads : {2U, 3U, 8U}) {
            CHECK(moe_test::same_bits(forward(layer, x, before, moe_test::ThreadExecutor(threads)), y));
            CHECK(moe_test::same_bits(forward(layer, x, before, moe_test::ReversedExecutor(threads)), y));
        }
        CHECK(
            moe_test::same_bits(forward(test.layer(test.router().packed(moe_test::ThreadExecutor(2))), x, before), y));
        for (std::size_t t = 0; t < 67; t += 6) {
            const std::vector<float> alone(&x[t * d], &x[t * d] + d);
            CHECK(moe_test::same_bits(forward(layer, alone, alone, moe_test::ThreadExecutor(3)),
                                      std::span<const float>(y).subspan(t * d, d)));
        }
    }
}

TEST_CASE("padding adds nothing, and what it holds reaches no other token", "[neuron_layer]") {
    Draw draw(8);
    const Case<float> test(draw, middle);
    const std::size_t d = middle.d_model;
    std::vector<float> x = moe_test::random_elements<float>(draw, 9 * d, 1);
    const std::vector<float> clean = forward(test.layer(), x, x);
    const std::vector<std::uint8_t> valid{1, 1, 0, 1, 0, 1, 1, 1, 1};
    std::fill_n(x.begin() + 2 * static_cast<std::ptrdiff_t>(d), d, std::numeric_limits<float>::quiet_NaN());
    std::fill_n(x.begin() + 7 * static_cast<std::ptrdiff_t>(d), d, std::numeric_limits<float>::quiet_NaN());
    for (const bool accumulate : {false, true}) {
        moe::ForwardOptions<float> options;
        options.valid = valid;
        options.accumulate = accumulate;
        const std::vector<float> before(x.size(), accumulate ? 0.0F : 5.0F);
        const std::vector<float> y = forward(test.layer(), x, before, moe_test::ThreadExecutor(2), options);
        for (std::size_t t = 0; t < 9; ++t) {
            const auto row = std::span(y).subspan(t * d, d);
            if (t == 7) {
                CHECK(std::isnan(row[0]));
            } else if (valid[t] == 0) {
                CHECK(moe_test::same_bits(row, std::vector<float>(d, 0.0F)));
            } else {
                CHECK(moe_test::same_bits(row, std::span<const float>(clean).subspan(t * d, d)));
            }
        }
    }
}

TEST_CASE("experts of weight 0 are not read", "[neuron_layer]") {
    Draw draw(9);
    const std::vector<float> key{-1, -1, -1, -1};  // every sum is -2 for x = 1
    const std::vector<float> poison(4, std::numeric_limits<float>::quiet_NaN());
    const moe::NeuronLayer layer{moe::ProductKeyRouter{moe::view(key.data(), 4, 1), 1},
                                 moe::ProductKeys{3, moe::KeyWeights::relu}, moe::view(poison.data(), 4, 1),
                                 moe::view(poison.data(), 4, 1)};
    CHECK(forward(layer, std::vector<float>{1}, std::vector<float>{9}) == std::vector<float>{0});
}

TEST_CASE("the router may read something else, and rows may have strides", "[neuron_layer]") {
    Draw draw(10);
    const Case<float> test(draw, {2, 5, 12, 0, 3});
    const std::vector<float> x = moe_test::random_elements<float>(draw, 6 * 12, 1);
    const std::vector<float> y = forward(test.layer(), x, x);
    // router rows as narrow as their first column, of an input that holds nothing else
    const moe::ProductKeyRouter narrow{moe::view(test.keys.data(), 20, 1, 12), 2};
    const moe::NeuronLayer layer{narrow, test.gate(), moe::view(test.down.data(), 25, 12),
                                 moe::view(test.up.data(), 25, 12)};
    std::vector<float> first_only = x;
    for (std::size_t i = 0; i < x.size(); ++i) {
        first_only[i] = i % 12 == 0 ? x[i] : 0;
    }
    moe::ForwardOptions<float> options;
    options.router_input = moe::view(x.data(), 6, 1, 12);
    const std::vector<float> from_first = forward(layer, x, x, moe::SerialExecutor{}, options);
    options.router_input = moe::view(std::as_const(first_only).data(), 6, 12);
    CHECK(moe_test::same_bits(forward(test.layer(), x, x, moe::SerialExecutor{}, options), from_first));
    CHECK_FALSE(moe_test::same_bits(from_first, y));
}

namespace {

struct Phases : moe::Observer<float> {
    std::string seen;
    void on_phase_begin(moe::Phase phase) override { seen += std::string("+") + moe::phase_name(phase); }
    void on_phase_end(moe::Phase phase) override { seen += std::string("-") + moe::phase_name(phase); }
};

}  // namespace

TEST_CASE("an observer hears of the phases", "[neuron_layer]") {
    Draw draw(11);
    const Case<float> test(draw, middle);
    Phases phases;
    moe::ForwardOptions<float> options;
    options.observer = &phases;
    (void)forward(test.layer(), std::vector<float>(37), std::vector<float>(37), moe::SerialExecutor{}, options);
    CHECK(phases.seen == "+logits-logits+gating-gating+hidden-hidden+output-output");
}

TEST_CASE("shapes that disagree are refused, both named", "[neuron_layer][errors]") {
    const std::vector<float> memory(1000, 0.5F);
    const auto m = [&](std::size_t rows, std::size_t cols) { return moe::view(memory.data(), rows, cols); };
    const auto router = [&](std::size_t rows, std::size_t heads) {
        return error_of([&] { (void)moe::ProductKeyRouter(m(rows, 6), heads); }).text;
    };
    CHECK(router(10, 2) == "ProductKeyRouter: 10 rows are not two halves for each of 2 heads");
    CHECK(router(10, 0) == "ProductKeyRouter: 10 rows are not two halves for each of 0 heads");
    CHECK(error_of([&] { (void)moe::ProductKeyRouter(m(11, 6), m(12, 3), 2); }).text ==
          "ProductKeyRouter: the queries are 11 x 6 and the keys 12 x 3, but 2 heads of two halves need 12 rows of "
          "queries");
    const auto layer = [&](std::size_t down, std::size_t up, std::size_t cols, int top_k) {
        return error_of([&] {
                   (void)moe::NeuronLayer(moe::ProductKeyRouter(m(6, 6), 1), moe::ProductKeys{top_k}, m(down, 6),
                                          m(up, cols));
               })
            .text;
    };
    CHECK(layer(9, 8, 6, 1) == "NeuronLayer: down is 9 x 6 and up is 8 x 6; both must be n_experts x d_model");
    CHECK(layer(9, 9, 5, 1) == "NeuronLayer: down is 9 x 6 and up is 9 x 5; both must be n_experts x d_model");
    CHECK(layer(4, 4, 6, 1) == "NeuronLayer: the router's halves of 3 keys choose among 9 experts, but there are 4");
    CHECK(layer(9, 9, 6, 10) == "ProductKeys: top_k is 10, it must lie in 1..9, the number of experts");

    const moe::NeuronLayer good(moe::ProductKeyRouter(m(6, 6), 1), moe::ProductKeys{2}, m(9, 6), m(9, 6));
    std::vector<float> y(100, 3.0F);
    moe::Workspace workspace;
    const auto call = [&](std::size_t rows, std::size_t cols, const moe::ForwardOptions<float>& options = {}) {
        return error_of([&] {
                   good.forward(m(2, 6), moe::view(y.data(), rows, cols), workspace, moe::SerialExecutor{}, options);
               })
            .text;
    };
    CHECK(call(3, 6) == "NeuronLayer: x is 2 x 6 and y is 3 x 6, both must be n_tokens x 6");
    CHECK(call(2, 5) == "NeuronLayer: x is 2 x 6 and y is 2 x 5, both must be n_tokens x 6");
    moe::ForwardOptions<float> options;
    options.router_input = m(2, 7);
    CHECK(call(2, 6, options) ==
          "NeuronLayer: the router input is 2 x 7, it must be 2 x 6 as the tokens and the router's weights are");
    options = {};
    const std::vector<std::uint8_t> valid(3, 1);
    options.valid = valid;
    CHECK(call(2, 6, options) == "NeuronLayer: 3 flags of valid tokens for 2 tokens");
    CHECK(error_of([&] {
              good.forward(moe::view(std::as_const(y).data(), 2, 6), moe::view(y.data() + 3, 2, 6), workspace);
          }).code == moe::ErrorCode::layout);
    CHECK(y == std::vector<float>(100, 3.0F));
}

}  // namespace moe_test::neuron_layer_test
