// The costs of a report in JSON and table; their CSV and JSON are held against each other in compare_output_test.cpp.
#include <algorithm>
#include <cstddef>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/catch.hpp"

#include "../../benchmarks/compare/output/output.hpp"
#include "made_up_report.hpp"
#include "shown_table.hpp"

namespace moe_test::compare_cost_output_test {

using namespace compare;
using namespace shown;
using Json = nlohmann::ordered_json;

TEST_CASE("the JSON has the costs of the report") {
    const Report report = costs_report();
    const Json json = Json::parse(to_json(report));
    REQUIRE(json["cost_machine"].size() == 1);
    const CostMachine& machine = report.cost_machine.front();
    CHECK(json["cost_machine"][0] == Json{{"threads", 2},
                                          {"bytes_per_second", machine.bytes_per_second},
                                          {"flops_per_second", machine.flops_per_second},
                                          {"int8_flops_per_second", machine.int8_flops_per_second},
                                          {"memory_bytes", machine.memory_bytes}});
    REQUIRE(json["cost_models"].size() == report.cost_models.size());
    for (std::size_t i = 0; i < report.cost_models.size(); ++i) {
        const CostModelRow& row = report.cost_models[i];
        const Json& read = json["cost_models"][i];
        CHECK(read.size() == 18);
        CHECK((read["model"] == row.model && read["kind"] == row.kind && read["layers"] == row.layers));
        CHECK((read["experts"] == row.experts && read["d_model"] == row.d_model && read["d_ff"] == row.d_ff));
        CHECK((read["presets"] == row.presets && read["shapes"] == row.shapes && read["note"] == row.note));
        for (const auto& [key, value] : {std::pair{"experts_per_token", row.experts_per_token},
                                         {"total_parameters", row.total_parameters},
                                         {"active_parameters", row.active_parameters},
                                         {"expert_share", row.expert_share},
                                         {"bytes_f32", row.bytes_f32},
                                         {"bytes_bf16", row.bytes_bf16},
                                         {"bytes_f16", row.bytes_f16},
                                         {"bytes_int8", row.bytes_int8},
                                         {"bytes_int4", row.bytes_int4}}) {
            CAPTURE(i, key);
            CHECK(same_double(read[key].get<double>(), value));
        }
    }
    REQUIRE(json["cost"].size() == report.cost.size());
    for (std::size_t i = 0; i < report.cost.size(); ++i) {
        const CostRow& row = report.cost[i];
        const Json& read = json["cost"][i];
        CHECK(read.size() == 18);
        CHECK((read["model"] == row.model && read["kind"] == row.kind && read["format"] == row.format));
        CHECK((read["tokens"] == row.tokens && read["experts"] == row.experts && read["fits"] == row.fits));
        for (const auto& [key, value] : {std::pair{"distinct_experts", row.distinct_experts},
                                         {"bytes_per_token", row.mixture.bytes},
                                         {"flops_per_token", row.mixture.flops},
                                         {"tokens_per_second", row.mixture.tokens_per_second},
                                         {"active_bytes_per_token", row.active.bytes},
                                         {"active_flops_per_token", row.active.flops},
                                         {"active_tokens_per_second", row.active.tokens_per_second},
                                         {"total_bytes_per_token", row.total.bytes},
                                         {"total_flops_per_token", row.total.flops},
                                         {"total_tokens_per_second", row.total.tokens_per_second},
                                         {"speedup_active", row.speedup_active},
                                         {"speedup_total", row.speedup_total}}) {
            CAPTURE(i, key);
            CHECK(same_double(read[key].get<double>(), value));
        }
    }
}

TEST_CASE("the table has the sizes of the JSON, and of its costs those of whole models in bf16") {
    const std::string text = table(costs_report());
    const Json json = Json::parse(to_json(costs_report()));
    const auto shown_name = [](const Json& row) {
        const std::string kind = row["kind"];
        return (kind == "layer"      ? "one layer: "
                : kind == "reported" ? "reported: "
                                     : "") +
               row["model"].get<std::string>();
    };
    const std::vector<std::string> sizes = block(text, "sizes");
    CHECK(sizes.size() == 2 + json["cost_models"].size());
    for (const Json& row : json["cost_models"]) {
        const std::vector<std::string> shown = cells(sizes, shown_name(row));
        CAPTURE(row["model"], shown);
        REQUIRE(shown.size() == 10);
        CHECK(shown[0] == (row["layers"] == 0 ? "-" : row["layers"].dump()));
        CHECK(shown[1] == row["experts"].dump());
        check_shown(shown[2], row["experts_per_token"]);
        std::size_t i = 3;
        for (const char* const key : {"total_parameters", "active_parameters", "bytes_f32", "bytes_bf16", "bytes_f16",
                                      "bytes_int8", "bytes_int4"}) {
            check_shown(shown[i], 1e-9 * row[key].get<double>());
            CHECK((shown[i].back() == '!') == (i > 4 && row[key] > 34e9));
            ++i;
        }
    }
    std::size_t lines = 0;
    for (const Json& row : json["cost"]) {
        const std::size_t tokens = row["tokens"];
        const std::string heading = "cost: bf16, " + std::to_string(tokens) + (tokens == 1 ? " token" : " tokens");
        if (row["format"] != "bf16") {
            continue;
        }
        const std::vector<std::string> shown = cells(block(text, heading), shown_name(row));
        if (row["kind"] == "layer") {
            CHECK(shown.empty());
            continue;
        }
        CAPTURE(heading, row["model"], shown);
        REQUIRE(shown.size() == 11);  // "2.00 of 8" is three words
        check_shown(shown[0], row["distinct_experts"]);
        CHECK((shown[1] == "of" && shown[2] == row["experts"].dump()));
        std::size_t i = 3;
        for (const char* const key : {"bytes_per_token", "active_bytes_per_token", "total_bytes_per_token",
                                      "flops_per_token", "total_flops_per_token"}) {
            check_shown(shown[i++], 1e-9 * row[key].get<double>());
        }
        CHECK((shown[i].back() == '!') != row["fits"].get<bool>());
        for (const char* const key : {"tokens_per_second", "active_tokens_per_second", "total_tokens_per_second"}) {
            check_shown(shown[i++], row[key]);
        }
        ++lines;
    }
    CHECK(text.find("\n  one layer: of a preset") != std::string::npos);
    CHECK(text.find("\n  reported: by others than the maker") != std::string::npos);
    Report published = costs_report();
    published.cost_models.resize(4);
    CHECK(table(published).find("\n  one layer: of a preset") == std::string::npos);
    CHECK(table(published).find("\n  reported: by others than the maker") == std::string::npos);
    CHECK(lines == 15);
    CHECK(text.find("f32, ") == std::string::npos);
}

TEST_CASE("the table of costs shows three numbers of tokens at most, and nothing where there are none") {
    Report report = costs_report();
    std::vector<CostRow> more = report.cost;
    for (CostRow& row : more) {
        row.tokens *= 512;  // 1, 8, 64, 512, 4096, 32768
    }
    report.cost.insert(report.cost.end(), more.begin(), more.end());
    const std::string text = table(report);
    std::vector<std::string> headings;
    for (const char* const tokens : {"1 token", "8 tokens", "64 tokens", "512 tokens", "4096 tokens", "32768 tokens"}) {
        if (!block(text, "cost: bf16, " + std::string(tokens)).empty()) {
            headings.emplace_back(tokens);
        }
    }
    CHECK(headings == std::vector<std::string>{"1 token", "512 tokens", "32768 tokens"});
    CHECK(table(untrained_report()).find("GFLOP") == std::string::npos);
}

TEST_CASE("the lines of a table of costs fit into 120 columns with the longest names there are") {
    const std::string longest(33, 'n');  // "reported: 8 experts, 220 B in all"
    Report report = costs_report();
    for (CostModelRow& row : report.cost_models) {
        row.model = row.model.size() > longest.size() ? longest : row.model;
    }
    for (CostRow& row : report.cost) {
        row.model = row.model.size() > longest.size() ? longest : row.model;
    }
    report.context.clear();
    std::istringstream stream(table(report));
    std::size_t widest = 0;
    for (std::string line; std::getline(stream, line);) {
        widest = std::max(widest, line.size());
    }
    CHECK(widest <= 120);
    CHECK(widest > 100);
}

}  // namespace moe_test::compare_cost_output_test
