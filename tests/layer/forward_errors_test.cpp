#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/gate_cases.hpp"
#include "support/unaligned.hpp"

namespace moe_test::forward_errors_test {

using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

namespace {

constexpr std::size_t d = 6;
constexpr std::size_t n = 20;

moe_test::LayerShape small() {
    moe_test::LayerShape shape;
    shape.n_experts = 4;
    shape.d_model = d;
    shape.d_ff = 5;
    return shape;
}

const moe_test::LayerCase<float> small_case(small(), 1);
const moe::TokenChoice<moe::Softmax> top_2{.top_k = 2};
constexpr float untouched = 7.0F;

/// Calls of one layer that must fail and leave y alone.
template <class Gate>
class Failing {
public:
    explicit Failing(const Gate& gate) : layer_(small_case.layer(gate)) {}

    std::vector<float> x = std::vector<float>(200, 0.5F);
    std::vector<float> y = std::vector<float>(200, untouched);
    moe::ForwardOptions<float> options;

    [[nodiscard]] const auto& layer() const { return layer_; }

    moe_test::CaughtError forward(moe::MatrixView<const float> from, moe::MatrixView<float> to) {
        return checked([&] { layer_.forward(from, to, workspace_, moe_test::ReversedExecutor(2), options); });
    }
    /// Of the right shape.
    moe_test::CaughtError forward() { return forward(x_view(), y_view()); }
    moe_test::CaughtError forward(const moe::PlanView<float>& plan) {
        return checked([&] { layer_.forward(x_view(), plan, y_view(), workspace_, moe::SerialExecutor{}, options); });
    }

    [[nodiscard]] moe::MatrixView<const float> x_view() const { return moe::view(x.data(), n, d); }
    [[nodiscard]] moe::MatrixView<float> y_view() { return moe::view(y.data(), n, d); }

private:
    template <class Call>
    moe_test::CaughtError checked(Call&& call) {
        const moe_test::CaughtError error = error_of(call);
        CHECK(y == std::vector<float>(y.size(), untouched));
        return error;
    }

    decltype(small_case.layer(std::declval<Gate>())) layer_;
    moe::Workspace workspace_;
};

}  // namespace

TEST_CASE("x and y must be of the shape of the layer", "[layer][errors]") {
    Failing call(top_2);
    const auto check = [&](moe::MatrixView<const float> x, moe::MatrixView<float> y, const char* x_is,
                           const char* y_is) {
        const auto error = call.forward(x, y);
        CHECK(error.code == ErrorCode::shape);
        CHECK_THAT(error.text, contains(x_is) && contains(y_is) && contains("n_tokens x 6"));
    };
    const float* const x = call.x.data();
    float* const y = call.y.data();
    check(moe::view(x, 20, 7), moe::view(y, 20, 6), "x is 20 x 7", "y is 20 x 6");
    check(moe::view(x, 20, 6), moe::view(y, 20, 5), "x is 20 x 6", "y is 20 x 5");
    check(moe::view(x, 20, 6), moe::view(y, 19, 6), "x is 20 x 6", "y is 19 x 6");
    check({}, moe::view(y, 20, 6), "x is 0 x 0", "y is 20 x 6");
    check({}, {}, "x is 0 x 0", "y is 0 x 0");
}

TEST_CASE("the layer does not work in place", "[layer][errors]") {
    Failing call(top_2);
    const auto error = call.forward(moe::view(std::as_const(call.y).data(), n, d), call.y_view());
    CHECK(error.code == ErrorCode::layout);
    CHECK_THAT(error.text, contains("in place"));
}

TEST_CASE("x and y that overlap in part are refused", "[layer][errors]") {
    Failing call(top_2);
    const float* const memory = call.y.data();
    for (const std::size_t behind : {std::size_t{1}, d, n / 2 * d - 1}) {
        const auto error = call.forward(moe::view(memory, n / 2, d), moe::view(call.y.data() + behind, n / 2, d));
        CHECK(error.code == ErrorCode::layout);
        CHECK_THAT(error.text, contains("MoELayer: x (10 x 6, row stride 6) and y (10 x 6, row stride 6, ") &&
                                   contains(std::to_string(behind * 4) + " bytes behind it) overlap"));
    }
    // rows of y between the rows of x, with another stride: nothing is shared, but it is not seen
    const auto error = call.forward(moe::view(memory, 4, d, 20), moe::view(call.y.data() + d, 4, d, 16));
    CHECK(error.code == ErrorCode::layout);
    CHECK_THAT(error.text, contains("row stride 20") && contains("row stride 16, 24 bytes behind"));
    moe::Workspace workspace;
    CHECK(error_of([&] {
              (void)call.layer().prepare(moe::view(memory, 4, d), moe::view(call.y.data() + 1, 4, d), workspace, 1);
          }).code == ErrorCode::layout);
}

TEST_CASE("x, y and the router's input may be column windows of one matrix", "[layer]") {
    const auto layer = small_case.layer(top_2);
    std::vector<float> apart(3 * n * d);
    std::vector<float> joined(n * 3 * d);
    for (std::size_t i = 0; i < n * d; ++i) {
        apart[i] = joined[i / d * 3 * d + i % d] = static_cast<float>(i % 17) / 16;
        apart[n * d + i] = joined[i / d * 3 * d + d + i % d] = static_cast<float>(i % 23) / 16;
    }
    moe::Workspace workspace;
    moe::ForwardOptions<float> options;
    options.router_input = moe::view(std::as_const(apart).data() + n * d, n, d);
    layer.forward(moe::view(std::as_const(apart).data(), n, d), moe::view(apart.data() + 2 * n * d, n, d), workspace,
                  moe::SerialExecutor{}, options);
    options.router_input = moe::view(std::as_const(joined).data() + d, n, d, 3 * d);
    layer.forward(moe::view(std::as_const(joined).data(), n, d, 3 * d), moe::view(joined.data() + 2 * d, n, d, 3 * d),
                  workspace, moe::SerialExecutor{}, options);
    for (std::size_t i = 0; i < n * d; ++i) {
        CHECK(joined[i / d * 3 * d + 2 * d + i % d] == apart[2 * n * d + i]);
    }
}

TEST_CASE("y must not overlap the router's input", "[layer][errors]") {
    Failing call(top_2);
    call.options.router_input = moe::view(std::as_const(call.y).data() + 3, n, d);
    const auto error = call.forward();
    CHECK(error.code == ErrorCode::layout);
    CHECK_THAT(error.text, contains("the router input (20 x 6, row stride 6) and y (20 x 6, row stride 6, 12 bytes "
                                    "before it) overlap"));
    moe::RoutingPlan<float> plan;
    moe::Workspace workspace;
    CHECK_NOTHROW(call.layer().route(call.x_view(), plan, workspace, moe::SerialExecutor{}, call.options));
}

TEST_CASE("activations must be aligned to their type", "[layer][errors]") {
    Failing call(top_2);
    const moe_test::Unaligned<float> unaligned(call.x);
    const auto odd = moe::view(unaligned.data(), n, d);
    auto error = call.forward(odd, call.y_view());
    CHECK(error.code == ErrorCode::alignment);
    CHECK_THAT(error.text, contains("x must be aligned to the 4 bytes"));
    error = call.forward(call.x_view(), moe::view(const_cast<float*>(unaligned.data()), n, d));
    CHECK(error.code == ErrorCode::alignment);
    CHECK_THAT(error.text, contains("y must be aligned"));
    call.options.router_input = odd;
    error = call.forward();
    CHECK(error.code == ErrorCode::alignment);
    CHECK_THAT(error.text, contains("router input must be aligned"));
    call.options.router_input = {};
    const moe_test::Unaligned<std::int32_t> ids(std::vector<std::int32_t>(n, 0));
    call.options.token_ids = {ids.data(), n};
    error = call.forward();
    CHECK(error.code == ErrorCode::alignment);
    CHECK_THAT(error.text, contains("MoELayer: token_ids must be aligned to the 4 bytes"));
}

TEST_CASE("the router's input must have a row a token and the width of the router", "[layer][errors]") {
    Failing call(top_2);
    call.options.router_input = moe::view(std::as_const(call.x).data(), n - 1, d);
    auto error = call.forward();
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("19 rows for 20 tokens"));
    call.options.router_input = moe::view(std::as_const(call.x).data(), n, d + 1);
    error = call.forward();
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("7 columns") && contains("weights have 6"));
    moe::RoutingPlan<float> plan;
    moe::Workspace workspace;
    error = error_of([&] { call.layer().route(call.x_view(), plan, workspace, moe::SerialExecutor{}, call.options); });
    CHECK(error.code == ErrorCode::shape);
    CHECK(plan.view().n_tokens == 0);
}

TEST_CASE("token ids must be there when a gate reads them, one a token", "[layer][errors]") {
    const std::vector<std::int32_t> table{0, 1, 2, 3, 3, 2};
    Failing call(moe::Hash<moe::Uniform>{.table = moe::view(table.data(), 3, 2)});
    auto error = call.forward();
    CHECK(error.code == ErrorCode::missing);
    CHECK_THAT(error.text, contains("token ids"));
    std::vector<std::int32_t> ids(n - 1, 0);
    call.options.token_ids = ids;
    error = call.forward();
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("19 token ids for 20 tokens"));
    ids.assign(n, 0);
    ids[17] = 3;
    call.options.token_ids = ids;
    error = call.forward();
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("token id 3") && contains("3 rows"));
}

TEST_CASE("a plan for another shape is refused", "[layer][errors]") {
    Failing call(top_2);
    const std::vector<moe::ExpertId> ids(2 * n + 2, 1);
    const std::vector<float> weights(2 * n + 2, 0.5F);
    const auto plan_of = [&](std::size_t tokens, std::size_t experts) {
        moe::RoutingPlan<float> plan;
        plan.assign(moe::view(ids.data(), tokens, 2), moe::view(weights.data(), tokens, 2), experts);
        return plan;
    };
    const moe::RoutingPlan<float> longer = plan_of(n + 1, 4);
    const moe::RoutingPlan<float> wider = plan_of(n, 5);
    auto error = call.forward(longer);
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("21 tokens and 4 experts") && contains("20 tokens and 4 experts"));
    error = call.forward(wider);
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("20 tokens and 5 experts") && contains("20 tokens and 4 experts"));
    CHECK(call.forward(moe::PlanView<float>{}).code == ErrorCode::shape);
}

TEST_CASE("a plan that breaks its invariants is refused before anything is read through it", "[layer][errors]") {
    Failing call(top_2);
    std::vector<moe::Index> token_offsets(n + 1, 1);
    token_offsets[0] = 0;
    std::vector<moe::ExpertId> experts{3};
    std::vector<float> weights{1};
    std::vector<moe::Index> expert_offsets{0, 0, 0, 0, 1};
    std::vector<moe::Index> tokens{0};
    std::vector<moe::Index> assignments{0};
    const auto plan = [&] {
        return moe::PlanView<float>{n, 4, token_offsets, experts, weights, expert_offsets, tokens, assignments};
    };
    {
        moe::Workspace workspace;
        std::vector<float> y(n * d);
        CHECK_NOTHROW(call.layer().forward(call.x_view(), plan(), moe::view(y.data(), n, d), workspace));
    }
    tokens[0] = 4000000000U;
    CHECK(call.forward(plan()).code == ErrorCode::range);
    tokens[0] = 0;
    assignments[0] = 4000000000U;
    CHECK(call.forward(plan()).code == ErrorCode::range);
    assignments[0] = 0;
    expert_offsets = {0, 4000000000U, 0, 0, 1};
    CHECK(call.forward(plan()).code == ErrorCode::range);
    expert_offsets.pop_back();
    CHECK(call.forward(plan()).code == ErrorCode::range);
}

namespace {

/// A gate that breaks its word for the tokens it can tell: count and expert it gives are the test's.
struct Liar {
    int count = 1;
    moe::ExpertId expert = 0;
    [[nodiscard]] int max_per_token() const { return 2; }
    int select(std::span<const float>, moe::Selection out) const {
        std::fill(out.experts.begin(), out.experts.end(), expert);
        std::fill(out.weights.begin(), out.weights.end(), 1.0F);
        return count;
    }
};

/// A batch gate that announces fewer assignments than it makes.
struct Understated {
    [[nodiscard]] int max_per_token(int, int) const { return 2; }
    [[nodiscard]] int max_assignments(int, int) const { return 5; }
    void select(moe::MatrixView<const float>, moe::BatchSelection<float> out) const {
        for (std::size_t t = 0; t < out.experts.rows(); ++t) {
            out.experts(t, 0) = 0, out.experts(t, 1) = 1;
            out.weights(t, 0) = out.weights(t, 1) = 1.0F;
        }
    }
};

}  // namespace

TEST_CASE("a gate that chooses what cannot be is found before anything is written", "[layer][errors]") {
    for (const int count : {3, -1, std::numeric_limits<int>::max()}) {
        Failing call(Liar{.count = count});
        const auto error = call.forward();
        CHECK(error.code == ErrorCode::range);
        CHECK_THAT(error.text, contains("returned " + std::to_string(count)));
    }
    for (const moe::ExpertId expert : {4, -1, -7, std::numeric_limits<moe::ExpertId>::max()}) {
        Failing call(Liar{.count = 2, .expert = expert});
        const auto error = call.forward();
        CHECK(error.code == ErrorCode::range);
        CHECK_THAT(error.text, contains("expert " + std::to_string(expert)));
    }
    Failing call(Understated{});
    const auto error = call.forward();
    CHECK(error.code == ErrorCode::range);
    CHECK_THAT(error.text, contains("chose 40 assignments") && contains("the 5 it announced"));
}

}  // namespace moe_test::forward_errors_test
