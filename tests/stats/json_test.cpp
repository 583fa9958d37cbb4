#include <moe/stats/json.hpp>

#include <nlohmann/json.hpp>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "stats/record.hpp"
#include "support/catch.hpp"

namespace moe_test::json_test {

namespace {

using Json = nlohmann::json;
using Counts = std::vector<std::uint64_t>;
using Record = moe_test::HandRecord<float>;

/// The same double, or null for none.
bool holds(const Json& json, double value) {
    return std::isfinite(value) ? json.is_number() && json.get<double>() == value : json.is_null();
}

}  // namespace

TEST_CASE("numbers in JSON read back as they were, and what is none becomes null", "[stats]") {
    const auto again = [](double value) { return Json::parse(moe::detail::json_value(value)); };
    for (const double value : {0.0, -0.0, 0.1, 1.0 / 3, -2e-300, 1e300, 5e-324, 123456789012345678.0}) {
        CHECK(holds(again(value), value));
    }
    CHECK(again(std::numeric_limits<double>::quiet_NaN()).is_null());
    CHECK(again(std::numeric_limits<double>::infinity()).is_null());
    CHECK(again(-std::numeric_limits<double>::infinity()).is_null());
    const std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    CHECK(Json::parse(moe::detail::json_value(most)).get<std::uint64_t>() == most);
    CHECK(moe::detail::json_value(true) == "true");
    CHECK(moe::detail::json_value(Counts{}) == "[]");
    CHECK(moe::detail::json_value(Counts{1, 2}) == "[1,2]");
    CHECK(moe::detail::JsonObject().text() == "{}");
}

TEST_CASE("RouterStats as JSON", "[stats]") {
    moe::RouterStats<float> stats(3, {.n_logits = 3});
    Record record(3, {{0, 1}, {0, moe::dropped(2)}, {0}}, {{0.7F, 0.3F}, {1, 0}, {0.9F}});
    record.logits = {1, 2, 3, 4, 5, 6, 7, 8, 10};
    stats.on_plan(record.view());
    const Json json = Json::parse(moe::to_json(stats));
    CHECK(json.size() == 23);
    CHECK(json["n_experts"] == 3);
    CHECK(json["n_passes"] == 1);
    CHECK(json["n_tokens"] == 3);
    CHECK(json["n_padding"] == 0);
    CHECK(json["n_assignments"] == 4);
    CHECK(json["n_drops"] == 1);
    CHECK(json["load"] == Counts{3, 1, 0});
    CHECK(json["experts_per_token"] == Counts{0, 2, 1, 0});
    CHECK(json["drops_by_slot"] == Counts{0, 1, 0});
    CHECK(json["drops_by_expert"] == Counts{0, 0, 1});
    CHECK(holds(json["drop_rate"], 0.2));
    CHECK(holds(json["mean_experts_per_token"], 4.0 / 3));
    CHECK(holds(json["routed_share"], 1));
    CHECK(holds(json["mean_largest_weight"], stats.mean_largest_weight()));
    CHECK(holds(json["mean_pass_violation"], stats.mean_pass_violation()));
    CHECK(holds(json["worst_pass_violation"], 1.25));
    CHECK(holds(json["padding_efficiency"], 4.0 / 12));
    CHECK(holds(json["mean_gate_entropy"], stats.mean_gate_entropy()));
    CHECK(holds(json["mean_top_probability"], stats.mean_top_probability()));
    CHECK(holds(json["mean_selected_mass"], stats.mean_selected_mass()));
    CHECK(holds(json["mean_selection_margin"], stats.mean_selection_margin()));
    CHECK(json["drift"].is_null());
    CHECK(json["load_summary"] == Json::parse(moe::to_json(moe::load_summary(stats.load()))));
    CHECK(Json::parse(moe::to_json(moe::RouterStats<float>(2)))["drop_rate"].is_null());
}

TEST_CASE("a load as JSON", "[stats]") {
    const moe::LoadSummary load = moe::load_summary(Counts{6, 1, 3, 2, 0});
    const Json json = Json::parse(moe::to_json(load));
    CHECK(json.size() == 16);
    CHECK(json["n_experts"] == 5);
    CHECK(json["dead_experts"] == 1);
    CHECK(holds(json["total"], 12));
    CHECK(holds(json["min"], 0));
    CHECK(holds(json["median"], 2));
    CHECK(holds(json["max"], 6));
    CHECK(holds(json["mean"], load.mean));
    CHECK(holds(json["variation"], load.variation));
    CHECK(holds(json["max_violation"], load.max_violation));
    CHECK(holds(json["avg_violation"], load.avg_violation));
    CHECK(holds(json["min_violation"], load.min_violation));
    CHECK(holds(json["entropy"], load.entropy));
    CHECK(holds(json["effective_experts"], load.effective_experts));
    CHECK(holds(json["gini"], load.gini));
    CHECK(holds(json["top_share"], 0.5));
    CHECK(holds(json["bottom_share"], 0));
    CHECK(Json::parse(moe::to_json(moe::load_summary(Counts{0, 0})))["gini"].is_null());
}

TEST_CASE("pairs and classes as JSON", "[stats]") {
    const Record record(2, {{0, 1}, {1}});
    moe::CoActivation<float> pairs(2);
    pairs.on_plan(record.view());
    CHECK(Json::parse(moe::to_json(pairs)) == Json({{"n_experts", 2}, {"counts", {{1, 1}, {1, 2}}}}));
    moe::Specialisation<float> by_class(2, 3);
    const std::vector<std::int32_t> classes{2, 0};
    by_class.set_classes(classes);
    by_class.on_plan(record.view());
    const Json json = Json::parse(moe::to_json(by_class));
    CHECK(json.size() == 5);
    CHECK(json["n_classes"] == 3);
    CHECK(json["n_experts"] == 2);
    CHECK(json["tokens"] == Counts{1, 0, 1});
    CHECK(json["counts"] == Json({{0, 1}, {0, 0}, {1, 1}}));
    CHECK(holds(json["information"], by_class.information()));
}

TEST_CASE("times as JSON", "[stats]") {
    moe::LatencyHistogram times;
    for (int i = 1; i <= 100; ++i) {
        times.add(std::chrono::microseconds(i));
    }
    const Json json = Json::parse(moe::to_json(times));
    CHECK(json.size() == 8);
    CHECK(json["count"] == 100);
    CHECK(holds(json["total"], times.total()));
    CHECK(holds(json["mean"], times.mean()));
    CHECK(holds(json["min"], times.shortest()));
    CHECK(holds(json["p50"], times.quantile(0.5)));
    CHECK(holds(json["p95"], times.quantile(0.95)));
    CHECK(holds(json["p99"], times.quantile(0.99)));
    CHECK(holds(json["max"], times.longest()));
    moe::PhaseTimer<float> timer;
    timer.on_phase_begin(moe::Phase::hidden);
    timer.on_phase_end(moe::Phase::hidden);
    const Json phases = Json::parse(moe::to_json(timer));
    CHECK(phases.size() == 6);
    CHECK(phases["hidden"]["count"] == 1);
    for (const char* name : {"logits", "gating", "plan", "output", "pass"}) {
        CHECK(phases[name]["count"] == 0);
        CHECK(phases[name]["p99"].is_null());
    }
}

TEST_CASE("costs as JSON", "[stats]") {
    const moe::CostModel model({.n_layers = 2, .n_experts = 4, .experts_per_token = 2, .d_model = 3, .d_ff = 5},
                               {100, 70});
    const Json json = Json::parse(moe::to_json(model));
    CHECK(json.size() == 13);
    CHECK(json["n_layers"] == 2);
    CHECK(json["n_experts"] == 4);
    CHECK(json["d_model"] == 3);
    CHECK(json["d_ff"] == 5);
    CHECK(json["shared_d_ff"] == 0);
    CHECK(json["gated"] == true);
    CHECK(holds(json["experts_per_token"], 2));
    CHECK(holds(json["expert_parameters"], 45));
    CHECK(holds(json["shared_parameters"], 0));
    CHECK(holds(json["router_parameters"], 12));
    CHECK(holds(json["total_parameters"], model.total_parameters()));
    CHECK(holds(json["active_parameters"], model.active_parameters()));
    CHECK(holds(json["flops_per_token"], model.flops_per_token()));
    const moe::BatchCost cost = model.batch(3);
    const moe::MachineLimits machine{.flops_per_second = 1e12, .bytes_per_second = 1e11};
    const Json batch = Json::parse(moe::to_json(cost, machine));
    CHECK(batch.size() == 8);
    CHECK(holds(batch["tokens"], 3));
    CHECK(holds(batch["distinct_experts"], cost.distinct_experts));
    CHECK(holds(batch["flops"], cost.flops));
    CHECK(holds(batch["bytes"], cost.bytes));
    CHECK(holds(batch["compute_seconds"], cost.compute_seconds(machine)));
    CHECK(holds(batch["memory_seconds"], cost.memory_seconds(machine)));
    CHECK(holds(batch["seconds"], cost.seconds(machine)));
    CHECK(holds(batch["tokens_per_second"], cost.tokens_per_second(machine)));
    CHECK(Json::parse(moe::to_json(cost, {}))["seconds"].is_null());
}

}  // namespace moe_test::json_test
