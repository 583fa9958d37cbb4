#include "sections.hpp"

#include <concepts>
#include <functional>
#include <utility>

#include "../figures.hpp"

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

Column<CostRow> demand(std::string name, DemandOfToken CostRow::*of, double DemandOfToken::*member) {
    return {std::move(name), [of, member](const CostRow& row) { return Cell(row.*of.*member); }};
}

Column<SpeedRow> seconds(std::string name, double Spread::*member) {
    return {std::move(name), [member](const SpeedRow& row) { return Cell(row.seconds.*member); }};
}

template <class Row>
Section section(std::string name, const std::vector<Row>& rows, const std::vector<Column<Row>>& columns) {
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

Section collapse_section(const std::vector<CollapseRow>& rows) {
    return section<CollapseRow>(
        "collapse", rows,
        {column("run", &CollapseRow::run), column("step", &CollapseRow::step), column("loss", &CollapseRow::loss),
         column("max_violation", &CollapseRow::max_violation), column("variation", &CollapseRow::variation),
         column("effective", &CollapseRow::effective), column("router_norm", &CollapseRow::router_norm),
         column("load", &CollapseRow::load)});
}

template <class Row, class Figures>
void add_figures(const Figures& figures, std::vector<Column<Row>>& columns) {
    for (const auto& [name, member] : figures) {
        columns.push_back(column(name, member));
    }
}

Section trained_section(const std::vector<TrainedRow>& rows) {
    std::vector columns{column("strategy", &TrainedRow::strategy), column("causal", &TrainedRow::causal),
                        column("seeds", &TrainedRow::seeds), column("nll_least", &TrainedRow::nll_least),
                        column("nll_most", &TrainedRow::nll_most)};
    add_figures(trained_figures, columns);
    return section("trained", rows, columns);
}

Section training_section(const std::vector<TrainingRow>& rows) {
    std::vector columns{column("strategy", &TrainingRow::strategy), column("seed", &TrainingRow::seed),
                        column("step", &TrainingRow::step)};
    add_figures(training_figures, columns);
    columns.push_back(column("load", &TrainingRow::load));
    return section("training", rows, columns);
}

Section cost_machine_section(const std::vector<CostMachine>& rows) {
    return section<CostMachine>(
        "cost_machine", rows,
        {column("threads", &CostMachine::threads), column("bytes_per_second", &CostMachine::bytes_per_second),
         column("flops_per_second", &CostMachine::flops_per_second),
         column("int8_flops_per_second", &CostMachine::int8_flops_per_second),
         column("memory_bytes", &CostMachine::memory_bytes)});
}

Section cost_models_section(const std::vector<CostModelRow>& rows) {
    return section<CostModelRow>(
        "cost_models", rows,
        {column("model", &CostModelRow::model), column("kind", &CostModelRow::kind),
         column("layers", &CostModelRow::layers), column("experts", &CostModelRow::experts),
         column("experts_per_token", &CostModelRow::experts_per_token), column("d_model", &CostModelRow::d_model),
         column("d_ff", &CostModelRow::d_ff), column("total_parameters", &CostModelRow::total_parameters),
         column("active_parameters", &CostModelRow::active_parameters),
         column("expert_share", &CostModelRow::expert_share), column("bytes_f32", &CostModelRow::bytes_f32),
         column("bytes_bf16", &CostModelRow::bytes_bf16), column("bytes_f16", &CostModelRow::bytes_f16),
         column("bytes_int8", &CostModelRow::bytes_int8), column("bytes_int4", &CostModelRow::bytes_int4),
         column("presets", &CostModelRow::presets), column("shapes", &CostModelRow::shapes),
         column("note", &CostModelRow::note)});
}

Section cost_section(const std::vector<CostRow>& rows) {
    using D = DemandOfToken;
    return section<CostRow>(
        "cost", rows,
        {column("model", &CostRow::model), column("kind", &CostRow::kind), column("format", &CostRow::format),
         column("tokens", &CostRow::tokens), column("experts", &CostRow::experts),
         column("distinct_experts", &CostRow::distinct_experts),
         demand("bytes_per_token", &CostRow::mixture, &D::bytes),
         demand("flops_per_token", &CostRow::mixture, &D::flops),
         demand("tokens_per_second", &CostRow::mixture, &D::tokens_per_second),
         demand("active_bytes_per_token", &CostRow::active, &D::bytes),
         demand("active_flops_per_token", &CostRow::active, &D::flops),
         demand("active_tokens_per_second", &CostRow::active, &D::tokens_per_second),
         demand("total_bytes_per_token", &CostRow::total, &D::bytes),
         demand("total_flops_per_token", &CostRow::total, &D::flops),
         demand("total_tokens_per_second", &CostRow::total, &D::tokens_per_second),
         column("speedup_active", &CostRow::speedup_active), column("speedup_total", &CostRow::speedup_total),
         column("fits", &CostRow::fits)});
}

}  // namespace

std::vector<Section> sections(const Report& report) {
    using Fact = std::pair<std::string, std::string>;
    return {section<Fact>("context", report.context, {column("name", &Fact::first), column("value", &Fact::second)}),
            speed_section(report.speed),
            balance_section(report.balance),
            section<QualityRow>("quality", report.quality,
                                {column("strategy", &QualityRow::strategy), column("nll", &QualityRow::nll),
                                 column("compute", &QualityRow::compute), column("dropped", &QualityRow::dropped),
                                 column("causal", &QualityRow::causal)}),
            collapse_section(report.collapse),
            trained_section(report.trained),
            training_section(report.training),
            cost_machine_section(report.cost_machine),
            cost_models_section(report.cost_models),
            cost_section(report.cost)};
}

}  // namespace compare
