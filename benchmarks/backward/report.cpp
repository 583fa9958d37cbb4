#include "report.hpp"

#include "../formatted.hpp"
#include "../report.hpp"

namespace bench::backward {

std::string table_header(const std::vector<std::pair<std::string, std::string>>& header, const Options& options) {
    return facts_text(header, options) +
           formatted("%-18s %6s %10s %10s %7s %9s %8s | %8s %8s | %7s %7s | %7s %7s %7s\n", "shape", "tokens", "fwd ms",
                     "+ bwd ms", "bwd/fwd", "tokens/s", "GFLOP/s", "FMA", "read", "of peak", "of roof", "threads",
                     "eigen", "onednn");
}

std::string table_line(const Row& row) {
    if (row.wrong) {
        return row_name(*row.shape, row.tokens) + ": " + row.note + "\n";
    }
    const double seconds = row.library.both.median;
    std::string line =
        formatted("%-18s %6zu %10.3f %10.3f %7.2f %9.1f %8.1f | %8.1f %8.2f | %7.3f %7.3f | %7s %7s %7s\n",
                  row.shape->name.data(), row.tokens, 1e3 * row.inference.median, 1e3 * seconds,
                  row.backward_over_forward(), static_cast<double>(row.tokens) / seconds,
                  row.operations / seconds / 1e9, row.fma_peak / 1e9, row.read_bandwidth / 1e9, row.fraction_of_peak(),
                  row.fraction_of_roofline(), times(row.speedup_threads()).c_str(),
                  times(row.speedup(Rival::eigen)).c_str(), times(row.speedup(Rival::onednn)).c_str());
    if (!row.note.empty()) {
        line += "    note: " + row.note + "\n";
    }
    return line;
}

}  // namespace bench::backward
