// usage: check_page DOM JSON: whether DOM, which a browser dumped of a page, shows what is in JSON.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <set>
#include <string>

#include <nlohmann/json.hpp>

#include "dumped_page.hpp"
#include "expected_page.hpp"

namespace {

using Json = nlohmann::json;

int failures = 0;

void check(bool holds, const std::string& what) {
    if (!holds && ++failures <= 20) {
        std::cerr << "FAILED: " << what << '\n';
    }
}

/// A number as the page writes it: "1,234", "5.00", "0.98×", "1.20e-7", "2.4%".
double number_in(std::string text) {
    std::erase(text, ',');
    return std::strtod(text.c_str(), nullptr);
}

/// What a figure is multiplied by where it is shown.
double factor_of(const std::string& section, const std::string& key) {
    const auto contains = [&](const char* part) { return key.find(part) != std::string::npos; };
    if (section == "trained" && contains("parameters")) {
        return 1e-3;
    }
    if (key == "seconds") {
        return 1;
    }
    if (key == "operations") {
        return 1e-9;
    }
    if (key.find("seconds") == 0 || key.ends_with("_seconds")) {
        return 1e3;
    }
    if (contains("bytes") || contains("flops") || key.ends_with("_parameters")) {
        return 1e-9;
    }
    return std::set<std::string>{"dropped", "compute", "expert_share"}.contains(key) ? 100 : 1;
}

void check_number(const std::string& what, const std::string& section, const std::string& key, double value,
                  const dumped::Cell& cell) {
    check(std::strtod(cell.value.c_str(), nullptr) == value, what + " is " + cell.value);
    const bool unknown = std::set<std::string>{"layers", "d_model", "d_ff"}.contains(key) && value == 0;
    if (unknown || (key == "layer" && value < 0) || (key.find("speedup") == 0 && value == 0)) {
        check(cell.shown == "\xE2\x80\x93", what + " is shown as " + cell.shown);  // a dash
        return;
    }
    const double wanted = value * factor_of(section, key);
    // three digits of a figure, all of a count
    const double allowed = std::max(0.0051 * std::abs(wanted), key.find("nll") != std::string::npos ? 5.1e-5 : 1e-300);
    check(std::abs(number_in(cell.shown) - wanted) <= allowed || (std::isinf(wanted) && !cell.shown.empty()),
          what + " is shown as " + cell.shown + " instead of " + std::to_string(wanted));
}

void check_cell(const std::string& what, const std::string& section, const std::string& key, const Json& value,
                const dumped::Cell& cell) {
    if (value.is_null()) {
        check(cell.shown == "\xE2\x80\x93", what + " is shown as " + cell.shown + ", but not known");
    } else if (value.is_string()) {
        check(cell.value == value.get<std::string>() && cell.shown == cell.value, what + " is '" + cell.shown + "'");
    } else if (value.is_boolean()) {
        const bool holds = value.get<bool>();
        const std::string shown = key == "noisy" ? (holds ? "~" : "") : (holds ? "yes" : "no");
        check(cell.value == (holds ? "true" : "false") && cell.shown == shown, what + " is '" + cell.shown + "'");
    } else if (value.is_array()) {
        const char* rest = cell.value.c_str();
        for (const Json& share : value) {
            char* end = nullptr;
            check(std::strtod(rest, &end) == share.get<double>(), what + " is " + cell.value);
            rest = end;
        }
        check(*rest == '\0', what + " has more than its numbers: " + cell.value);
    } else {
        check_number(what, section, key, value.get<double>(), cell);
    }
}

void check_table(const std::string& page, const std::string& name, const Json& rows) {
    const std::string id = "rows-" + name;
    if (rows.empty()) {
        check(page.find("id=\"" + id + "\"") == std::string::npos, id + " is there without rows");
        return;
    }
    const std::vector<dumped::Row> shown = dumped::table(page, id);
    check(shown.size() == rows.size(), id + " has " + std::to_string(shown.size()) + " rows");
    for (std::size_t i = 0; i < std::min(shown.size(), rows.size()); ++i) {
        check(shown[i].size() == rows[i].size(), id + " has other columns than the JSON");
        for (const auto& [key, value] : rows[i].items()) {
            const auto cell = shown[i].find(key);
            check(cell != shown[i].end(), id + " has no " + key);
            if (cell != shown[i].end()) {
                check_cell(name + " " + std::to_string(i) + ", " + key, name, key, value, cell->second);
            }
        }
    }
}

void check_plot(const std::string& page, const std::string& id, const Json& report) {
    const std::string section = dumped::between(page, "<section class=\"plot\" id=\"" + id + "\">", "</section>");
    const std::string plot = section.substr(section.find("<div class=\"canvas\">"));
    const std::size_t wanted = expected::marks_of(id, report, expected::shown_names(section));
    const std::size_t marks = dumped::count_class(plot, "mark");
    check(marks == wanted, id + " has " + std::to_string(marks) + " marks instead of " + std::to_string(wanted));
    check((plot.find("Nothing was measured") != std::string::npos) == (wanted == 0), id + ": said to be empty");
    check((plot.find("aria-label=\"") != std::string::npos) == (wanted > 0), id + " has no text alternative");
    for (const std::string& complaint : expected::wrong_toggles(id, section, report)) {
        check(false, complaint);
    }
    for (const char* const bad : {"NaN", "undefined", "Infinity", "[object"}) {
        check(plot.find(bad) == std::string::npos, id + " contains " + bad);
    }
}

std::string content(const char* path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::cerr << "usage: check_page DOM JSON\n";
        return 2;
    }
    try {
        const std::string page = content(argv[1]);
        const Json report = Json::parse(content(argv[2]));
        const std::string root = dumped::between(page, "<html ", ">");
        check(root.find("data-errors=\"0\"") != std::string::npos, "errors of the script: " + root);
        check(root.find("data-drawn=\"true\"") != std::string::npos, "the script did not reach its end: " + root);
        const bool of_costs = !report.at("cost").empty();
        for (const auto& [id, there] : expected::plots(report)) {
            if (there) {
                check_plot(page, id, report);
            } else {
                check(page.find("<section class=\"plot\" id=\"" + id + "\">") == std::string::npos, id + " is there");
            }
        }
        for (const std::string& complaint : expected::wrong_findings(page, report)) {
            check(false, complaint);
        }
        for (const char* const name : {"speed", "balance", "quality", "collapse", "trained", "training", "cost_machine",
                                       "cost_models", "cost"}) {
            check_table(page, name, report.at(name));
        }
        const std::string heading = dumped::plain(dumped::between(page, "<h1>", "</h1>"));
        check(heading == dumped::plain(dumped::between(page, "<title>", "</title>")), "heading " + heading);
        check((heading.find("costs") != std::string::npos) == of_costs, "heading " + heading);
        const std::string context = dumped::between(page, "<dl id=\"context\">", "</dl>");
        const std::vector<std::string> names = dumped::all_between(context, "<dt>", "</dt>");
        const std::vector<std::string> values = dumped::all_between(context, "<dd>", "</dd>");
        check(names.size() == report.at("context").size() && values.size() == names.size(), "facts of the context");
        for (std::size_t i = 0; i < std::min(names.size(), values.size()); ++i) {
            check(dumped::plain(names[i]) == report["context"][i]["name"] &&
                      dumped::plain(values[i]) == report["context"][i]["value"],
                  "the context has " + names[i]);
        }
    } catch (const std::exception& error) {
        check(false, error.what());
    }
    return failures == 0 ? 0 : 1;
}
