#include <moe/stats/router_stats.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "layer/pass/concurrency.hpp"
#include "stats/record.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::router_stats_test {

namespace {

using Counts = std::vector<std::uint64_t>;
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float inf = std::numeric_limits<float>::infinity();

Counts counts_of(std::span<const std::uint64_t> counts) { return {counts.begin(), counts.end()}; }
bool near(double a, double b) { return std::abs(a - b) <= 1e-6; }

/// 4 experts; of 5 tokens one has no expert, one lost its second choice, one both.
moe_test::HandRecord<float> mixed_record() {
    return {4,
            {{0, 1}, {0, 2}, {0, moe::dropped(2)}, {}, {moe::dropped(3), moe::dropped(2)}},
            {{0.75F, 0.25F}, {0.5F, 0.5F}, {1, 9}, {}, {9, 9}}};
}

}  // namespace

TEST_CASE("RouterStats counts loads, drops and experts a token", "[stats]") {
    moe::RouterStats<float> stats(4);
    stats.on_plan(mixed_record().view());
    CHECK(stats.n_passes() == 1);
    CHECK(stats.n_tokens() == 5);
    CHECK(stats.n_padding() == 0);
    CHECK(stats.n_assignments() == 5);
    CHECK(counts_of(stats.load()) == Counts{3, 1, 1, 0});
    CHECK(counts_of(stats.experts_per_token()) == Counts{2, 1, 2, 0, 0});
    CHECK(stats.n_drops() == 3);
    CHECK(counts_of(stats.drops_by_slot()) == Counts{1, 2, 0, 0});
    CHECK(counts_of(stats.drops_by_expert()) == Counts{0, 0, 2, 1});
    CHECK(stats.drop_rate() == 3.0 / 8);
    CHECK(stats.mean_experts_per_token() == 1);
    CHECK(stats.routed_share() == 3.0 / 5);
    CHECK(stats.mean_largest_weight() == (0.75 + 0.5 + 1) / 3);
    // the greatest load is 3, the mean 5 / 4
    CHECK(near(stats.worst_pass_violation(), 3 / 1.25 - 1));
    CHECK(stats.padding_efficiency() == 5.0 / 18);  // three experts with a tile of 6 rows each
}

TEST_CASE("RouterStats averages over passes what belongs to a pass", "[stats]") {
    moe::RouterStats<float> stats(2, {.tile_rows = 2});
    stats.on_plan(moe_test::HandRecord<float>(2, {{0}, {0}, {0}}).view());  // 3 and 0: violation 1
    stats.on_plan(moe_test::HandRecord<float>(2, {{0}, {1}}).view());       // 0
    stats.on_plan(moe_test::HandRecord<float>(2, {{}, {}}).view());         // not counted
    stats.on_plan(moe_test::HandRecord<float>(2, {}).view());
    CHECK(stats.n_passes() == 4);
    CHECK(stats.mean_pass_violation() == 0.5);
    CHECK(stats.worst_pass_violation() == 1);
    CHECK(moe::max_violation(stats.load()) == 4 / 2.5 - 1);
    CHECK(stats.padding_efficiency() == 5.0 / 8);  // tiles of 2 rows: 2, then 1 and 1
}

TEST_CASE("RouterStats passes over padding, and over weights that are no numbers", "[stats]") {
    moe_test::HandRecord<float> record(3, {{0, 1}, {}, {2, 0}, {1}},
                                       {{not_a_number, 0.25F}, {}, {not_a_number, not_a_number}, {inf}});
    record.valid = {1, 0, 1, 1};
    moe::RouterStats<float> stats(3);
    stats.on_plan(record.view());
    CHECK(stats.n_tokens() == 3);
    CHECK(stats.n_padding() == 1);
    CHECK(counts_of(stats.experts_per_token()) == Counts{0, 1, 2, 0});
    CHECK(stats.routed_share() == 1);
    CHECK(stats.mean_largest_weight() == 0.25);
}

TEST_CASE("RouterStats: what was not counted is not a number", "[stats]") {
    const moe::RouterStats<float> stats(2);
    for (const double value : {stats.drop_rate(), stats.mean_experts_per_token(), stats.routed_share(),
                               stats.mean_largest_weight(), stats.mean_pass_violation(), stats.worst_pass_violation(),
                               stats.padding_efficiency(), stats.mean_gate_entropy(), stats.mean_top_probability(),
                               stats.mean_selected_mass(), stats.mean_selection_margin(), stats.drift()}) {
        CHECK(std::isnan(value));
    }
}

TEST_CASE("RouterStats studies the softmax of the logits", "[stats]") {
    const auto log = [](double x) { return static_cast<float>(std::log(x)); };
    // p = 1/2, 1/4, 1/4 and 1/8, 1/8, 3/4; the second token's choice is not its best
    moe_test::HandRecord<float> record(3, {{0, 1}, {1}, {}, {0}});
    record.logits = {log(2), log(1), log(1), log(1), log(1), log(6), 0, 0, 0, not_a_number, 0, 0};
    moe::RouterStats<float> stats(3, {.n_logits = 3});
    stats.on_plan(record.view());
    const double first = std::log(2) / 2 + std::log(4) / 2;
    const double second = std::log(8) / 4 + std::log(4.0 / 3) * 0.75;
    CHECK(near(stats.mean_gate_entropy(), (first + second + std::log(3)) / 3));
    CHECK(near(stats.mean_top_probability(), (0.5 + 0.75 + 1.0 / 3) / 3));
    CHECK(near(stats.mean_selected_mass(), (0.75 + 0.125 + 0) / 3));
    CHECK(near(stats.mean_selection_margin(), (0 + 0.125 - 0.75) / 2));
}

TEST_CASE("RouterStats: logits of another number than experts have an entropy, but no mass of experts", "[stats]") {
    moe_test::HandRecord<double> record(4, {{0}, {3}});
    record.logits = {0, 0, std::log(2.0), std::log(6.0)};
    moe::RouterStats<double> stats(4, {.n_logits = 2});
    stats.on_plan(record.view());
    CHECK(near(stats.mean_top_probability(), (0.5 + 0.75) / 2));
    CHECK(std::isnan(stats.mean_selected_mass()));
    CHECK(std::isnan(stats.mean_selection_margin()));
    record.logits.clear();  // a given plan: nothing to study
    stats.on_plan(record.view());
    CHECK(stats.n_tokens() == 4);
    CHECK(near(stats.mean_top_probability(), (0.5 + 0.75) / 2));
}

TEST_CASE("RouterStats: drift between two windows", "[stats]") {
    moe::RouterStats<float> stats(3);
    stats.on_plan(moe_test::HandRecord<float>(3, {{0}, {1}, {0}, {1}}).view());
    stats.next_window();
    CHECK(std::isnan(stats.drift()));
    stats.on_plan(moe_test::HandRecord<float>(3, {{0}, {2}}).view());
    CHECK(counts_of(stats.previous_window()) == Counts{2, 2, 0});
    CHECK(stats.current_window() == Counts{1, 0, 1});
    CHECK(stats.drift() == 0.5);  // 1/2, 1/2, 0 against 1/2, 0, 1/2
    stats.next_window();
    CHECK(counts_of(stats.previous_window()) == Counts{1, 0, 1});
    CHECK(stats.current_window() == Counts{0, 0, 0});
    CHECK(counts_of(stats.load()) == Counts{3, 2, 1});
}

TEST_CASE("RouterStats of two threads or machines merge into what one would have counted", "[stats]") {
    const moe_test::HandRecord<float> other(4, {{3}, {3, 2}}, {{1}, {0.25F, 0.5F}});
    moe::RouterStats<float> together(4);
    together.on_plan(mixed_record().view());
    together.on_plan(other.view());
    moe::RouterStats<float> left(4);
    moe::RouterStats<float> right(4);
    left.on_plan(mixed_record().view());
    right.on_plan(other.view());
    moe::RouterStats<float> sent = left;
    left.merge(right);
    sent.merge(right.counters(), right.sums(), right.worst_pass_violation());
    for (const auto* merged : {&left, &sent}) {
        CHECK(counts_of(merged->counters()) == counts_of(together.counters()));
        CHECK(merged->mean_pass_violation() == together.mean_pass_violation());
        CHECK(merged->worst_pass_violation() == together.worst_pass_violation());
        CHECK(merged->mean_largest_weight() == together.mean_largest_weight());
    }
    left.merge(moe::RouterStats<float>(4));  // one that saw nothing changes nothing
    CHECK(counts_of(left.counters()) == counts_of(together.counters()));
    CHECK(left.worst_pass_violation() == together.worst_pass_violation());
    left.reset();
    const moe::RouterStats<float> fresh(4);
    CHECK(counts_of(left.counters()) == counts_of(fresh.counters()));
    CHECK(std::isnan(left.mean_largest_weight()));
    CHECK(std::isnan(left.worst_pass_violation()));
}

TEST_CASE("RouterStats refuses what it was not made for, and counts nothing of it", "[stats]") {
    using Stats = moe::RouterStats<float>;
    CHECK(moe_test::error_of([] { Stats(0); }).text == "RouterStats: there must be at least 1 expert");
    CHECK(moe_test::error_of([] { Stats(2, {.tile_rows = 0}); }).text == "RouterStats: tiles of 0 rows");
    Stats stats(3, {.n_logits = 4});
    const auto plan = moe_test::error_of([&] { stats.on_plan(mixed_record().view()); });
    CHECK(plan.code == moe::ErrorCode::shape);
    CHECK(plan.text == "RouterStats: a plan of 4 experts, this object counts 3");
    moe_test::HandRecord<float> record(3, {{0}});
    record.logits = {1, 2, 3};
    CHECK(moe_test::error_of([&] { stats.on_plan(record.view()); }).text ==
          "RouterStats: 3 logits a token, this object was made for 4");
    CHECK(stats.n_passes() == 0);
    CHECK(moe_test::error_of([&] { stats.merge(Stats(3)); }).text ==
          "RouterStats: to merge 3 experts, 0 logits and tiles of 6 rows with 3, 4 and 6");
    const Stats other(2);
    CHECK(moe_test::error_of([&] { stats.merge(other.counters(), stats.sums(), 0); }).code == moe::ErrorCode::shape);
}

TEST_CASE("RouterStats watches a layer and changes no bit", "[stats]") {
    const moe_test::LayerCase<float> layer_case(moe_test::shared_layer_shape(), 7);
    const auto layer = layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2});
    moe_test::Draw draw(8);
    moe_test::Batch<float> batch(draw, 30, layer.d_model());
    const auto x = moe::view(std::as_const(batch.x).data(), 30, layer.d_model());
    const auto y = moe::view(batch.y.data(), 30, layer.d_model());
    moe::Workspace workspace;
    layer.forward(x, y, workspace);
    const std::vector<float> expected = batch.y;
    moe::RouterStats<float> stats(layer.n_experts(), {.n_logits = layer.n_experts()});
    moe::ForwardOptions<float> options;
    options.observer = &stats;
    layer.forward(x, y, workspace, moe_test::ThreadExecutor(3), options);
    CHECK(moe_test::same_bits(batch.y, expected));
    CHECK(stats.n_tokens() == 30);
    CHECK(stats.n_assignments() == 60);
    CHECK(stats.experts_per_token()[2] == 30);
    CHECK(stats.n_drops() == 0);
    // the weights of this gate are its softmax: the largest is the greatest probability, and nothing is left out above
    CHECK(near(stats.mean_largest_weight(), stats.mean_top_probability()));
    CHECK(stats.mean_selection_margin() > 0);
}

}  // namespace moe_test::router_stats_test
