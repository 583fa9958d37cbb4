#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/reference/backward/layer/latent.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/counting_allocator.hpp"
#include "support/executors.hpp"
#include "train/gradient_memory.hpp"

namespace moe_test::latent_gradients_test {

namespace {

using moe::ErrorCode;

struct Shape {
    LayerShape inner;
    std::size_t d_model;
    std::size_t d_router;
    std::vector<std::size_t> shared_widths;
    bool biases;
};

/// A layer, tokens, gradients, and the same in double.
template <class T>
struct Case {
    using Bank = moe::ExpertBank<T, moe::AnyForm>;

    Shape shape;
    std::size_t n;
    GateMemory gate_memory;
    ReferenceCase<T> inner;
    RuntimeChoice gate;
    std::vector<T> in, in_bias, out, out_bias, x, read, dy, dx, y;
    std::vector<BankWeights<T>> shared_weights;
    std::vector<T> d_in, d_in_bias, d_out, d_out_bias, d_router, d_router_bias, d_read, d_constants, d_mixes;
    std::vector<T> d_inner_bias;
    BankGradients<T> experts;
    std::vector<BankGradients<T>> shared_experts;
    moe::LatentGradients<T> to;
    moe::LatentTape<T> tape;
    moe::Workspace workspace;
    moe::ForwardOptions<T> options;

    Case(Draw& draw, const Shape& the_shape, std::size_t n_tokens, bool own_input)
        : shape(the_shape),
          n(n_tokens),
          inner(draw, shape.inner, shape.d_router),
          gate(random_choice(draw, shape.inner.n_choices(), gate_memory)),
          in(random_elements<T>(draw, d_latent() * shape.d_model, 1)),
          in_bias(random_elements<T>(draw, shape.biases ? d_latent() : 0, 1)),
          out(random_elements<T>(draw, d_latent() * shape.d_model, 1)),
          out_bias(random_elements<T>(draw, shape.biases ? shape.d_model : 0, 1)),
          x(random_elements<T>(draw, n * shape.d_model, 1)),
          read(random_elements<T>(draw, own_input ? n * shape.d_router : 0, 1)),
          dy(random_elements<T>(draw, n * shape.d_model, 1)),
          y(n * shape.d_model) {
        for (const std::size_t width : shape.shared_widths) {
            shared_weights.emplace_back(draw, 1, shape.d_model, width, shape.inner.form.gated(), shape.biases);
        }
        shared_experts.resize(shared_weights.size());
        if (own_input) {
            options.router_input = moe::view(std::as_const(read).data(), n, shape.d_router);
        }
        clear();
    }
    Case(const Case&) = delete;
    Case& operator=(const Case&) = delete;

    [[nodiscard]] std::size_t d_latent() const { return shape.inner.d_model; }
    [[nodiscard]] std::vector<Bank> shared_banks() const {
        std::vector<Bank> banks;
        for (const BankWeights<T>& weights : shared_weights) {
            banks.emplace_back(shape.inner.form, weights.stacks());
        }
        return banks;
    }
    [[nodiscard]] auto layer() const {
        const std::size_t d = shape.d_model;
        return moe::LatentLayer{
            moe::Linear<T>(moe::stacked(in.data(), 1, d_latent(), d), std::span<const T>(in_bias)),
            moe::MoELayer{inner.router(gate), inner.bank(), inner.options()},
            moe::Linear<T>(moe::stacked(out.data(), 1, d, d_latent()), std::span<const T>(out_bias)),
            shared_weights.empty() ? moe::SharedExperts<Bank>() : moe::SharedExperts<Bank>(shared_banks())};
    }
    using Layer = decltype(std::declval<const Case&>().layer());

    void clear() {
        const std::size_t d = shape.d_model;
        to.in = gradient_stack(d_in, 1, d_latent(), d);
        to.out = gradient_stack(d_out, 1, d, d_latent());
        d_in_bias.assign(in_bias.size(), T(0));
        to.in_bias = d_in_bias;
        d_out_bias.assign(out_bias.size(), T(0));
        to.out_bias = d_out_bias;
        to.inner.router = gradient_stack(d_router, 1, shape.inner.n_choices(), shape.d_router);
        d_router_bias.assign(shape.inner.n_choices(), T(0));
        to.inner.router_bias = d_router_bias;
        d_read.assign(read.size(), T(0));
        to.inner.router_input = moe::view(d_read.data(), read.empty() ? 0 : n, shape.d_router);
        to.inner.experts = experts.over(inner.bank());
        d_inner_bias.assign(d_latent(), T(0));
        to.inner.output_bias = d_inner_bias;
        const auto options_of_inner = inner.options();
        const auto& null = options_of_inner.null_experts;
        d_constants.assign(null.constants.rows() * d_latent(), T(0));
        d_mixes.assign(null.mixes.rows() * d_latent(), T(0));
        to.inner.constants = moe::view(d_constants.data(), null.constants.rows(), d_latent());
        to.inner.mixes = moe::view(d_mixes.data(), null.mixes.rows(), d_latent());
        to.shared.clear();
        const auto banks = shared_banks();
        for (std::size_t s = 0; s < banks.size(); ++s) {
            to.shared.push_back(shared_experts[s].over(banks[s]));
        }
        dx.assign(n * d, T(7));
    }
    template <class Any, class E = moe::SerialExecutor>
    void forward(const Any& any, std::size_t from, std::size_t count, const E& executor = {}) {
        const std::size_t d = shape.d_model;
        moe::forward(any, moe::view(std::as_const(x).data() + from * d, count, d),
                     moe::view(y.data() + from * d, count, d), tape, workspace, executor, options);
    }
    template <class Any, class E = moe::SerialExecutor>
    void backward(const Any& any, std::size_t from, std::size_t count, const E& executor = {},
                  const moe::BackwardOptions& how = {}) {
        const std::size_t d = shape.d_model;
        moe::backward(any, tape, moe::view(std::as_const(dy).data() + from * d, count, d),
                      moe::view(dx.data() + from * d, count, d), to, workspace, executor, how);
    }
    template <class Any, class E = moe::SerialExecutor>
    void run(const Any& any, const E& executor = {}, const moe::BackwardOptions& how = {}) {
        forward(any, 0, n, executor);
        backward(any, 0, n, executor, how);
    }
    [[nodiscard]] std::vector<T> all() const {
        std::vector<T> result = dx;
        for (const std::vector<T>* part : {&d_in, &d_in_bias, &d_out, &d_out_bias, &d_router, &d_router_bias, &d_read,
                                           &d_constants, &d_mixes, &d_inner_bias}) {
            result.insert(result.end(), part->begin(), part->end());
        }
        experts.append_to(result);
        for (const BankGradients<T>& shared : shared_experts) {
            shared.append_to(result);
        }
        return result;
    }

    [[nodiscard]] reference::Latent definition() const {
        reference::Latent result{to_vector(in),  to_vector(in_bias),  inner.definition(),
                                 to_vector(out), to_vector(out_bias), {}};
        result.inner.rule = rule_of(gate);
        const auto banks = shared_banks();
        for (const Bank& bank : banks) {
            result.shared.push_back(reference_expert(bank, shape.inner.form, 0));
        }
        return result;
    }
    /// Whether rounding may decide who goes where.
    [[nodiscard]] bool is_decided() const {
        const reference::Latent latent = definition();
        const std::vector<T>& input = read.empty() ? x : read;
        for (std::size_t t = 0; t < n; ++t) {
            const auto logits = reference::router_logits(
                latent.inner, to_vector(std::span(input).subspan(t * shape.d_router, shape.d_router)));
            if (!moe_test::is_decided(latent.inner.rule, logits,
                                      static_cast<double>(std::numeric_limits<T>::epsilon()))) {
                return false;
            }
        }
        return true;
    }
    [[nodiscard]] GradientError compare() const {
        const reference::LatentGradients expected =
            reference::backward(definition(), to_vector(x), to_vector(read.empty() ? x : read), to_vector(dy));
        GradientError error;
        reference::Vector of_x = expected.x;
        if (read.empty()) {
            reference::add_scaled(of_x, 1, expected.inner.router_input);
        }
        error.compare(dx, of_x);
        error.compare(d_read, read.empty() ? reference::Vector{} : expected.inner.router_input);
        error.compare(d_in, expected.in);
        error.compare(d_in_bias, expected.in_bias);
        error.compare(d_out, expected.out);
        error.compare(d_out_bias, expected.out_bias);
        error.compare(d_router, expected.inner.router);
        if (!expected.inner.router_bias.empty()) {
            error.compare(d_router_bias, expected.inner.router_bias);
        }
        if (!expected.inner.output_bias.empty()) {
            error.compare(d_inner_bias, expected.inner.output_bias);
        }
        const auto joined = [](const std::vector<reference::Vector>& rows) {
            reference::Vector all_rows;
            for (const reference::Vector& row : rows) {
                all_rows.insert(all_rows.end(), row.begin(), row.end());
            }
            return all_rows;
        };
        error.compare(d_constants, joined(expected.inner.constants));
        error.compare(d_mixes, joined(expected.inner.mixes));
        experts.compare(error, expected.inner.experts);
        for (std::size_t s = 0; s < shared_experts.size(); ++s) {
            shared_experts[s].compare(error, {expected.shared[s]});
        }
        return error;
    }
};

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
