#include "json.hpp"

#include "json_file.hpp"

namespace bench {

namespace {

Json to_json(const Row& row, const Options& options) {
    const double seconds = row.seconds.median;
    return {
        {"shape", row.shape->name},
        {"format", info(row.format).name},
        {"compute", info(row.compute).name},
        {"tokens", row.tokens},
        {"threads", row.threads},
        {"routing", routing_name(options.routing)},
        {"seconds", to_json(row.seconds)},
        {"tokens_per_second", measured(row.wrong ? 0 : static_cast<double>(row.tokens) / seconds)},
        {"gflops", measured(row.wrong ? 0 : row.operations / seconds / 1e9)},
        {"weight_gb_per_second", measured(row.wrong ? 0 : row.weight_bytes / seconds / 1e9)},
        {"fma_peak", measured(row.fma_peak / 1e9)},
        {"int8_peak", measured(row.int8_peak / 1e9)},
        {"bfloat16_peak", measured(row.bfloat16_peak / 1e9)},
        {"unit_int8_peak", measured(row.unit_int8_peak / 1e9)},
        {"read_bandwidth", measured(row.read_bandwidth / 1e9)},
        {"roofline_seconds", measured(row.wrong ? 0 : row.roofline_seconds())},
        {"fraction_of_roofline", measured(row.wrong ? 0 : row.fraction_of_roofline())},
        {"fraction_of_peak", measured(row.wrong ? 0 : row.fraction_of_peak())},
        {"speedup_eigen", measured(row.speedup(Rival::eigen))},
        {"speedup_onednn", measured(row.speedup(Rival::onednn))},
        {"speedup_onednn_bf16", measured(row.speedup(Rival::onednn_bf16))},
        {"speedup_onednn_int8", measured(row.speedup(Rival::onednn_int8))},
        {"speedup_dense", measured(row.speedup(Rival::dense))},
        {"speedup_threads", measured(row.wrong ? 0 : row.speedup_threads())},
        {"one_expert_slowdown", measured(row.wrong ? 0 : row.one_expert_slowdown())},
        {"workspace_bytes", row.workspace_bytes},
        {"nmse", measured(row.nmse)},
        {"route_share", row.route_share},
        {"combine_share", row.combine_share},
        {"kernel", row.kernel},
        {"n_experts", row.n_experts},
        {"distinct_experts", row.distinct_experts},
        {"layers", row.layers},
        {"correct", !row.wrong},
        {"note", row.setup_note + row.note},
    };
}

}  // namespace

void write_json(const std::string& path, const std::vector<std::pair<std::string, std::string>>& header,
                const Options& options, const std::vector<Row>& rows) {
    Json lines = Json::array();
    for (const Row& row : rows) {
        lines.push_back(to_json(row, options));
    }
    write_json_file(path, header, lines);
}

}  // namespace bench
