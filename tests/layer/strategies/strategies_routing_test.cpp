#include <algorithm>
#include <cstddef>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "layer/isolation.hpp"
#include "layer/strategies/strategy_layer.hpp"
#include "support/catch.hpp"

namespace moe_test::strategies_routing_test {

/// What every strategy makes of padding, of tokens that are spoilt and of sizes at the edge.

namespace {

using moe_test::Hangs;
using moe_test::Strategy;
using moe_test::StrategyBench;

/// All tokens valid (then empty), some, or none.
std::vector<std::uint8_t> random_mask(moe_test::Draw& draw, std::size_t n_tokens) {
    std::vector<std::uint8_t> valid;
    const std::size_t kind = draw.size(0, 5);
    for (std::size_t t = 0; t < n_tokens && kind > 0; ++t) {
        valid.push_back(kind > 1 && draw.coin() ? 1 : 0);
    }
    return valid;
}

bool is_valid(const std::vector<std::uint8_t>& valid, std::size_t t) { return valid.empty() || valid[t] != 0; }

std::vector<std::size_t> valid_tokens(const std::vector<std::uint8_t>& valid, std::size_t n_tokens) {
    std::vector<std::size_t> tokens;
    for (std::size_t t = 0; t < n_tokens; ++t) {
        if (is_valid(valid, t)) {
            tokens.push_back(t);
        }
    }
    return tokens;
}

/// Empty if the plan is sound and padding has no experts, else what is wrong.
template <class T>
std::string fault(const moe::PlanView<T>& plan, const Strategy& strategy, const std::vector<std::uint8_t>& valid) {
    moe::check_plan(plan);
    for (std::size_t t = 0; t < plan.n_tokens; ++t) {
        const auto experts = plan.experts_of(t);
        const std::string token = "token " + std::to_string(t);
        if (!is_valid(valid, t) && !experts.empty()) {
            return token + " is padding and has experts";
        }
        if (strategy.distinct && std::set(experts.begin(), experts.end()).size() != experts.size()) {
            return token + " has an expert twice";
        }
    }
    return moe_test::all_finite(plan.weights) ? "" : "a weight is not finite";
}

template <class T>
void check_plans(std::uint64_t first_seed) {
    std::size_t n_cases = 0;
    for (std::uint64_t seed = first_seed; n_cases < 3000; ++seed) {
        moe_test::Draw draw(seed);
        const StrategyBench<T> bench(moe_test::routing_shape(draw.size(1, 70), draw.size(1, 12)), draw.size(0, 40),
                                     seed);
        for (const Strategy& strategy : bench.strategies.all()) {
            const std::vector<std::uint8_t> valid = random_mask(draw, bench.batch.n_tokens());
            auto options = bench.options();
            options.valid = valid;
            INFO("seed " << seed << ", " << strategy.name);
            const moe::RoutingPlan<T> plan = bench.route(strategy, options);
            REQUIRE(plan.view().n_tokens == bench.batch.n_tokens());
            REQUIRE(fault(plan.view(), strategy, valid) == "");
            ++n_cases;
        }
    }
}

/// The rows of `tokens`, one after the other.
template <class T>
std::vector<T> rows_of(const StrategyBench<T>& bench, const std::vector<T>& y, const std::vector<std::size_t>& tokens) {
    std::vector<T> rows;
    for (const std::size_t t : tokens) {
        const std::span<const T> row = bench.row(y, t);
        rows.insert(rows.end(), row.begin(), row.end());
    }
    return rows;
}

template <class T>
void check_padding() {
    for (std::uint64_t seed = 0; seed < 25; ++seed) {
        moe_test::Draw draw(seed);
        const moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 20, 9);
        StrategyBench<T> bench(shape, draw.size(1, 30), seed);
        std::vector<std::uint8_t> valid(bench.batch.n_tokens());
        std::generate(valid.begin(), valid.end(), [&] { return draw.size(0, 2) > 0 ? 1 : 0; });
        const std::vector<std::size_t> tokens = valid_tokens(valid, valid.size());
        auto options = bench.options();
        options.valid = valid;
        for (const Strategy& strategy : bench.strategies.all()) {
            INFO("seed " << seed << ", " << strategy.name);
            const auto layer = bench.layer(strategy);
            const std::vector<T> y = rows_of(bench, bench.forward(layer, options), tokens);
            const moe_test::Batch<T> clean = bench.batch;
            for (std::size_t t = 0; t < valid.size(); ++t) {
                std::fill_n(bench.batch.x.begin() + static_cast<std::ptrdiff_t>(t * bench.batch.d_model),
                            valid[t] != 0 ? 0 : bench.batch.d_model, std::numeric_limits<T>::quiet_NaN());
            }
            REQUIRE(moe_test::same_bits(rows_of(bench, bench.forward(layer, options), tokens), y));
            bench.batch = clean;
            if (strategy.ignores_padding) {
                moe::Workspace workspace;
                REQUIRE(moe_test::same_bits(
                    moe_test::run_tokens(layer, bench.batch, tokens, false, workspace, moe::SerialExecutor{}), y));
            }
        }
    }
}

/// A spoilt token leaves the bits of the others alone, or, where they hang on it, finite.
template <class T>
void check_spoilt(const StrategyBench<T>& bench, const Strategy& strategy, moe_test::Draw& draw) {
    const auto layer = bench.layer(strategy);
    const std::size_t n_tokens = bench.batch.n_tokens();
    moe::Workspace workspace;
    const auto run = [&](const moe_test::Batch<T>& batch) {
        return moe_test::run_tokens(layer, batch, moe_test::first_tokens(n_tokens), true, workspace,
                                    moe::SerialExecutor{});
    };
    const std::vector<T> clean = run(bench.batch);
    for (const double special : moe_test::specials) {
        const std::size_t bad = draw.size(0, n_tokens - 1);
        const std::size_t at = draw.size(0, bench.batch.d_model - 1);
        INFO(special << " in token " << bad);
        if (strategy.hangs != Hangs::on_batch) {
            REQUIRE(moe_test::disturbed(layer, bench.batch, bad, at, static_cast<T>(special), false, clean) == 0);
        } else {
            moe_test::Batch<T> batch = bench.batch;
            batch.x[bad * batch.d_model + at] = static_cast<T>(special);
            const std::vector<T> y = run(batch);
            for (std::size_t t = 0; t < n_tokens; ++t) {
                REQUIRE((t == bad || moe_test::all_finite(bench.row(y, t))));
            }
        }
    }
}

template <class T>
void check_edges(std::size_t n_experts, std::size_t n_tokens) {
    const StrategyBench<T> bench(moe_test::routing_shape(n_experts), n_tokens, n_experts + n_tokens);
    const std::vector<std::uint8_t> padding(n_tokens, 0);
    auto padded = bench.options();
    padded.valid = padding;
    for (const Strategy& strategy : bench.strategies.all()) {
        INFO(n_experts << " experts, " << n_tokens << " tokens, " << strategy.name);
        CHECK(moe_test::all_finite(bench.forward(strategy)));
        const auto plan = bench.route(strategy, bench.options());
        CHECK(fault(plan.view(), strategy, {}) == "");
        CHECK(bench.forward(bench.layer(strategy), padded) == std::vector<T>(bench.batch.x.size(), T(0)));
        const auto of_padding = bench.route(strategy, padded);
        CHECK(of_padding.view().n_assignments() == 0);
    }
}

}  // namespace

TEST_CASE("the plans of every strategy hold their invariants, and padding has no experts", "[strategies]") {
    check_plans<float>(1000);
    check_plans<double>(2000);
}

TEST_CASE("padding changes nothing for other tokens, whatever stands in it, whether it is there or not",
          "[strategies]") {
    check_padding<float>();
    check_padding<double>();
}

TEST_CASE("NaN or infinity in a token spoils no other, under any strategy", "[strategies]") {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        moe_test::Draw draw(seed);
        const moe_test::LayerShape shape = moe_test::random_layer_shape(draw, 20, 7);
        const std::size_t n_tokens = draw.size(2, 20);
        const StrategyBench<float> narrow(shape, n_tokens, seed);
        const StrategyBench<double> wide(shape, n_tokens, seed);
        for (std::size_t s = 0; s < narrow.strategies.all().size(); ++s) {
            INFO("seed " << seed << ", " << narrow.strategies.all()[s].name);
            check_spoilt(narrow, narrow.strategies.all()[s], draw);
            check_spoilt(wide, wide.strategies.all()[s], draw);
        }
    }
}

TEST_CASE("no tokens, nothing but padding, one expert: every strategy has an answer", "[strategies]") {
    for (const std::size_t n_experts : {1U, 2U, 4U, 7U}) {
        for (const std::size_t n_tokens : {0U, 1U, 9U}) {
            check_edges<float>(n_experts, n_tokens);
            check_edges<double>(n_experts, n_tokens);
        }
    }
}

}  // namespace moe_test::strategies_routing_test
