#include "sections.hpp"

#include <concepts>
#include <functional>
#include <initializer_list>
#include <utility>

namespace compare {

namespace {

template <class Row>
struct Column {
    std::string name;
    std::function<Cell(const Row&)> cell;
};

template <class Value>
Cell cell_of(const Value& value) {
    if constexpr (std::integral<Value> && !std::same_as<Value, bool>) {
        return static_cast<std::int64_t>(value);
    } else {
        return value;
    }
}

template <class Row, class Value>
Column<Row> column(std::string name, Value Row::*member) {
    return {std::move(name), [member](const Row& row) { return cell_of(row.*member); }};
}

Column<SpeedRow> seconds(std::string name, double Spread::*member) {
    return {std::move(name), [member](const SpeedRow& row) { return Cell(row.seconds.*member); }};
}

template <class Row>
Section section(std::string name, const std::vector<Row>& rows, std::initializer_list<Column<Row>> columns) {
    Section result{std::move(name), {}, {}};
    for (const auto& column : columns) {
        result.columns.push_back(column.name);
    }
    for (const Row& row : rows) {
        std::vector<Cell>& cells = result.rows.emplace_back();
        for (const auto& column : columns) {
            cells.push_back(column.cell(row));
        }
    }
    return result;
}

Section speed_section(const std::vector<SpeedRow>& rows) {
    return section<SpeedRow>(
        "speed", rows,
        {column("strategy", &SpeedRow::strategy), column("shape", &SpeedRow::shape),
         column("tokens", &SpeedRow::tokens), seconds("seconds_min", &Spread::min),
         seconds("seconds_median", &Spread::median), seconds("seconds_p95", &Spread::p95),
         column("route_seconds", &SpeedRow::route_seconds), column("dispatch_seconds", &SpeedRow::dispatch_seconds),
         column("hidden_seconds", &SpeedRow::hidden_seconds), column("output_seconds", &SpeedRow::output_seconds),
         column("tokens_per_second", &SpeedRow::tokens_per_second), column("speedup_active", &SpeedRow::speedup_active),
         column("speedup_total", &SpeedRow::speedup_total), column("active_experts", &SpeedRow::active_experts),
         column("load_min", &SpeedRow::load_min), column("load_median", &SpeedRow::load_median),
         column("load_max", &SpeedRow::load_max), column("noisy", &SpeedRow::noisy)});
}

Section balance_section(const std::vector<BalanceRow>& rows) {
    return section<BalanceRow>(
        "balance", rows,
        {column("strategy", &BalanceRow::strategy), column("input", &BalanceRow::input),
         column("layer", &BalanceRow::layer), column("tokens", &BalanceRow::tokens),
         column("experts", &BalanceRow::experts), column("max_violation", &BalanceRow::max_violation),
         column("variation", &BalanceRow::variation), column("gini", &BalanceRow::gini),
         column("entropy", &BalanceRow::entropy), column("dead", &BalanceRow::dead),
         column("dropped", &BalanceRow::dropped), column("experts_per_token", &BalanceRow::experts_per_token),
         column("confidence", &BalanceRow::confidence), column("load", &BalanceRow::load)});
}

}  // namespace

std::vector<Section> sections(const Report& report) {
    using Fact = std::pair<std::string, std::string>;
    return {section<Fact>("context", report.context, {column("name", &Fact::first), column("value", &Fact::second)}),
            speed_section(report.speed), balance_section(report.balance),
            section<QualityRow>("quality", report.quality,
                                {column("strategy", &QualityRow::strategy), column("nll", &QualityRow::nll),
                                 column("compute", &QualityRow::compute), column("dropped", &QualityRow::dropped),
                                 column("causal", &QualityRow::causal)}),
            section<CollapseRow>("collapse", report.collapse,
                                 {column("run", &CollapseRow::run), column("step", &CollapseRow::step),
                                  column("max_violation", &CollapseRow::max_violation),
                                  column("variation", &CollapseRow::variation), column("load", &CollapseRow::load)})};
}

}  // namespace compare
