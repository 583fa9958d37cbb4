#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "support/catch.hpp"

#include "../../benchmarks/compare/output/output.hpp"
#include "made_up_report.hpp"
#include "shown_table.hpp"

namespace moe_test::compare_output_test {

using namespace compare;
using namespace shown;

namespace {

using Json = nlohmann::ordered_json;
using Record = std::map<std::string, std::string>;

/// Records of RFC 4180, by the names in the first.
std::vector<Record> read_csv(const std::string& text) {
    std::vector<std::vector<std::string>> lines(1, {""});
    bool quoted = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        std::string& cell = lines.back().back();
        if (quoted && text[i] == '"' && i + 1 < text.size() && text[i + 1] == '"') {
            cell += text[++i];
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else if (!quoted && text[i] == ',') {
            lines.back().emplace_back();
        } else if (!quoted && text[i] == '\n') {
            lines.push_back({""});
        } else {
            cell += text[i];
        }
    }
    REQUIRE(lines.back() == std::vector<std::string>{""});  // the last line ends as well
    std::vector<Record> records;
    for (std::size_t i = 1; i + 1 < lines.size(); ++i) {
        REQUIRE(lines[i].size() == lines[0].size());
        for (std::size_t j = 0; j < lines[i].size(); ++j) {
            records.resize(i);
            records[i - 1][lines[0][j]] = lines[i][j];
        }
    }
    return records;
}

/// What a CSV cell must be for a value of the JSON.
std::string csv_text(const Json& value) {
    if (value.is_string()) {
        return value.get<std::string>();
    }
    if (value.is_array()) {
        std::string text;
        for (const Json& each : value) {
            text += (text.empty() ? "" : " ") + csv_text(each);
        }
        return text;
    }
    return value.is_null() ? "" : value.dump();
}

/// The same text, or the same number.
bool same(const std::string& cell, const Json& value) {
    if (value.is_number()) {
        char* end = nullptr;
        const double read = std::strtod(cell.c_str(), &end);
        return !cell.empty() && *end == '\0' && same_double(read, value.get<double>());
    }
    if (value.is_array() && !value.empty()) {
        std::istringstream words(cell);
        std::string word;
        return std::ranges::all_of(value, [&](const Json& each) { return words >> word && same(word, each); }) &&
               !(words >> word);
    }
    return cell == csv_text(value);
}

}  // namespace

TEST_CASE("the JSON has every figure of the report, to the bit, in a fixed order") {
    for (const Report& report : {made_up_report(), awkward_report()}) {
        const Json json = Json::parse(to_json(report));
        std::vector<std::string> names;
        for (const auto& part : json.items()) {
            names.push_back(part.key());
        }
        CHECK(names == std::vector<std::string>{"context", "speed", "balance", "quality", "collapse", "trained",
                                                "training", "cost_machine", "cost_models", "cost"});
        REQUIRE(json["speed"].size() == report.speed.size());
        for (std::size_t i = 0; i < report.speed.size(); ++i) {
            const SpeedRow& row = report.speed[i];
            const Json& read = json["speed"][i];
            CHECK(read.size() == 18);
            CHECK(read["tokens"] == row.tokens);
            CHECK(read["noisy"] == row.noisy);
            for (const auto& [key, value] : {std::pair{"seconds_min", row.seconds.min},
                                             {"seconds_median", row.seconds.median},
                                             {"seconds_p95", row.seconds.p95},
                                             {"route_seconds", row.route_seconds},
                                             {"dispatch_seconds", row.dispatch_seconds},
                                             {"hidden_seconds", row.hidden_seconds},
                                             {"output_seconds", row.output_seconds},
                                             {"tokens_per_second", row.tokens_per_second},
                                             {"speedup_active", row.speedup_active},
                                             {"speedup_total", row.speedup_total},
                                             {"active_experts", row.active_experts},
                                             {"load_min", row.load_min},
                                             {"load_median", row.load_median},
                                             {"load_max", row.load_max}}) {
                CAPTURE(i, key);
                CHECK(same_double(read[key].get<double>(), value));
            }
        }
    }
}

TEST_CASE("the JSON has the balance, the quality and the collapse of the report") {
    for (const Report& report : {made_up_report(), awkward_report()}) {
        const Json json = Json::parse(to_json(report));
        REQUIRE(json["balance"].size() == report.balance.size());
        for (std::size_t i = 0; i < report.balance.size(); ++i) {
            const BalanceRow& row = report.balance[i];
            const Json& read = json["balance"][i];
            CHECK(read.size() == 14);
            CHECK(read["layer"] == row.layer);
            CHECK(read["tokens"] == row.tokens);
            CHECK(read["experts"] == row.experts);
            CHECK(read["load"].get<std::vector<double>>() == row.load);
            for (const auto& [key, value] : {std::pair{"max_violation", row.max_violation},
                                             {"variation", row.variation},
                                             {"gini", row.gini},
                                             {"entropy", row.entropy},
                                             {"dead", row.dead},
                                             {"dropped", row.dropped},
                                             {"experts_per_token", row.experts_per_token},
                                             {"confidence", row.confidence}}) {
                CAPTURE(i, key);
                CHECK(same_double(read[key].get<double>(), value));
            }
        }
        REQUIRE(json["quality"].size() == report.quality.size());
        for (std::size_t i = 0; i < report.quality.size(); ++i) {
            const QualityRow& row = report.quality[i];
            const Json& read = json["quality"][i];
            CHECK(read.size() == 5);
            CHECK((read["nll"] == row.nll && read["compute"] == row.compute && read["dropped"] == row.dropped));
            CHECK(read["causal"] == row.causal);
        }
        REQUIRE(json["collapse"].size() == report.collapse.size());
        for (std::size_t i = 0; i < report.collapse.size(); ++i) {
            const CollapseRow& row = report.collapse[i];
            const Json& read = json["collapse"][i];
            CHECK(read.size() == 8);
            CHECK((read["run"] == row.run && read["step"] == row.step && read["variation"] == row.variation));
            CHECK((read["max_violation"] == row.max_violation && read["loss"] == row.loss));
            CHECK((read["effective"] == row.effective && read["router_norm"] == row.router_norm));
            CHECK(read["load"].get<std::vector<double>>() == row.load);
        }
    }
}

TEST_CASE("the CSV has the rows and columns of the JSON") {
    for (const Report& report : {made_up_report(), awkward_report(), costs_report(), Report{}}) {
        const Json json = Json::parse(to_json(report));
        const std::vector<Record> records = read_csv(to_csv(report));
        std::size_t at = 0;
        for (const auto& part : json.items()) {
            for (const Json& row : part.value()) {
                REQUIRE(at < records.size());
                const Record& record = records[at];
                CAPTURE(part.key(), at);
                CHECK(record.at("section") == part.key());
                for (const auto& [key, cell] : record) {
                    CAPTURE(key, cell);
                    CHECK((key == "section" || (row.contains(key) ? same(cell, row[key]) : cell.empty())));
                }
                for (const auto& member : row.items()) {
                    CHECK(record.contains(member.key()));
                }
                ++at;
            }
        }
        CHECK(at == records.size());
    }
}

TEST_CASE("names keep their bytes where these are UTF-8") {
    const Json json = Json::parse(to_json(awkward_report()));
    std::vector<std::string> names;
    for (const Json& row : json["quality"]) {
        names.push_back(row["strategy"]);
    }
    CHECK(names[0] == awkward_report().quality[0].strategy);
    CHECK(names[1] == awkward_report().quality[1].strategy);
    CHECK(names[2] == awkward_report().quality[2].strategy);
    CHECK(names[3] == "not utf-8: \xEF\xBF\xBD( \xEF\xBF\xBD end");
    CHECK(names[4] == awkward_report().quality[4].strategy);
    CHECK(json["context"][2]["name"] == "cpu");  // a name may stand twice
}

TEST_CASE("figures that are not finite are null and empty") {
    Report report;
    report.quality.push_back({"a", std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()});
    const Json row = Json::parse(to_json(report))["quality"][0];
    CHECK((row["nll"].is_null() && row["compute"].is_null() && row["dropped"] == 0.0));
    const Record record = read_csv(to_csv(report)).at(0);
    CHECK((record.at("nll").empty() && record.at("compute").empty() && record.at("dropped") == "0"));
    CHECK(cells(block(table(report), "quality"), "a") == std::vector<std::string>{"-", "-", "0%", "yes"});
}

TEST_CASE("the table has the speed of the JSON, by shape and tokens") {
    const std::string text = table(made_up_report());
    const Json json = Json::parse(to_json(made_up_report()));
    std::size_t noisy = 0;
    for (const Json& row : json["speed"]) {
        const std::size_t tokens = row["tokens"];
        const std::string heading = "speed: " + row["shape"].get<std::string>() + ", " + std::to_string(tokens) +
                                    (tokens == 1 ? " token" : " tokens");
        CAPTURE(heading, row["strategy"]);
        const std::vector<std::string> lines = block(text, heading);
        CHECK(lines.size() == 2 + 14);
        const std::vector<std::string> shown = cells(lines, row["strategy"]);
        REQUIRE(shown.size() == 12);
        std::size_t i = 0;
        CHECK((shown[0].back() == '~') == row["noisy"].get<bool>());
        noisy += row["noisy"].get<bool>() ? 1U : 0U;
        for (const char* const key : {"seconds_median", "seconds_min", "seconds_p95"}) {
            check_shown(shown[i++], 1e3 * row[key].get<double>());
        }
        check_shown(shown[i++], row["tokens_per_second"]);
        for (const char* const key : {"route_seconds", "dispatch_seconds", "hidden_seconds", "output_seconds"}) {
            check_shown(shown[i++], 1e3 * row[key].get<double>());
        }
        for (const char* const key : {"speedup_active", "speedup_total", "active_experts"}) {
            check_shown(shown[i++], row[key]);
        }
    }
    CHECK(noisy > 0);
    CHECK(text.find("~ the calls scatter") != std::string::npos);
    CHECK(table(Report{{}, {SpeedRow{}}, {}, {}, {}, {}, {}, {}}).find('~') == std::string::npos);
}

TEST_CASE("the table has the balance as means over the layers, the quality and the ends of the collapse") {
    const std::string text = table(made_up_report());
    const Json json = Json::parse(to_json(made_up_report()));
    for (const char* const input : {"tiny-mixtral", "zipf", "one-hot"}) {
        for (const Json& quality : json["quality"]) {
            const std::string strategy = quality["strategy"];
            std::map<std::string, double> sums;
            double worst = 0;
            double rows = 0;
            for (const Json& row : json["balance"]) {
                if (row["input"] == input && row["strategy"] == strategy) {
                    for (const char* const key : {"max_violation", "variation", "gini", "entropy", "dead"}) {
                        sums[key] += row[key].get<double>();
                    }
                    worst = std::max(worst, row["max_violation"].get<double>());
                    ++rows;
                }
            }
            CAPTURE(input, strategy);
            const std::vector<std::string> shown = cells(block(text, "balance: " + std::string(input)), strategy);
            REQUIRE(shown.size() == 10);
            CHECK(shown[0] == (rows == 4 ? "4" : "-"));
            check_shown(shown[1], sums["max_violation"] / rows);
            check_shown(shown[2], worst);
            check_shown(shown[3], sums["variation"] / rows);
            check_shown(shown[4], sums["gini"] / rows);
            check_shown(shown[5], sums["entropy"] / rows);
            check_shown(shown[6], sums["dead"] / rows);
        }
    }
    for (const Json& row : json["quality"]) {
        const std::vector<std::string> shown = cells(block(text, "quality"), row["strategy"]);
        REQUIRE(shown.size() == 4);
        CHECK(std::abs(std::stod(shown[0]) - row["nll"].get<double>()) <= 0.5001e-4);
        check_shown(shown[1], 100 * row["compute"].get<double>());
        check_shown(shown[2], 100 * row["dropped"].get<double>());
        CHECK(shown[3] == (row["causal"].get<bool>() ? "yes" : "no"));
    }
    for (const Json& row : json["collapse"]) {
        if (row["step"] == 0 || row["step"] == 79) {
            const auto lines = block(text, "collapse: " + row["run"].get<std::string>());
            const std::vector<std::string> shown = cells(lines, std::to_string(row["step"].get<int>()) + " ");
            REQUIRE(shown.size() == 6);
            check_shown(shown[0], row["loss"]);
            check_shown(shown[1], row["max_violation"]);
            check_shown(shown[2], row["variation"]);
            check_shown(shown[3], row["effective"]);
            check_shown(shown[4], row["router_norm"]);
            check_shown(shown[5], 100 * std::ranges::max(row["load"].get<std::vector<double>>()));
        }
    }
}

TEST_CASE("the table of an awkward report has one line a row and nothing that moves the cursor") {
    const std::string text = table(awkward_report());
    CHECK(std::ranges::none_of(
        text, [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7F; }));
    CHECK(text.find("  t\xC3\xB6p-\xE2\x82\x82 \xE5\xB0\x82\xE5\xAE\xB6  ") != std::string::npos);
    CHECK(text.find("speed: constructor, 1 token\n") != std::string::npos);
    CHECK(table(Report{}).empty());
}

}  // namespace moe_test::compare_output_test
