// What the comparison of routing strategies times: its inputs, the check of results, the rows.
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "support/catch.hpp"

#include "../../benchmarks/compare/speed.hpp"
#include "../../benchmarks/compare/speed_arms.hpp"
#include "../../benchmarks/compare/speed_check.hpp"
#include "../../benchmarks/compare/speed_input.hpp"
#include "../../benchmarks/input.hpp"

namespace moe_test::compare_speed_test {

using namespace compare;

TEST_CASE("Inputs for speed give the router the logits of their distribution") {
    const bench::Shape& shape = *bench::find_shape("tiny");
    const std::vector<float> router = bench::random_normal(11, 0, shape.n_experts * shape.d_model);
    const std::vector<std::size_t> tokens{3, 20};
    const SpeedInput input(moe::view(router.data(), shape.n_experts, shape.d_model), Distribution::zipf, tokens, 4);
    const std::vector<float> wanted = random_logits(Distribution::zipf, 40, shape.n_experts, moe::random_bits(4, 1));
    REQUIRE(input.batches(20) == 2);
    for (std::size_t t = 0; t < 40; ++t) {
        const auto x = input.x(20, t / 20).row_span(t % 20);
        for (std::size_t e = 0; e < shape.n_experts; ++e) {
            const float* row = router.data() + e * shape.d_model;
            const float logit = std::inner_product(x.begin(), x.end(), row, 0.0F);
            REQUIRE(std::abs(logit - wanted[t * shape.n_experts + e]) < 1e-3F);
        }
    }
    REQUIRE(input.x(3, 0).row(0) == input.x(20, 0).row(0));
    REQUIRE(input.ids(20, 1).size() == 20);
}

TEST_CASE("The check of what is timed notices a wrong weight, a wrong expert and a wrong network") {
    const bench::Shape& shape = *bench::find_shape("tiny");
    const bench::Threads threads(1);
    const SpeedBank bank({shape.n_experts, shape.d_model, shape.d_ff, expert_group}, moe::Compute::exact, threads);
    const std::vector<float> x_values = bench::random_normal(5, 0, 3 * shape.d_model);
    const auto x = moe::view(x_values.data(), 3, shape.d_model);
    std::vector<moe::ExpertId> experts{1, 4, 0, 2, 7, moe::no_expert};
    std::vector<float> weights{0.5F, 0.5F, 0.25F, 0.75F, 1.0F, 0.0F};
    const auto plan_of = [&] {
        moe::RoutingPlan<float> plan;
        plan.assign(moe::view(std::as_const(experts).data(), 3, 2), moe::view(std::as_const(weights).data(), 3, 2),
                    shape.n_experts);
        return plan;
    };
    const moe::MoELayer layer{moe::Router(shape.n_experts, moe::Dense<moe::Uniform>{}), bank.experts()};
    std::vector<float> y_values(3 * shape.d_model);
    const auto y = moe::view(y_values.data(), 3, shape.d_model);
    moe::Workspace workspace;
    moe::RoutingPlan<float> plan = plan_of();
    layer.forward(x, plan, y, workspace);
    SpeedCheck check(shape, threads);
    check.begin(x);
    REQUIRE_NOTHROW(check.check_layer("right", plan, y));
    weights[1] = 0.501F;
    plan = plan_of();
    REQUIRE_THROWS_AS(check.check_layer("weight", plan, y), moe::Error);
    weights[1] = 0.5F;
    experts[4] = 6;
    plan = plan_of();
    REQUIRE_THROWS_AS(check.check_layer("expert", plan, y), moe::Error);
    experts[4] = 7;
    y(2, shape.d_model - 1) = std::nanf("");
    plan = plan_of();
    REQUIRE_THROWS_AS(check.check_layer("NaN", plan, y), moe::Error);

    const DenseArm dense("dense", {1, shape.d_model, 2 * shape.d_ff, active_group}, threads);
    dense.run({x, {}, y}, workspace, threads, nullptr);
    REQUIRE_NOTHROW(check.check_dense("right", 2 * shape.d_ff, active_group, y));
    REQUIRE_THROWS_AS(check.check_dense("group", 2 * shape.d_ff, total_group, y), moe::Error);
}

TEST_CASE("A strategy of more tokens than it has batches is timed in all its phases") {
    const bench::Shape& shape = *bench::find_shape("tiny");
    std::vector<const Strategy*> all;
    for (const Strategy& strategy : strategies()) {
        all.push_back(&strategy);
    }
    const std::vector<std::size_t> tokens{2, 33};
    SpeedSession session(shape, {all, tokens, Distribution::one_hot, 1, true}, bench::Threads(1));
    Progress progress(1);
    for (const std::size_t n : tokens) {
        const std::vector<SpeedRow> rows = session.measure(n, progress);
        REQUIRE(rows.size() >= all.size());
        for (const SpeedRow& row : rows) {
            REQUIRE(row.tokens == n);
            REQUIRE((0 < row.seconds.min && row.seconds.min <= row.seconds.median &&
                     row.seconds.median <= row.seconds.p95));
            REQUIRE(row.speedup_total > 0);
            if (row.strategy == dense_active) {
                REQUIRE(row.speedup_active == 1.0);
            } else if (row.strategy == dense_total) {
                REQUIRE(row.speedup_total == 1.0);
            } else {
                REQUIRE(row.hidden_seconds > 0);
                REQUIRE(row.output_seconds > 0);
                REQUIRE(row.dispatch_seconds > 0);
                REQUIRE(row.route_seconds > 0);
                REQUIRE((1 <= row.active_experts && row.active_experts <= 8));
                REQUIRE((row.load_min <= row.load_median && row.load_median <= row.load_max));
            }
        }
    }
}

}  // namespace moe_test::compare_speed_test
