#include "cost.hpp"

#include <string>

#include "../../examples/command_line/values.hpp"
#include "../formats.hpp"
#include "../machine.hpp"

namespace compare {

namespace {

moe::BytesPerWeight bytes_of(bench::Format format) {
    const double bytes = bench::info(format).bytes_per_weight;
    return {.experts = bytes, .others = bytes};
}

std::string kind_of(const CostedModel& model) {
    return model.reported ? "reported" : model.whole ? "published" : "layer";
}

/// The number of layers of a model of which only numbers of parameters are known is that of its formulas.
std::size_t known_layers(const CostedModel& model) {
    const moe::ExpertSizes& sizes = model.cost.sizes();
    return sizes.d_model == 0 && sizes.n_layers == 1 ? 0 : sizes.n_layers;
}

CostModelRow model_row(const CostedModel& model) {
    const moe::CostModel& cost = model.cost;
    const moe::ExpertSizes& sizes = cost.sizes();
    const double experts =
        static_cast<double>(sizes.n_layers) * static_cast<double>(sizes.n_experts) * cost.expert_parameters();
    const auto bytes = [&](bench::Format format) { return cost.weight_bytes(bytes_of(format)); };
    return {.model = model.name,
            .kind = kind_of(model),
            .layers = known_layers(model),
            .experts = sizes.n_experts,
            .experts_per_token = sizes.experts_per_token,
            .d_model = sizes.d_model,
            .d_ff = sizes.d_ff,
            .total_parameters = cost.total_parameters(),
            .active_parameters = cost.active_parameters(),
            .expert_share = experts / cost.total_parameters(),
            .bytes_f32 = bytes(bench::Format::f32),
            .bytes_bf16 = bytes(bench::Format::bf16),
            .bytes_f16 = bytes(bench::Format::f16),
            .bytes_int8 = bytes(bench::Format::int8),
            .bytes_int4 = bytes(bench::Format::int4),
            .presets = model.presets,
            .shapes = model.shapes,
            .note = model.note};
}

DemandOfToken demand(const moe::BatchCost& batch, const moe::MachineLimits& limits) {
    return {.bytes = batch.bytes / batch.tokens,
            .flops = batch.flops / batch.tokens,
            .tokens_per_second = batch.tokens_per_second(limits)};
}

CostRow cost_row(const CostedModel& model, bench::Format format, std::size_t tokens, const CostMachine& machine) {
    const moe::CostModel& cost = model.cost;
    const moe::BytesPerWeight bytes = bytes_of(format);
    const moe::MachineLimits limits{
        .flops_per_second = bench::quantized(format) ? machine.int8_flops_per_second : machine.flops_per_second,
        .bytes_per_second = machine.bytes_per_second};
    const moe::BatchCost batch = cost.batch(tokens, bytes);
    const auto dense = [&](double parameters) {
        return demand(moe::CostModel::dense(parameters).batch(tokens, bytes), limits);
    };
    CostRow row{.model = model.name,
                .kind = kind_of(model),
                .format = std::string(bench::info(format).name),
                .tokens = tokens,
                .experts = cost.sizes().n_experts,
                .distinct_experts = batch.distinct_experts,
                .mixture = demand(batch, limits),
                .active = dense(cost.active_parameters()),
                .total = dense(cost.total_parameters())};
    row.speedup_active = row.mixture.tokens_per_second / row.active.tokens_per_second;
    row.speedup_total = row.mixture.tokens_per_second / row.total.tokens_per_second;
    row.fits = machine.memory_bytes == 0 || cost.weight_bytes(bytes) <= machine.memory_bytes;
    return row;
}

}  // namespace

std::vector<CostModelRow> cost_model_rows(std::span<const CostedModel> models) {
    std::vector<CostModelRow> rows;
    for (const CostedModel& model : models) {
        rows.push_back(model_row(model));
    }
    return rows;
}

std::vector<CostRow> cost_rows(std::span<const CostedModel> models, std::span<const std::size_t> tokens,
                               const CostMachine& machine) {
    std::vector<CostRow> rows;
    for (const CostedModel& model : models) {
        for (const bench::FormatInfo& format : bench::all_formats) {
            for (const std::size_t count : tokens) {
                rows.push_back(cost_row(model, format.format, count, machine));
            }
        }
    }
    return rows;
}

Report compare_costs(const Options& options) {
    Report report;
    report.context = bench::machine_facts();
    report.context.emplace_back("threads", std::to_string(options.threads));
    report.context.emplace_back("tokens",
                                command_line::joined(options.tokens, [](std::size_t n) { return std::to_string(n); }));
    report.context.emplace_back("quick", options.quick ? "yes" : "no");
    const std::vector<CostedModel> models = costed_models();
    const CostMachine machine = measure_machine(options.threads, options.quick);
    report.cost_machine = {machine};
    report.cost_models = cost_model_rows(models);
    report.cost = cost_rows(models, options.tokens, machine);
    return report;
}

}  // namespace compare
