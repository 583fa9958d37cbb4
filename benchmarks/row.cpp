#include "row.hpp"

#include <algorithm>
#include <cmath>

namespace bench {

Statistics::Statistics(std::vector<double> values) : samples(values.size()) {
    if (values.empty()) {
        return;
    }
    std::ranges::sort(values);
    const std::size_t n = values.size();
    min = values.front();
    median = (values[(n - 1) / 2] + values[n / 2]) / 2;
    p95 = values[static_cast<std::size_t>(std::ceil(0.95 * static_cast<double>(n))) - 1];
}

double Row::peak() const {
    return compute == Compute::bf16 && bfloat16_peak > 0 ? bfloat16_peak : fma_peak * info(compute).peak;
}

double Row::roofline_seconds() const { return std::max(operations / peak(), weight_bytes / read_bandwidth); }

double Row::fraction_of_roofline() const { return roofline_seconds() / seconds.median; }

double Row::fraction_of_peak() const { return operations / seconds.median / peak(); }

double Row::fraction_of_read() const { return weight_bytes / seconds.median / read_bandwidth; }

double Row::speedup_threads() const { return one_thread.median / seconds.median; }

double Row::one_expert_slowdown() const { return one_expert.median / seconds.median; }

double Row::speedup(Rival rival) const {
    const auto found = rival_seconds.find(rival);
    return found == rival_seconds.end() ? 0.0 : found->second.median / seconds.median;
}

std::string row_name(const Shape& shape, Format format, Compute compute, std::size_t tokens) {
    return std::string(shape.name) + "/" + std::string(info(format).name) + "/" + std::string(info(compute).name) +
           "/tokens:" + std::to_string(tokens);
}

}  // namespace bench
