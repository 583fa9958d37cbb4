#include "../json_file.hpp"
#include "report.hpp"

namespace bench::backward {

namespace {

Json step_json(const StepSeconds& seconds) {
    return {{"forward", to_json(seconds.forward)},
            {"backward", to_json(seconds.backward)},
            {"both", to_json(seconds.both)}};
}

Json row_json(const Row& row, const Options& options) {
    const double seconds = row.library.both.median;
    const auto unless_wrong = [&](auto&& figure) { return measured(row.wrong ? 0 : figure()); };
    Json rivals = Json::object();
    for (const auto& [rival, times] : row.rivals) {
        rivals[std::string(rival_name(rival))] = step_json(times);
    }
    return {
        {"shape", row.shape->name},
        {"format", "f32"},
        {"pass", "backward"},
        {"tokens", row.tokens},
        {"threads", row.threads},
        {"routing", routing_name(options.routing)},
        {"forward_seconds", to_json(row.inference)},
        {"seconds", step_json(row.library)},
        {"one_thread_seconds", step_json(row.one_thread)},
        {"rival_seconds", rivals},
        {"backward_over_forward", unless_wrong([&] { return row.backward_over_forward(); })},
        {"tokens_per_second", unless_wrong([&] { return static_cast<double>(row.tokens) / seconds; })},
        {"gflops", unless_wrong([&] { return row.operations / seconds / 1e9; })},
        {"fma_peak", measured(row.fma_peak / 1e9)},
        {"read_bandwidth", measured(row.read_bandwidth / 1e9)},
        {"roofline_seconds", unless_wrong([&] { return row.roofline_seconds(); })},
        {"fraction_of_roofline", unless_wrong([&] { return row.fraction_of_roofline(); })},
        {"fraction_of_peak", unless_wrong([&] { return row.fraction_of_peak(); })},
        {"speedup_eigen", unless_wrong([&] { return row.speedup(Rival::eigen); })},
        {"speedup_onednn", unless_wrong([&] { return row.speedup(Rival::onednn); })},
        {"speedup_threads", unless_wrong([&] { return row.speedup_threads(); })},
        {"workspace_bytes", row.workspace_bytes},
        {"nmse", measured(row.nmse)},
        {"kernel", row.kernel},
        {"n_experts", row.n_experts},
        {"distinct_experts", row.distinct_experts},
        {"correct", !row.wrong},
        {"note", row.setup_note + row.note},
    };
}

}  // namespace

void write_json(const std::string& path, const std::vector<std::pair<std::string, std::string>>& header,
                const Options& options, const std::vector<Row>& rows) {
    Json lines = Json::array();
    for (const Row& row : rows) {
        lines.push_back(row_json(row, options));
    }
    write_json_file(path, header, lines);
}

}  // namespace bench::backward
