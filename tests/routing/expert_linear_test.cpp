#include "moe/routing/expert_linear.hpp"

#include <cstddef>
#include <utility>
#include <vector>

#include "moe/gating/strategies/token_choice.hpp"
#include "moe/reference/layer/layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::expert_linear_test {

namespace reference = moe::reference;
using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

namespace {

template <class W>
double as_double(W value) {
    if constexpr (std::is_same_v<W, float> || std::is_same_v<W, double>) {
        return static_cast<double>(value);
    } else {
        return static_cast<double>(moe::to_float(value));
    }
}

/// Matrices of some experts, a plan of some tokens, and rows to multiply.
template <class W>
struct Case {
    using T = moe::ComputeType<W>;
    std::size_t n_experts, outputs, inputs, n_tokens, per_token;
    std::vector<W> weight, bias;
    std::vector<moe::ExpertId> experts;
    std::vector<T> weights, x, z, y;
    moe::RoutingPlan<T> plan;

    explicit Case(std::uint64_t seed) {
        moe_test::Draw draw(seed);
        n_experts = draw.size(1, 7);
        outputs = draw.size(1, 150);
        inputs = draw.size(1, 90);
        n_tokens = seed % 9 == 0 ? 0 : draw.size(1, 300);
        per_token = draw.size(1, n_experts);
        weight = moe_test::random_elements<W>(draw, n_experts * outputs * inputs, 1);
        bias = moe_test::random_elements<W>(draw, seed % 2 == 0 ? n_experts * outputs : 0, 1);
        for (std::size_t t = 0; t < n_tokens; ++t) {
            const std::size_t first = draw.size(0, n_experts - 1);
            for (std::size_t k = 0; k < per_token; ++k) {  // distinct, in an order of its own; some slots unused
                experts.push_back(draw.size(0, 5) == 0 ? moe::no_expert
                                                       : static_cast<moe::ExpertId>((first + k) % n_experts));
            }
        }
        weights = moe_test::random_elements<T>(draw, experts.size(), 1);
        plan.assign(moe::view(std::as_const(experts).data(), n_tokens, per_token),
                    moe::view(std::as_const(weights).data(), n_tokens, per_token), n_experts);
        const std::size_t n_rows = view().n_assignments();
        x = moe_test::random_elements<T>(draw, n_tokens * inputs, 1);
        z = moe_test::random_elements<T>(draw, n_rows * inputs, 1);
        y = moe_test::random_elements<T>(draw, n_tokens * outputs, 1);
    }

    [[nodiscard]] moe::PlanView<T> view() const { return plan; }
    [[nodiscard]] moe::ExpertLinear<W> layer() const {
        const auto stack = moe::stacked(weight.data(), n_experts, outputs, inputs);
        return bias.empty() ? moe::ExpertLinear<W>(stack)
                            : moe::ExpertLinear<W>(stack, moe::view(bias.data(), n_experts, outputs));
    }

    /// The product of expert e and a row, by plain loops in double.
    [[nodiscard]] reference::Vector product(std::size_t e, const T* row) const {
        reference::Vector matrix;
        reference::Vector offset;
        for (std::size_t i = 0; i < outputs * inputs; ++i) {
            matrix.push_back(as_double(weight[e * outputs * inputs + i]));
        }
        for (std::size_t o = 0; o < outputs && !bias.empty(); ++o) {
            offset.push_back(as_double(bias[e * outputs + o]));
        }
        return reference::linear(matrix, offset, reference::Vector(row, row + inputs), outputs);
    }

    [[nodiscard]] std::vector<T> project(const moe::ExpertLinear<W>& layer, std::size_t workers) const {
        std::vector<T> rows(view().n_assignments() * outputs, T(7));
        moe::Workspace workspace;
        layer.project(moe::view(x.data(), n_tokens, inputs), view(),
                      moe::view(rows.data(), view().n_assignments(), outputs), workspace,
                      moe_test::ThreadExecutor(workers));
        return rows;
    }
    [[nodiscard]] std::vector<T> combine(const moe::ExpertLinear<W>& layer, std::size_t workers,
                                         bool accumulate) const {
        std::vector<T> sums = y;
        moe::Workspace workspace;
        layer.combine(moe::view(z.data(), view().n_assignments(), inputs), view(),
                      moe::view(sums.data(), n_tokens, outputs), workspace, moe_test::ThreadExecutor(workers),
                      accumulate);
        return sums;
    }
};

template <class W>
void check(std::uint64_t seed) {
    using T = moe::ComputeType<W>;
    const Case<W> c(seed);
    const moe::PlanView<T> plan = c.view();
    reference::Vector rows;
    reference::Vector sums(c.y.size(), 0.0);
    for (std::size_t t = 0; t < c.n_tokens; ++t) {
        for (std::size_t a = plan.token_offsets[t]; a < plan.token_offsets[t + 1]; ++a) {
            const auto e = static_cast<std::size_t>(plan.experts[a]);
            const reference::Vector row = c.product(e, &c.x[t * c.inputs]);
            rows.insert(rows.end(), row.begin(), row.end());
            const reference::Vector out = c.product(e, &c.z[a * c.inputs]);
            for (std::size_t o = 0; o < c.outputs; ++o) {
                sums[t * c.outputs + o] += static_cast<double>(plan.weights[a]) * out[o];
            }
        }
    }
    const auto bound = [&](std::size_t terms) {
        return moe_test::rounding_bound<T>(c.inputs + terms + 2,
                                           static_cast<double>(c.inputs + 1) * static_cast<double>(terms));
    };
    const moe::ExpertLinear<W> layer = c.layer();
    const moe::ExpertLinear<W> packed = layer.packed();
    INFO("seed " << seed << ": " << c.n_experts << " of " << c.outputs << " x " << c.inputs << ", " << c.n_tokens
                 << " tokens");
    const std::vector<T> projected = c.project(layer, 1);
    const std::vector<T> combined = c.combine(layer, 1, false);
    REQUIRE(moe_test::difference(projected, rows, bound(1)) == "");
    REQUIRE(moe_test::difference(combined, sums, bound(c.per_token)) == "");
    for (const std::size_t workers : {1U, 3U}) {
        REQUIRE(moe_test::same_bits(c.project(packed, workers), projected));
        REQUIRE(moe_test::same_bits(c.combine(packed, workers, false), combined));
    }
    std::vector<T> added = c.combine(layer, 2, true);
    for (std::size_t i = 0; i < added.size(); ++i) {
        sums[i] += static_cast<double>(c.y[i]);
    }
    REQUIRE(moe_test::difference(added, sums, bound(c.per_token + 1)) == "");
}

}  // namespace

TEST_CASE("projections and weighted sums are those of plain loops", "[expert_linear]") {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        check<float>(seed);
        check<double>(seed);
        check<moe::bfloat16>(seed);
    }
    check<moe::float16>(3);
}

TEST_CASE("a token's rows do not depend on its batch", "[expert_linear]") {
    const Case<float> c(21);
    const moe::ExpertLinear<float> layer = c.layer();
    const std::vector<float> all = c.combine(layer, 1, false);
    const moe::PlanView<float> plan = c.view();
    for (const std::size_t t : {std::size_t{0}, c.n_tokens / 2, c.n_tokens - 1}) {
        moe::RoutingPlan<float> alone;
        alone.assign(moe::view(&c.experts[t * c.per_token], 1, c.per_token),
                     moe::view(&c.weights[t * c.per_token], 1, c.per_token), c.n_experts);
        const std::size_t first = plan.token_offsets[t];
        const std::size_t count = plan.token_offsets[t + 1] - first;
        std::vector<float> y(c.outputs);
        moe::Workspace workspace;
        layer.combine(moe::view(c.z.data() + first * c.inputs, count, c.inputs), alone,
                      moe::view(y.data(), 1, c.outputs), workspace);
        CHECK(
            moe_test::same_bits(y, std::vector<float>(all.begin() + static_cast<std::ptrdiff_t>(t * c.outputs),
                                                      all.begin() + static_cast<std::ptrdiff_t>((t + 1) * c.outputs))));
    }
}

TEST_CASE("JetMoE's attention: one plan, two banks, a stage of the user's between", "[expert_linear]") {
    // queries of 3 of each token's experts, doubled, and brought back by matrices that undo the first
    const std::size_t d = 4;
    std::vector<float> in(2 * d * d, 0.0F);
    std::vector<float> out(2 * d * d, 0.0F);
    for (std::size_t i = 0; i < d; ++i) {
        in[i * d + i] = 1;
        in[d * d + i * d + i] = 2;
        out[i * d + i] = 1;
        out[d * d + i * d + i] = 0.5F;
    }
    const std::vector<moe::ExpertId> experts{1, 0, 0, moe::no_expert};
    const std::vector<float> weights{0.25F, 0.75F, 1, 0};
    moe::RoutingPlan<float> plan;
    plan.assign(moe::view(experts.data(), 2, 2), moe::view(weights.data(), 2, 2), 2);
    const std::vector<float> x{1, 2, 3, 4, 5, 6, 7, 8};
    std::vector<float> rows(3 * d);
    std::vector<float> y(2 * d);
    moe::Workspace workspace;
    moe::ExpertLinear<float>(moe::stacked(std::as_const(in).data(), 2, d, d))
        .project(moe::view(x.data(), 2, d), plan, moe::view(rows.data(), 3, d), workspace);
    CHECK(rows == std::vector<float>{2, 4, 6, 8, 1, 2, 3, 4, 5, 6, 7, 8});
    moe::ExpertLinear<float>(moe::stacked(std::as_const(out).data(), 2, d, d))
        .combine(moe::view(std::as_const(rows).data(), 3, d), plan, moe::view(y.data(), 2, d), workspace);
    CHECK(y == x);
}

TEST_CASE("what does not fit is named before anything is written", "[expert_linear]") {
    Case<float> c(2);
    const moe::ExpertLinear<float> layer = c.layer();
    const std::size_t n_rows = c.view().n_assignments();
    std::vector<float> rows(n_rows * c.outputs, 7.0F);
    moe::Workspace workspace;
    const auto x = moe::view(std::as_const(c.x).data(), c.n_tokens, c.inputs);
    const auto y = moe::view(rows.data(), n_rows, c.outputs);
    CHECK(error_of([&] {
              layer.project(x, c.view(), moe::view(rows.data(), n_rows - 1, c.outputs), workspace);
          }).code == ErrorCode::shape);
    CHECK(error_of([&] {
              layer.project(moe::view(std::as_const(c.x).data(), c.n_tokens, c.inputs - 1), c.view(), y, workspace);
          }).code == ErrorCode::shape);
    moe::PlanView<float> other = c.view();
    other.n_experts += 1;
    const auto of_plan = error_of([&] { layer.project(x, other, y, workspace); });
    CHECK(of_plan.code == ErrorCode::shape);
    CHECK_THAT(of_plan.text, contains("the plan is for"));
    CHECK(error_of([&] {
              layer.combine(x, c.view(), moe::view(c.weight.data(), c.n_tokens, c.outputs), workspace);
          }).code == ErrorCode::shape);
    CHECK(error_of([] { (void)moe::ExpertLinear<float>(moe::WeightStack<float>()); }).code == ErrorCode::missing);
    const std::vector<float> bias(3);
    CHECK(error_of([&] {
              (void)moe::ExpertLinear<float>(moe::stacked(c.weight.data(), 1, 2, 1), moe::view(bias.data(), 1, 3));
          }).code == ErrorCode::shape);
    CHECK(rows == std::vector<float>(rows.size(), 7.0F));
    moe::ExpertLinear<float> moved = c.layer();
    const moe::ExpertLinear<float> taken(std::move(moved));
    CHECK(error_of([&] { moved.project(x, c.view(), y, workspace); }).code == ErrorCode::state);  // NOLINT
}

}  // namespace moe_test::expert_linear_test
