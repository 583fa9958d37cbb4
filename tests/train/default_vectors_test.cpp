// Default MoE: what experts give to tokens that do not go to them, and what the router hears of it.

#include <moe/reference/layer/default_vectors.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "train/gradient_memory.hpp"

namespace moe_test::default_vectors_test {

namespace reference = moe::reference;

namespace {

using moe::ErrorCode;
using Gate = moe::TokenChoice<>;

constexpr std::size_t d = 7;
constexpr std::size_t d_ff = 5;
constexpr std::size_t n_experts = 6;

/// A layer, tokens and means in double; token 2 is padding.
template <class Form>
struct Case {
    std::size_t n;
    Draw draw{3};
    BankWeights<double> weights;
    std::vector<double> router, x, dy, means, y, dx;
    std::vector<std::uint8_t> valid;
    moe::Tape<double> tape;
    moe::Workspace workspace;

    explicit Case(std::size_t n_tokens, bool biases = true)
        : n(n_tokens),
          weights(draw, n_experts, d, d_ff, Form::gated(), biases),
          router(random_elements<double>(draw, n_experts * d, 1)),
          x(random_elements<double>(draw, n * d, 1)),
          dy(random_elements<double>(draw, n * d, 1)),
          means(random_elements<double>(draw, n_experts * d, 1)),
          y(n * d),
          dx(n * d),
          valid(n, 1) {
        if (n > 2) {
            valid[2] = 0;
        }
    }
    [[nodiscard]] auto layer() const {
        return moe::MoELayer{moe::Router{moe::view(router.data(), n_experts, d), Gate{.top_k = 2}},
                             moe::ExpertBank<double, Form>({}, weights.stacks()),
                             {},
                             moe::LayerOptions<double>{.routed_scale = 1.5}};
    }
    [[nodiscard]] moe::DefaultVectors<double> defaults() {
        return moe::DefaultVectors<double>(moe::view(means.data(), n_experts, d), 0.75, 1.5);
    }
    template <class Layer>
    void forward(const Layer& of) {
        moe::forward(of, moe::view(std::as_const(x).data(), n, d), moe::view(y.data(), n, d), tape, workspace,
                     moe::SerialExecutor{}, {.valid = valid});
    }
    /// <dy, y> with what the others give.
    double loss() {
        const auto of = layer();
        forward(of);
        defaults().add(tape, moe::view(y.data(), n, d));
        double sum = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
            sum += dy[i] * y[i];
        }
        return sum;
    }
    [[nodiscard]] reference::Vector token(std::size_t t) const {
        const auto first = x.begin() + static_cast<std::ptrdiff_t>(t * d);
        return {first, first + static_cast<std::ptrdiff_t>(d)};
    }
    [[nodiscard]] std::vector<reference::Vector> rows_of_means() const {
        std::vector<reference::Vector> rows;
        for (std::size_t e = 0; e < n_experts; ++e) {
            const auto first = means.begin() + static_cast<std::ptrdiff_t>(e * d);
            rows.emplace_back(first, first + static_cast<std::ptrdiff_t>(d));
        }
        return rows;
    }
    [[nodiscard]] reference::Expert expert(std::size_t e, reference::Form form) const {
        const auto part = [e](const std::vector<double>& all) {
            const auto size = static_cast<std::ptrdiff_t>(all.size() / n_experts);
            const auto first = all.begin() + static_cast<std::ptrdiff_t>(e) * size;
            return reference::Vector(first, first + size);
        };
        return {.d_model = d,
                .d_ff = d_ff,
                .form = form,
                .gate = part(weights.gate),
                .up = part(weights.up),
                .down = part(weights.down),
                .gate_bias = part(weights.gate_bias),
                .up_bias = part(weights.up_bias),
                .down_bias = part(weights.down_bias)};
    }
};

template <class Form>
void hold(reference::Form form, bool biases, std::size_t n_tokens) {
    Case<Form> c(n_tokens, biases);
    const auto layer = c.layer();
    c.forward(layer);
    auto defaults = c.defaults();

    std::vector<reference::Vector> expected = c.rows_of_means();
    for (std::size_t e = 0; e < n_experts; ++e) {
        std::vector<reference::Vector> tokens;
        for (const moe::Index t : c.tape.plan().tokens_of(e)) {
            tokens.push_back(c.token(t));
        }
        expected[e] = reference::moved_mean(c.expert(e, form), tokens, 0.75, expected[e]);
    }
    defaults.update(layer, c.tape);
    for (std::size_t e = 0; e < n_experts; ++e) {
        CHECK(difference(c.rows_of_means()[e], expected[e], 1e-13) == "");
    }

    std::vector<double> y = c.y;
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const auto chosen = c.tape.plan().experts_of(t);
        const reference::Vector others = reference::default_output(
            reference::linear(c.router, {}, c.token(t), n_experts), {chosen.begin(), chosen.end()}, expected);
        for (std::size_t i = 0; i < d; ++i) {
            y[t * d + i] += c.valid[t] != 0 ? 1.5 * others[i] : 0;
        }
    }
    defaults.add(c.tape, moe::view(c.y.data(), n_tokens, d));
    CHECK(difference(c.y, y, 1e-12) == "");
}

}  // namespace

TEST_CASE("means and outputs of experts that were not chosen are those of the definition", "[default_vectors]") {
    for (const bool biases : {false, true}) {
        for (const std::size_t n : {0U, 1U, 11U}) {
            hold<moe::Gated<moe::Silu>>(reference::Form::swiglu, biases, n);
            hold<moe::Plain<moe::ReluSquared>>(reference::Form::relu_squared, biases, n);
        }
    }
}

TEST_CASE("the gradient of Default MoE is that of its output", "[default_vectors]") {
    Case<moe::Gated<moe::Silu>> c(9);
    const auto layer = c.layer();
    c.forward(layer);
    auto defaults = c.defaults();
    defaults.add(c.tape, moe::view(c.y.data(), c.n, d));
    std::vector<double> d_router;
    moe::LayerGradients<double> gradients;
    gradients.router = gradient_stack(d_router, 1, n_experts, d);
    const auto dy = moe::view(std::as_const(c.dy).data(), c.n, d);
    defaults.add_gradients(c.tape, dy);
    moe::backward(layer, c.tape, dy, moe::view(c.dx.data(), c.n, d), gradients, c.workspace);
    const std::vector<double> dx = c.dx;

    const auto compare = [&](std::vector<double>& values, const std::vector<double>& d_values) {
        double largest = 0;
        for (const double value : d_values) {
            largest = std::max(largest, std::abs(value));
        }
        REQUIRE(largest > 0.1);
        for (std::size_t i = 0; i < values.size(); ++i) {
            const double at = values[i];
            values[i] = at + 1e-5;
            const double after = c.loss();
            values[i] = at - 1e-5;
            const double before = c.loss();
            values[i] = at;
            INFO("value " << i);
            CHECK(std::abs((after - before) / 2e-5 - d_values[i]) <= 1e-7 * largest);
        }
    };
    compare(c.router, d_router);
    compare(c.x, dx);
}

TEST_CASE("the means of one token are the outputs of its experts, in 16 bits, too", "[default_vectors]") {
    for (const auto kind : {moe::FormKind::swiglu, moe::FormKind::swiglu_oai, moe::FormKind::gelu}) {
        LayerShape shape;
        shape.n_experts = n_experts;
        shape.d_model = d;
        shape.d_ff = 33;
        shape.biases = true;
        shape.form = {.kind = kind, .limit = 7, .alpha = 1.702};
        const LayerCase<moe::bfloat16> memory(shape, 5);
        const auto layer = memory.layer(Gate{.top_k = n_experts});
        Draw draw{6};
        const std::vector<float> x = random_elements<float>(draw, d, 1);
        std::vector<float> y(d);
        std::vector<float> means(n_experts * d, 7.0F);
        moe::Tape<float> tape;
        moe::Workspace workspace;
        moe::forward(layer, moe::view(x.data(), 1, d), moe::view(y.data(), 1, d), tape, workspace);
        moe::DefaultVectors<float> defaults(moe::view(means.data(), n_experts, d), 0);
        defaults.update(layer, tape);
        const std::vector<float> before = y;
        defaults.add(tape, moe::view(y.data(), 1, d));
        defaults.add_gradients(tape, moe::view(x.data(), 1, d));
        CHECK(same_bits(y, before));  // all experts were chosen
        CHECK(tape.d_logits()(0, 0) == 0);
        std::vector<double> sum(d);
        for (std::size_t i = 0; i < n_experts * d; ++i) {
            const auto e = static_cast<std::size_t>(tape.plan().experts[i / d]);
            sum[i % d] += static_cast<double>(tape.plan().weights[i / d] * means[e * d + i % d]);
        }
        CHECK(nmse(y, sum) < 1e-12);
    }
}

TEST_CASE("a NaN stays in its token, whoever is excluded gives nothing", "[default_vectors]") {
    Case<moe::Gated<moe::Silu>> c(4);
    const auto layer = c.layer();
    c.x[3 * d] = std::numeric_limits<double>::quiet_NaN();
    c.forward(layer);
    auto defaults = c.defaults();
    defaults.add(c.tape, moe::view(c.y.data(), c.n, d));
    defaults.add_gradients(c.tape, moe::view(std::as_const(c.dy).data(), c.n, d));
    CHECK(all_finite(std::span(c.y).first(3 * d)));
    CHECK(std::isnan(c.y[3 * d]));
    CHECK(all_finite(std::span(c.tape.d_logits().data(), 3 * n_experts)));
    CHECK(std::isnan(c.tape.d_logits()(3, 0)));
    for (std::size_t e = 0; e < n_experts; ++e) {
        CHECK(c.tape.d_logits()(2, e) == 0);  // padding
    }
}

TEST_CASE("Default MoE refuses what does not fit", "[default_vectors]") {
    Case<moe::Gated<moe::Silu>> c(3);
    const auto layer = c.layer();
    auto defaults = c.defaults();
    const auto y = moe::view(c.y.data(), c.n, d);
    check_refused([&] { defaults.add(c.tape, y); }, ErrorCode::state, "the tape holds no forward pass");
    c.forward(layer);
    const std::vector<double> before = c.y;
    check_refused([&] { defaults.add(c.tape, moe::view(c.y.data(), 2, d)); }, ErrorCode::shape,
                  "y is 2 x 7, the means 6 x 7, x was 3 x 7");
    check_refused([&] { defaults.add(c.tape, moe::view(c.means.data(), c.n, d)); }, ErrorCode::layout, "the means");
    moe::DefaultVectors<double> few(moe::view(c.means.data(), 5, d));
    check_refused([&] { few.add(c.tape, y); }, ErrorCode::shape, "there are 5 means of 6 experts");
    check_refused([&] { few.update(layer, c.tape); }, ErrorCode::shape, "there are 5 means of 6 experts");
    check_refused([&] { (void)moe::DefaultVectors<double>({}, 1.5); }, ErrorCode::range, "decay is 1.5");
    check_refused([&] { (void)moe::DefaultVectors<double>({}, 1, std::nan("")); }, ErrorCode::range, "scale is nan");
    CHECK(same_bits(c.y, before));
    moe::Tape<double> routing(moe::TapeKeeps::routing);
    moe::forward(layer, moe::view(std::as_const(c.x).data(), c.n, d), y, routing, c.workspace);
    check_refused([&] { defaults.update(layer, routing); }, ErrorCode::missing, "the tape kept no products");
    CHECK(c.means == Case<moe::Gated<moe::Silu>>(3).means);
}

}  // namespace moe_test::default_vectors_test
