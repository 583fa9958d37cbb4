#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "cost_table.hpp"
#include "output.hpp"
#include "text.hpp"
#include "trained_table.hpp"

namespace compare {

namespace {

constexpr std::string_view indent = "  ";

std::string count(std::size_t value) { return std::to_string(value); }

std::string milliseconds(double seconds) { return rounded(1e3 * seconds); }

/// "0.98x", or "-" where there was nothing to compare with.
std::string times(double factor) { return factor > 0 && std::isfinite(factor) ? rounded(factor) + "x" : "-"; }

/// The keys of `rows`, each once, in the order in which they come first.
template <class Row, class KeyOf>
auto keys(const std::vector<Row>& rows, const KeyOf& key_of) {
    std::vector<decltype(key_of(rows.front()))> result;
    for (const Row& row : rows) {
        auto key = key_of(row);
        if (std::ranges::find(result, key) == result.end()) {
            result.push_back(std::move(key));
        }
    }
    return result;
}

std::string heading(std::string_view section, std::string_view of) {
    return "\n" + std::string(section) + (of.empty() ? "" : ": ") + printable(of) + "\n";
}

std::string context_text(const Report& report) {
    std::size_t longest = 0;
    for (const auto& fact : report.context) {
        longest = std::max(longest, width(printable(fact.first)));
    }
    std::string text;
    for (const auto& [key, value] : report.context) {
        const std::string name = printable(key);
        text += name + std::string(longest - width(name) + 2, ' ') + printable(value) + "\n";
    }
    return text;
}

std::vector<std::string> cells_of(const SpeedRow& row) {
    return {printable(row.strategy),
            milliseconds(row.seconds.median) + (row.noisy ? "~" : " "),
            milliseconds(row.seconds.min),
            milliseconds(row.seconds.p95),
            rounded(row.tokens_per_second),
            milliseconds(row.route_seconds),
            milliseconds(row.dispatch_seconds),
            milliseconds(row.hidden_seconds),
            milliseconds(row.output_seconds),
            times(row.speedup_active),
            times(row.speedup_total),
            tally(row.active_experts),
            tally(row.load_min) + "/" + tally(row.load_median) + "/" + tally(row.load_max)};
}

std::string speed_text(const std::vector<SpeedRow>& rows) {
    const auto group_of = [](const SpeedRow& row) { return std::pair(row.shape, row.tokens); };
    std::string text;
    for (const auto& group : keys(rows, group_of)) {
        Grid grid({"strategy", "ms ", "min", "p95", "tokens/s", "route", "dispatch", "hidden", "output", "of active",
                   "of total", "experts", "load"});
        for (const SpeedRow& row : rows) {
            if (group_of(row) == group) {
                grid.add(cells_of(row));
            }
        }
        text += heading("speed", group.first + ", " + count(group.second) + (group.second == 1 ? " token" : " tokens"));
        text += grid.text(indent);
    }
    if (!rows.empty()) {
        text +=
            "\n  ms: median of a whole forward, its min and p95; route to output: medians of its phases, in ms\n"
            "  of active, of total: times as fast as a dense network of the active, of the total size\n"
            "  experts: those with tokens; load: tokens of an expert, least/median/most\n";
    }
    if (std::ranges::any_of(rows, &SpeedRow::noisy)) {
        text += "  ~ the calls scatter too much to believe the row\n";
    }
    return text;
}

double mean(const std::vector<const BalanceRow*>& rows, double BalanceRow::*member) {
    double sum = 0;
    for (const BalanceRow* row : rows) {
        sum += row->*member;
    }
    return sum / static_cast<double>(rows.size());
}

double largest(const std::vector<const BalanceRow*>& rows, double BalanceRow::*member) {
    double result = rows.front()->*member;
    for (const BalanceRow* row : rows) {
        result = std::max(result, row->*member);
    }
    return result;
}

std::string balance_text(const std::vector<BalanceRow>& rows) {
    std::string text;
    for (const std::string& input : keys(rows, [](const BalanceRow& row) { return row.input; })) {
        Grid grid({"strategy", "layers", "max viol", "worst", "variation", "gini", "entropy", "dead", "dropped",
                   "experts/token", "confidence"});
        const auto strategy_of = [](const BalanceRow& row) { return row.strategy; };
        for (const std::string& strategy : keys(rows, strategy_of)) {
            std::vector<const BalanceRow*> layers;
            for (const BalanceRow& row : rows) {
                if (row.input == input && row.strategy == strategy) {
                    layers.push_back(&row);
                }
            }
            if (layers.empty()) {
                continue;
            }
            const auto of = [&](double BalanceRow::*member) { return rounded(mean(layers, member)); };
            grid.add({printable(strategy), layers.front()->layer < 0 ? "-" : count(layers.size()),
                      of(&BalanceRow::max_violation), rounded(largest(layers, &BalanceRow::max_violation)),
                      of(&BalanceRow::variation), of(&BalanceRow::gini), of(&BalanceRow::entropy),
                      tally(mean(layers, &BalanceRow::dead)), percent(mean(layers, &BalanceRow::dropped)),
                      of(&BalanceRow::experts_per_token), of(&BalanceRow::confidence)});
        }
        text += heading("balance", input) + grid.text(indent);
    }
    if (!rows.empty()) {
        text +=
            "\n  means over the layers; max viol: largest load over the mean one, less 1, and of the worst layer\n"
            "  variation: standard deviation over mean; entropy: 1 is even; dead: experts without tokens\n";
    }
    return text;
}

std::string quality_text(const std::vector<QualityRow>& rows) {
    if (rows.empty()) {
        return "";
    }
    Grid grid({"strategy", "nats/byte", "computed", "dropped", "causal"});
    for (const QualityRow& row : rows) {
        grid.add({printable(row.strategy), nats(row.nll), percent(row.compute), percent(row.dropped),
                  row.causal ? "yes" : "no"});
    }
    return heading("quality", "") + grid.text(indent) +
           "\n  nats/byte: of held-out text, lower is better; computed: share of all experts, of a dense mixture 100%\n"
           "  not causal: the experts of a token depend on later ones, so nothing can be generated with it\n";
}

std::string collapse_text(const std::vector<CollapseRow>& rows) {
    constexpr std::size_t shown = 9;
    std::string text;
    for (const std::string& run : keys(rows, [](const CollapseRow& row) { return row.run; })) {
        std::vector<const CollapseRow*> steps;
        for (const CollapseRow& row : rows) {
            if (row.run == run) {
                steps.push_back(&row);
            }
        }
        Grid grid({"step", "loss", "max viol", "variation", "effective", "router gradient", "largest share"});
        const std::size_t lines = std::min(shown, steps.size());
        for (std::size_t i = 0; i < lines; ++i) {
            const CollapseRow& row = *steps[lines == 1 ? 0 : i * (steps.size() - 1) / (lines - 1)];
            grid.add({count(row.step), rounded(row.loss), rounded(row.max_violation), rounded(row.variation),
                      rounded(row.effective), rounded(row.router_norm),
                      row.load.empty() ? "-" : percent(*std::ranges::max_element(row.load))});
        }
        text += heading("collapse", run) + grid.text(indent);
        if (lines < steps.size()) {
            text += "  (" + count(lines) + " of " + count(steps.size()) + " steps)\n";
        }
    }
    if (!rows.empty()) {
        text +=
            "\n  loss: over that of predicting 0; effective: experts that are in use, exp of the entropy of the load\n"
            "  router gradient: norm, of the loss alone\n";
    }
    return text;
}

}  // namespace

std::string table(const Report& report) {
    return context_text(report) + speed_text(report.speed) + balance_text(report.balance) +
           quality_text(report.quality) + collapse_text(report.collapse) + trained_text(report.trained) +
           cost_text(report);
}

}  // namespace compare
