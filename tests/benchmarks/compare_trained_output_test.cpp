// Trained strategies and the steps of their trainings in table, JSON and CSV.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/catch.hpp"

#include "../../benchmarks/compare/output/output.hpp"
#include "made_up_report.hpp"
#include "shown_table.hpp"

namespace moe_test::compare_trained_output_test {

using namespace compare;
using namespace shown;

namespace {

using Json = nlohmann::ordered_json;

/// Whether `read` is `value`, or null where that is not finite.
bool same_figure(const Json& read, double value) {
    return std::isfinite(value) ? read.is_number() && same_double(read.get<double>(), value) : read.is_null();
}

/// What the table writes of nats.
bool shown_nats(const std::string& cell, double value) { return std::abs(std::stod(cell) - value) <= 0.5001e-4; }

}  // namespace

TEST_CASE("the JSON has what was trained, to the bit") {
    for (const Report& report : {made_up_report(), awkward_report()}) {
        const Json json = Json::parse(to_json(report));
        REQUIRE(json["trained"].size() == report.trained.size());
        REQUIRE(!report.trained.empty());
        for (std::size_t i = 0; i < report.trained.size(); ++i) {
            const TrainedRow& row = report.trained[i];
            const Json& read = json["trained"][i];
            CHECK(read.size() == 18);
            CHECK(read["causal"] == row.causal);
            CHECK(read["seeds"] == row.seeds);
            for (const auto& [key, value] : {std::pair{"nll", row.nll},
                                             {"nll_least", row.nll_least},
                                             {"nll_most", row.nll_most},
                                             {"train_nll", row.train_nll},
                                             {"parameters", row.parameters},
                                             {"active_parameters", row.active_parameters},
                                             {"operations", row.operations},
                                             {"seconds", row.seconds},
                                             {"max_violation", row.max_violation},
                                             {"entropy", row.entropy},
                                             {"dead", row.dead},
                                             {"dropped", row.dropped},
                                             {"experts_per_token", row.experts_per_token},
                                             {"router_norm", row.router_norm},
                                             {"expert_norm", row.expert_norm}}) {
                CAPTURE(i, key);
                CHECK(same_figure(read[key], value));
            }
        }
    }
}

TEST_CASE("the JSON has the steps of the trainings, those without held-out text as null") {
    std::size_t unmeasured = 0;
    for (const Report& report : {made_up_report(), awkward_report()}) {
        const Json json = Json::parse(to_json(report));
        REQUIRE(json["training"].size() == report.training.size());
        REQUIRE(!report.training.empty());
        for (std::size_t i = 0; i < report.training.size(); ++i) {
            const TrainingRow& row = report.training[i];
            const Json& read = json["training"][i];
            CHECK(read.size() == 15);
            CHECK(read["seed"] == row.seed);
            CHECK(read["step"] == row.step);
            CHECK(read["load"].get<std::vector<double>>() == row.load);
            for (const auto& [key, value] : {std::pair{"operations", row.operations},
                                             {"seconds", row.seconds},
                                             {"loss", row.loss},
                                             {"nll", row.nll},
                                             {"max_violation", row.max_violation},
                                             {"entropy", row.entropy},
                                             {"dead", row.dead},
                                             {"dropped", row.dropped},
                                             {"experts_per_token", row.experts_per_token},
                                             {"router_norm", row.router_norm},
                                             {"expert_norm", row.expert_norm}}) {
                CAPTURE(i, key);
                CHECK(same_figure(read[key], value));
            }
            unmeasured += read["nll"].is_null() ? 1U : 0U;
        }
    }
    CHECK(unmeasured > 0);
}

TEST_CASE("the table has what was trained, in the order of the report, and marks what is not causal") {
    const std::string text = table(made_up_report());
    const Json json = Json::parse(to_json(made_up_report()));
    const std::vector<std::string> lines = block(text, "trained");
    REQUIRE(lines.size() == 2 + json["trained"].size());
    std::size_t not_causal = 0;
    for (std::size_t i = 0; i < json["trained"].size(); ++i) {
        const Json& row = json["trained"][i];
        const bool causal = row["causal"];
        not_causal += causal ? 0U : 1U;
        const std::string name = row["strategy"].get<std::string>() + (causal ? "" : " *");
        CAPTURE(name);
        CHECK(lines[2 + i].starts_with("  " + name + " "));
        const std::vector<std::string> shown = cells(lines, name);
        REQUIRE(shown.size() == 14);
        CHECK(shown_nats(shown[0], row["nll"]));
        const std::size_t dots = shown[1].find("..");
        REQUIRE(dots != std::string::npos);
        CHECK(shown_nats(shown[1].substr(0, dots), row["nll_least"]));
        CHECK(shown_nats(shown[1].substr(dots + 2), row["nll_most"]));
        CHECK(shown_nats(shown[2], row["train_nll"]));
        std::size_t at = 3;
        for (const auto& [key, factor] : {std::pair{"experts_per_token", 1.0},
                                          {"parameters", 1e-3},
                                          {"active_parameters", 1e-3},
                                          {"operations", 1e-9},
                                          {"seconds", 1.0},
                                          {"max_violation", 1.0},
                                          {"entropy", 1.0},
                                          {"dead", 1.0},
                                          {"dropped", 100.0},
                                          {"router_norm", 1.0},
                                          {"expert_norm", 1.0}}) {
            CAPTURE(key);
            check_shown(shown[at++], factor * row[key].get<double>());
        }
    }
    CHECK(not_causal > 0);
    CHECK(text.find("mean of 3 seeds") != std::string::npos);
    CHECK(text.find("* not causal") != std::string::npos);
}

TEST_CASE("the table of one causal training has one seed and no mark, and that of none has no such part") {
    Report report;
    report.trained.push_back({});
    report.trained[0].strategy = "a";
    report.trained[0].seeds = 1;
    report.trained[0].nll = std::numeric_limits<double>::quiet_NaN();
    const std::string text = table(report);
    const std::vector<std::string> shown = cells(block(text, "trained"), "a");
    REQUIRE(shown.size() == 14);
    CHECK(shown[0] == "-");
    CHECK(shown[1] == "0.0000");
    CHECK(text.find("mean of 1 seed,") != std::string::npos);
    CHECK(text.find('*') == std::string::npos);
    CHECK(table(untrained_report()).find("trained") == std::string::npos);
}

}  // namespace moe_test::compare_trained_output_test
