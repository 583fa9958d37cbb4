#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>

#include "dumped_page.hpp"
#include "expected_page.hpp"

namespace expected {

namespace {

std::string nats(double value) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%.4f", value);
    return text.data();
}

using Rows = std::vector<Json>;

Rows sorted(const Json& rows, const std::string& key, const std::function<bool(const Json&)>& wanted) {
    Rows result;
    std::ranges::copy_if(rows, std::back_inserter(result),
                         [&](const Json& row) { return !row[key].is_null() && wanted(row); });
    std::ranges::stable_sort(result, {}, [&](const Json& row) { return row[key].get<double>(); });
    return result;
}

bool dense(const Json& row) { return row["strategy"].get<std::string>().starts_with("dense"); }

/// What the sentences must contain, one after the other, and what they must not.
struct Wish {
    std::size_t sentence;
    std::string text;
    bool there = true;
};

/// No seed of one as good as one of the other, and means further apart than the seeds.
bool apart(const Json& best, const Json& other) {
    const double spread = std::max(best["nll_most"].get<double>() - best["nll_least"].get<double>(),
                                   other["nll_most"].get<double>() - other["nll_least"].get<double>());
    return best["seeds"] > 1 && other["seeds"] > 1 && best["nll_most"] < other["nll_least"] &&
           other["nll"].get<double>() - best["nll"].get<double>() > spread;
}

std::vector<Wish> wishes_of_training(const Json& report) {
    const Rows best = sorted(report["trained"], "nll", [](const Json& r) { return r["causal"] && !dense(r); });
    std::vector<Wish> wishes{{0, best.at(0)["strategy"]}, {0, nats(best[0]["nll"])}};
    if (best.size() > 1) {
        wishes.push_back({0, "not told apart from", !apart(best[0], best[1])});
        wishes.push_back({0, best[1]["strategy"]});
    }
    const Rows rivals = sorted(report["trained"], "nll", dense);
    if (rivals.size() == 1) {
        const double difference = rivals[0]["nll"].get<double>() - best[0]["nll"].get<double>();
        wishes.push_back({1, rivals[0]["strategy"]});
        wishes.push_back({1, nats(std::abs(difference))});
        wishes.push_back({1, "not told apart", !apart(best[0], rivals[0])});
        const Rows loads = sorted(report["trained"], "max_violation", [](const Json& row) { return !dense(row); });
        wishes.push_back({2, loads.front()["strategy"]});
        wishes.push_back({2, loads.back()["strategy"]});
    }
    return wishes;
}

/// Of a report with "top-2" and without training.
std::vector<Wish> wishes_of_strategies(const Json& report) {
    const Json& rows = report["quality"];
    const auto usual = std::ranges::find(rows, "top-2", [](const Json& row) { return row["strategy"]; });
    if (usual == rows.end()) {
        return {};
    }
    const Rows best =
        sorted(rows, "nll", [&](const Json& r) { return r["causal"] && r["compute"] <= (*usual)["compute"]; });
    const Rows all = sorted(rows, "nll", [](const Json& row) { return row["causal"].get<bool>(); });
    const auto most = std::ranges::max_element(report["speed"], {}, [&](const Json& row) {
        return row["shape"] == report["speed"][0]["shape"] && !row["noisy"] ? row["tokens"].get<double>() : 0;
    });
    const Rows fast = sorted(report["speed"], "tokens_per_second", [&](const Json& row) {
        return row["shape"] == (*most)["shape"] && row["tokens"] == (*most)["tokens"] && !row["noisy"];
    });
    return {{0, best.at(0)["strategy"]},
            {0, nats(best[0]["nll"])},
            {0, nats(best.at(1)["nll"].get<double>() - best[0]["nll"].get<double>())},
            {0, all.at(0)["strategy"]},
            {1, report["balance"][0]["input"]},
            {2, fast.back()["strategy"].get<std::string>() + " is the fastest"},
            {2, fast.front()["strategy"].get<std::string>() + " is the slowest"}};
}

std::vector<Wish> wishes_of_costs(const Json& report) {
    const Rows rows = sorted(report["cost"], "speedup_total", [](const Json& row) {
        return row["format"] == "bf16" && row["tokens"] == 1 && row["kind"] != "layer";
    });
    Rows lost;  // by what remains of the gain with one token
    for (Json row : report["cost"]) {
        const auto alone = std::ranges::find(rows, row["model"], [](const Json& one) { return one["model"]; });
        if (row["format"] == "bf16" && alone != rows.end()) {
            row["kept"] = row["speedup_total"].get<double>() / (*alone)["speedup_total"].get<double>();
            lost.push_back(row);
        }
    }
    const Json& most_lost =
        *std::ranges::min_element(lost, {}, [](const Json& row) { return row["kept"].get<double>(); });
    const auto fit = std::ranges::count_if(rows, [](const Json& row) { return row["fits"].get<bool>(); });
    return {{0, rows.at(0)["model"]},
            {0, rows.back()["model"]},
            {1, "takes most from " + most_lost["model"].get<std::string>() + ": "},
            {1, "with " + most_lost["tokens"].dump() + " tokens"},
            {2, std::to_string(fit) + " of the " + std::to_string(rows.size()) + " models"}};
}

}  // namespace

std::vector<std::string> wrong_findings(const std::string& page, const Json& report) {
    std::vector<std::string> wrong;
    std::vector<std::string> sentences =
        dumped::all_between(dumped::between(page, "<ul id=\"findings\"", "</ul>"), "<li>", "</li>");
    const bool costs = !report["cost"].empty();
    const bool empty = !costs && report["quality"].empty() && report["trained"].empty();
    if (sentences.size() != (empty ? 0U : 3U)) {
        return {"the page begins with " + std::to_string(sentences.size()) + " sentences"};
    }
    for (std::string& sentence : sentences) {
        sentence = dumped::plain(sentence);
        for (const char* const bad : {"NaN", "undefined", "Infinity", "null", "\xE2\x80\x93"}) {
            if (sentence.find(bad) != std::string::npos) {
                wrong.push_back("a finding contains " + std::string(bad) + ": " + sentence);
            }
        }
        if (!sentence.ends_with('.')) {
            wrong.push_back("a finding without an end: " + sentence);
        }
    }
    const std::vector<Wish> wishes = empty                        ? std::vector<Wish>{}
                                     : costs                      ? wishes_of_costs(report)
                                     : !report["trained"].empty() ? wishes_of_training(report)
                                                                  : wishes_of_strategies(report);
    for (const Wish& wish : wishes) {
        const std::string& sentence = sentences[wish.sentence];
        if ((sentence.find(wish.text) != std::string::npos) != wish.there) {
            wrong.push_back((wish.there ? "no '" : "'") + wish.text + "' in the finding: " + sentence);
        }
    }
    return wrong;
}

std::optional<Names> shown_names(const std::string& section) {
    if (section.find("data-name=\"") == std::string::npos) {
        return std::nullopt;
    }
    Names names;
    for (const std::string& chip : dumped::all_between(section, "<button type=\"button\" class=\"chip\"", ">")) {
        if (chip.find("aria-pressed=\"true\"") != std::string::npos) {
            names.insert(dumped::plain(dumped::between(chip, "data-name=\"", "\"")));
        }
    }
    return names;
}

std::vector<std::string> wrong_toggles(const std::string& plot, const std::string& section, const Json& report) {
    const std::optional<Names> shown = shown_names(section);
    Rows order;
    if (plot == "learning") {
        order = sorted(report["trained"], "nll", [](const Json&) { return true; });
    } else if (plot == "speed" && !report["speed"].empty()) {
        const auto tokens = [](const Json& row) { return row["tokens"].get<double>(); };
        const Json& rows = report["speed"];
        const double most = tokens(*std::ranges::max_element(rows, {}, tokens));
        order = sorted(rows, "tokens_per_second",
                       [&](const Json& row) { return row["shape"] == rows[0]["shape"] && tokens(row) == most; });
    }
    if (order.size() <= 6) {
        return shown && !order.empty() ? std::vector{plot + " has chips for few lines"} : std::vector<std::string>{};
    }
    if (!shown) {
        return {plot + " has no chips"};
    }
    std::vector<std::string> wrong;
    if (shown->size() > 6) {
        wrong.push_back(plot + " shows " + std::to_string(shown->size()) + " lines as it opens");
    }
    for (const std::string name : {order.front()["strategy"], order.back()["strategy"], Json("top-2")}) {
        if (!shown->contains(name)) {
            wrong.push_back(plot + " does not show " + name);
        }
    }
    return wrong;
}

}  // namespace expected
