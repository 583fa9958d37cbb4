#include "report.hpp"

#include <algorithm>

#include "formatted.hpp"

namespace bench {

std::string facts_text(const std::vector<std::pair<std::string, std::string>>& header, const Options& options) {
    std::string text;
    for (const auto& [name, value] : header) {
        text += formatted("%-17s", name.c_str()) + value + "\n";
    }
    return text + formatted("%-17s", "threads") + std::to_string(options.threads) + ", routing " +
           std::string(routing_name(options.routing)) + "\n\n";
}

std::string table_header(const std::vector<std::pair<std::string, std::string>>& header, const Options& options) {
    return facts_text(header, options) +
           formatted("%-18s %-5s %-6s %6s %10s %9s %8s %7s | %8s %8s %8s | %8s %7s | %7s %7s %7s %7s | %6s\n", "shape",
                     "form", "comp", "tokens", "ms", "tokens/s", "GFLOP/s", "GB/s", "FMA", "int8", "read", "of roof",
                     "of peak", "eigen", "onednn", "rounded", "dense", "route");
}

std::string table_line(const Row& row) {
    const double seconds = row.seconds.median;
    if (row.wrong) {
        return row_name(*row.shape, row.format, row.compute, row.tokens) + ": " + row.note + "\n";
    }
    std::string line = formatted(
        "%-18s %-5s %-6s %6zu %10.3f %9.1f %8.1f %7.2f | %8.1f %8.1f %8.2f | %8.3f %7.3f | %7s %7s %7s %7s | %5.1f%%\n",
        row.shape->name.data(), info(row.format).name.data(), info(row.compute).name.data(), row.tokens, 1e3 * seconds,
        static_cast<double>(row.tokens) / seconds, row.operations / seconds / 1e9, row.weight_bytes / seconds / 1e9,
        row.fma_peak / 1e9, row.int8_peak / 1e9, row.read_bandwidth / 1e9, row.fraction_of_roofline(),
        row.fraction_of_peak(), times(row.speedup(Rival::eigen)).c_str(), times(row.speedup(Rival::onednn)).c_str(),
        times(std::max(row.speedup(Rival::onednn_bf16), row.speedup(Rival::onednn_int8))).c_str(),
        times(row.speedup(Rival::dense)).c_str(), 100 * row.route_share);
    if (row.one_thread.samples > 0) {
        line += formatted("    1 thread: %.2f times as long; all tokens on one expert: %.2f times as long\n",
                          row.speedup_threads(), row.one_expert_slowdown());
    }
    if (!row.note.empty()) {
        line += "    note: " + row.note + "\n";
    }
    return line;
}

}  // namespace bench
