#include <cstddef>
#include <limits>
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

namespace moe_test::backward_calls_test {

/// What the backward pass promises beside its values: bits, errors, memory.
namespace {

using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

constexpr std::size_t d = 37;
constexpr std::size_t d_ff = 70;
constexpr std::size_t n_experts = 5;
constexpr std::size_t n = 41;

moe_test::LayerShape shape() {
    moe_test::LayerShape result;
    result.n_experts = n_experts;
    result.d_model = d;
    result.d_ff = d_ff;
    result.shared_widths = {20};
    result.shared_mode = moe::SharedMode::gated;
    return result;
}

struct Case {
    moe_test::LayerCase<float> layer_case{shape(), 1};
    decltype(layer_case.layer(moe::TokenChoice<>{})) layer =
        layer_case.layer(moe::TokenChoice<>{.top_k = 2, .normalize = true});
    std::vector<float> x, dy, dx, router, gate, up, down, shared_gate;
    moe::LayerGradients<float> to;
    moe::Workspace workspace;
    moe::Tape<float> tape;

    Case() {
        moe_test::Draw draw(2);
        x = moe_test::random_elements<float>(draw, n * d, 1);
        dy = moe_test::random_elements<float>(draw, n * d, 1);
        dx.assign(n * d, 7.0F);
        clear();
    }
    Case(const Case&) = delete;
    Case& operator=(const Case&) = delete;

    void clear() {
        router.assign(n_experts * d, 0.0F);
        gate.assign(n_experts * d_ff * d, 0.0F);
        up.assign(gate.size(), 0.0F);
        down.assign(gate.size(), 0.0F);
        shared_gate.assign(d, 0.0F);
        to.router = moe::stacked_gradients(router.data(), 1, n_experts, d);
        to.experts.gate = moe::stacked_gradients(gate.data(), n_experts, d_ff, d);
        to.experts.up = moe::stacked_gradients(up.data(), n_experts, d_ff, d);
        to.experts.down = moe::stacked_gradients(down.data(), n_experts, d, d_ff);
        to.shared_gate = moe::stacked_gradients(shared_gate.data(), 1, 1, d);
    }

    /// Tokens [first, first + count).
    void forward(std::size_t first = 0, std::size_t count = n, const moe::ForwardOptions<float>& options = {}) {
        std::vector<float> y(count * d);
        moe::forward(layer, moe::view(std::as_const(x).data() + first * d, count, d), moe::view(y.data(), count, d),
                     tape, workspace, moe::SerialExecutor{}, options);
    }
    template <class E = moe::SerialExecutor>
    void backward(std::size_t first = 0, std::size_t count = n, const E& executor = {},
                  const moe::BackwardOptions& options = {}) {
        moe::backward(layer, tape, moe::view(std::as_const(dy).data() + first * d, count, d),
                      moe::view(dx.data() + first * d, count, d), to, workspace, executor, options);
    }
    [[nodiscard]] std::vector<float> all() const {
        std::vector<float> result = dx;
        for (const std::vector<float>* part : {&router, &gate, &up, &down, &shared_gate}) {
            result.insert(result.end(), part->begin(), part->end());
        }
        return result;
    }
};

}  // namespace

TEST_CASE("gradients have the same bits for any number of threads and any executor", "[gradients]") {
    Case c;
    c.forward();
    c.backward();
    const std::vector<float> expected = c.all();
    for (std::size_t workers = 1; workers <= moe_test::twice_the_threads(); ++workers) {
        for (const bool reversed : {false, true}) {
            c.clear();
            c.dx.assign(n * d, -1.0F);
            c.forward();
            if (reversed) {
                c.backward(0, n, moe_test::ReversedExecutor(workers));
            } else {
                c.backward(0, n, moe_test::ThreadExecutor(workers));
            }
            REQUIRE(moe_test::same_bits(c.all(), expected));
        }
    }
}

TEST_CASE("a batch in pieces, in order, gives the bits of the whole: dx and every parameter", "[gradients]") {
    Case c;
    c.forward();
    c.backward();
    const std::vector<float> expected = c.all();
    for (const std::size_t piece : {1U, 2U, 7U, 20U}) {
        c.clear();
        c.dx.assign(n * d, -1.0F);
        for (std::size_t first = 0; first < n; first += piece) {
            const std::size_t count = std::min<std::size_t>(piece, n - first);
            c.forward(first, count);
            c.backward(first, count);
        }
        INFO("pieces of " << piece);
        REQUIRE(moe_test::same_bits(c.all(), expected));
    }
}

TEST_CASE("padding adds nothing, whatever stands in it, and a NaN stays in its token's dx", "[gradients]") {
    Case c;
    std::vector<std::uint8_t> valid(n, 1);
    valid[3] = valid[n - 1] = 0;
    std::fill_n(c.dy.begin() + 3 * d, d, 0.0F);
    std::fill_n(c.dy.begin() + (n - 1) * d, d, 0.0F);
    c.forward(0, n, {.valid = valid});
    c.backward();
    const std::vector<float> expected = c.all();
    c.clear();
    std::fill_n(c.x.begin() + 3 * d, d, std::numeric_limits<float>::quiet_NaN());
    c.forward(0, n, {.valid = valid});
    c.backward();
    CHECK(moe_test::same_bits(c.all(), expected));

    c.clear();
    c.forward();  // now it is a token like others
    c.backward();
    for (std::size_t t = 0; t < n; ++t) {
        const bool nan = std::isnan(c.dx[t * d]);
        CHECK(nan == (t == 3));
    }
}

TEST_CASE("what is not wanted is not computed, and leaves the rest as it is; dx is added to if asked for",
          "[gradients]") {
    Case c;
    c.forward();
    c.backward();
    const std::vector<float> dx = c.dx;
    const std::vector<float> up = c.up;
    c.clear();
    c.to = {};
    c.to.experts.up = moe::stacked_gradients(c.up.data(), n_experts, d_ff, d);
    c.forward();
    c.backward(0, n, moe::SerialExecutor{}, {.accumulate_dx = true});
    CHECK(moe_test::same_bits(c.up, up));
    CHECK(c.down == std::vector<float>(c.down.size(), 0.0F));
    for (std::size_t i = 0; i < dx.size(); ++i) {
        CHECK(std::abs(c.dx[i] - 2 * dx[i]) <= 1e-5F * (1 + std::abs(dx[i])));
    }
    c.forward();
    std::vector<float> none;
    moe::backward(c.layer, c.tape, moe::view(std::as_const(c.dy).data(), n, d), moe::MatrixView<float>(), c.to,
                  c.workspace);
    c.forward();
    c.backward(0, n, moe::SerialExecutor{}, {.through_router = false});
    CHECK_FALSE(moe_test::same_bits(c.dx, dx));
}

TEST_CASE("a plan that was given: its weights are constants, and are told what they are worth", "[gradients]") {
    Case c;
    moe::RoutingPlan<float> plan;
    c.layer.route(moe::view(std::as_const(c.x).data(), n, d), plan, c.workspace);
    std::vector<float> y(n * d);
    moe::forward(c.layer, moe::view(std::as_const(c.x).data(), n, d), plan, moe::view(y.data(), n, d), c.tape,
                 c.workspace);
    c.to.router = {};
    c.backward();
    const std::vector<float> d_weights(c.tape.d_weights().begin(), c.tape.d_weights().end());
    CHECK(d_weights.size() == 2 * n);
    // against a difference of the weight of one assignment
    moe::PlanView<float> changed = plan;
    std::vector<float> weights(changed.weights.begin(), changed.weights.end());
    const auto loss = [&](float weight) {
        weights[11] = weight;
        changed.weights = weights;
        c.layer.forward(moe::view(std::as_const(c.x).data(), n, d), changed, moe::view(y.data(), n, d), c.workspace);
        double sum = 0;
        for (std::size_t i = 0; i < y.size(); ++i) {
            sum += static_cast<double>(y[i]) * static_cast<double>(c.dy[i]);
        }
        return sum;
    };
    const float weight = weights[11];
    const double difference = (loss(weight + 0.5F) - loss(weight - 0.5F));  // linear in the weight
    CHECK(std::abs(difference - static_cast<double>(d_weights[11])) <= 1e-3 * (1 + std::abs(difference)));
}

TEST_CASE("calls that cannot be are errors before anything is written", "[gradients]") {
    Case c;
    const auto dy = moe::view(std::as_const(c.dy).data(), n, d);
    const auto dx = moe::view(c.dx.data(), n, d);
    const auto refused = [&](auto&& call, ErrorCode code, const std::string& text) {
        const auto error = error_of(call);
        INFO(error.text);
        CHECK(error.code == code);
        CHECK_THAT(error.text, contains(text));
    };
    refused([&] { c.backward(); }, ErrorCode::state, "holds no forward pass");
    c.forward();
    const Case other;
    refused([&] { moe::backward(other.layer, c.tape, dy, dx, c.to, c.workspace); }, ErrorCode::state, "another layer");
    refused(
        [&] { moe::backward(c.layer, c.tape, moe::view(std::as_const(c.dy).data(), n - 1, d), dx, c.to, c.workspace); },
        ErrorCode::shape, "dy is 40 x 37");
    refused([&] { moe::backward(c.layer, c.tape, dy, moe::view(c.dx.data(), n, d - 1), c.to, c.workspace); },
            ErrorCode::shape, "dx is 41 x 36");
    refused([&] { moe::backward(c.layer, c.tape, dy, moe::view(c.dy.data(), n, d), c.to, c.workspace); },
            ErrorCode::layout, "dy");
    refused([&] { moe::backward(c.layer, c.tape, dy, moe::view(c.x.data(), n, d), c.to, c.workspace); },
            ErrorCode::layout, "x");
    moe::LayerGradients<float> wrong;
    wrong.experts.up = moe::stacked_gradients(c.up.data(), n_experts, d, d_ff);
    refused([&] { moe::backward(c.layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::shape,
            "must be 5 x 70 x 37");
    wrong = {};
    wrong.output_bias = std::span<float>(c.up).first(3);
    refused([&] { moe::backward(c.layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::shape, "3 gradients");
    wrong = {};
    wrong.shared.resize(2);
    refused([&] { moe::backward(c.layer, c.tape, dy, dx, wrong, c.workspace); }, ErrorCode::shape, "2 shared experts");
    CHECK(c.dx == std::vector<float>(n * d, 7.0F));
    CHECK(c.up == std::vector<float>(c.up.size(), 0.0F));
    c.backward();  // the tape is as it was
    refused([&] { c.backward(); }, ErrorCode::state, "used up");
}

TEST_CASE("nothing is allocated once tape and workspace have grown", "[gradients]") {
    Case c;
    c.forward();
    c.backward();
    std::vector<float> y(n * d);
    const std::size_t before = moe_test::allocations();
    moe::forward(c.layer, moe::view(std::as_const(c.x).data(), n, d), moe::view(y.data(), n, d), c.tape, c.workspace);
    c.backward();
    CHECK(moe_test::allocations() == before);
}

TEST_CASE("gradients go where transposed, interleaved and separate memory has them", "[gradients]") {
    Case c;
    c.forward();
    c.backward();
    std::vector<float> both(n_experts * d * 2 * d_ff, 0.0F);  // (input, output), gate and up in turn
    std::vector<float> down(n_experts * d * d_ff, 0.0F);
    std::vector<float*> apart;
    for (std::size_t e = n_experts; e-- > 0;) {
        apart.insert(apart.begin(), down.data() + (n_experts - 1 - e) * d * d_ff);  // last expert first
    }
    const auto halves = moe::interleaved(moe::transpose(moe::stacked_gradients(both.data(), n_experts, d, 2 * d_ff)));
    moe::LayerGradients<float> to;
    to.experts.gate = halves.gate;
    to.experts.up = halves.up;
    to.experts.down = moe::separate_gradients(apart, d, d_ff);
    c.forward();
    moe::backward(c.layer, c.tape, moe::view(std::as_const(c.dy).data(), n, d), moe::view(c.dx.data(), n, d), to,
                  c.workspace);
    std::size_t differ = 0;
    for (std::size_t e = 0; e < n_experts; ++e) {
        for (std::size_t i = 0; i < d_ff; ++i) {
            for (std::size_t k = 0; k < d; ++k) {
                const float* const pair = &both[(e * d + k) * 2 * d_ff + 2 * i];
                differ +=
                    pair[0] != c.gate[(e * d_ff + i) * d + k] || pair[1] != c.up[(e * d_ff + i) * d + k] ? 1U : 0U;
                differ += apart[e][k * d_ff + i] != c.down[(e * d + k) * d_ff + i] ? 1U : 0U;
            }
        }
    }
    CHECK(differ == 0);
}

}  // namespace moe_test::backward_calls_test
