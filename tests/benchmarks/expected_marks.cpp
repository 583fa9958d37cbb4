#include "expected_page.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "dumped_page.hpp"

namespace expected {

namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

struct Point {
    double step = 0;
    double value = 0;
};

/// Means over the seeds of `key` by step, where all seeds know it.
std::vector<Point> curve(const Json& report, const std::string& strategy, const std::string& key) {
    std::map<double, std::vector<double>> steps;
    std::size_t seeds = 0;
    for (const Json& row : report["training"]) {
        if (row["strategy"] == strategy) {
            std::vector<double>& values = steps[row["step"]];
            values.push_back(row[key].is_null() ? unknown : row[key].get<double>());
            seeds = std::max(seeds, values.size());
        }
    }
    std::vector<Point> points;
    for (const auto& [step, values] : steps) {
        double sum = 0;
        for (const double value : values) {
            sum += value;
        }
        if (values.size() == seeds && std::isfinite(sum)) {
            points.push_back({step, sum / static_cast<double>(seeds)});
        }
    }
    return points;
}

Names names_of(const Json& rows) {
    Names names;
    for (const Json& row : rows) {
        names.insert(row["strategy"].get<std::string>());
    }
    return names;
}

/// The points of the lines that follow the last one above the plot, whose top is by the last two thirds of the steps.
std::size_t marks_of_learning(const std::vector<std::vector<Point>>& curves) {
    double last = 0;
    for (const auto& points : curves) {
        last = points.empty() ? last : std::max(last, points.back().step);
    }
    double low = std::numeric_limits<double>::infinity();
    double high = -low;
    for (const auto& points : curves) {
        for (const Point& point : points) {
            if (point.step >= last / 3) {
                low = std::min(low, point.value);
                high = std::max(high, point.value);
            }
        }
    }
    const double top = high > low ? high + (high - low) * 0.08 : high + std::abs(high) * 0.1;
    std::size_t marks = 0;
    for (const auto& points : curves) {
        const auto above = std::find_if(points.rbegin(), points.rend(), [&](const Point& p) { return p.value > top; });
        marks += static_cast<std::size_t>(above - points.rbegin());
    }
    return marks;
}

std::size_t marks_of_history(const Json& rows) {
    const auto loaded = std::ranges::find_if(rows, [](const Json& row) { return !row["load"].empty(); });
    const auto usual = std::ranges::find(rows, "top-2", [](const Json& row) { return row["strategy"]; });
    const Json& first = usual != rows.end() ? *usual : *loaded;
    std::size_t marks = 0;
    for (const Json& row : rows) {
        marks += row["strategy"] == first["strategy"] && row["seed"] == first["seed"] ? row["load"].size() : 0;
    }
    return marks;
}

std::size_t marks_of_training(const std::string& plot, const Json& report, const std::optional<Names>& shown) {
    if (plot == "final") {
        return static_cast<std::size_t>(
            std::ranges::count_if(report["trained"], [](const Json& row) { return !row["nll"].is_null(); }));
    }
    if (plot == "history") {
        return marks_of_history(report["training"]);
    }
    std::vector<std::vector<Point>> curves;
    std::size_t points = 0;
    for (const std::string& name : shown.value_or(names_of(report["training"]))) {
        curves.push_back(curve(report, name, plot == "learning" ? "nll" : "max_violation"));
        points += curves.back().size();
    }
    return plot == "learning" ? marks_of_learning(curves) : points;
}

}  // namespace

std::vector<std::pair<std::string, bool>> plots(const Json& report) {
    const bool costs = !report["cost"].empty();
    const bool trained = !report["training"].empty();
    std::vector<std::pair<std::string, bool>> result{{"cost", costs}, {"batch", costs}};
    for (const char* const id : {"final", "learning", "behaviour", "history"}) {
        result.emplace_back(id, trained);
    }
    for (const auto& [id, section] : {std::pair{"quality", "quality"},
                                      {"speed", "speed"},
                                      {"phases", "speed"},
                                      {"load", "balance"},
                                      {"collapse", "collapse"}}) {
        result.emplace_back(id, !costs && (!trained || !report[section].empty()));
    }
    return result;
}

std::size_t marks_of(const std::string& plot, const Json& report, const std::optional<Names>& shown) {
    if (plot == "final" || plot == "learning" || plot == "behaviour" || plot == "history") {
        return marks_of_training(plot, report, shown);
    }
    if (plot == "quality" || plot == "collapse") {
        return report[plot].size();
    }
    std::size_t marks = 0;
    if (plot == "cost" || plot == "batch") {
        for (const Json& row : report["cost"]) {  // bf16; 1 token, the first model
            const bool here = plot == "cost" ? row["tokens"] == 1 && row["kind"] != "layer"
                                             : row["model"] == report["cost"][0]["model"];
            marks += row["format"] == "bf16" && here ? (plot == "cost" ? 1U : 3U) : 0U;
        }
        return marks;
    }
    if (plot == "load") {
        const Json& rows = report["balance"];
        const auto first = std::ranges::find_if(rows, [](const Json& row) { return !row["load"].empty(); });
        const bool layers = std::ranges::any_of(
            rows, [&](const Json& row) { return row["input"] == (*first)["input"] && row["layer"] >= 0; });
        const auto layered = std::ranges::find_if(rows, [](const Json& row) { return row["layer"] >= 0; });
        for (const Json& row : rows) {
            const bool here =
                row["input"] == (*first)["input"] && (!layers || row["strategy"] == (*layered)["strategy"]);
            marks += here ? row["load"].size() : 0;
        }
        return marks;
    }
    const Json& rows = report["speed"];
    const auto tokens = [](const Json& row) { return row["tokens"].get<double>(); };
    const double most = rows.empty() ? 0 : tokens(*std::ranges::max_element(rows, {}, tokens));
    for (const Json& row : rows) {
        if (row["shape"] == rows[0]["shape"] && (plot != "speed" || !shown || shown->contains(row["strategy"]))) {
            marks += plot == "speed" ? (row["tokens_per_second"] > 0 ? 1U : 0U) : (tokens(row) == most ? 4U : 0U);
        }
    }
    return marks;
}

}  // namespace expected
