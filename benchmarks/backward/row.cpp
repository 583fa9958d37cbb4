#include "row.hpp"

#include <algorithm>

namespace bench::backward {

double Row::roofline_seconds() const { return std::max(operations / fma_peak, bytes / read_bandwidth); }

double Row::fraction_of_roofline() const { return roofline_seconds() / library.both.median; }

double Row::fraction_of_peak() const { return operations / library.both.median / fma_peak; }

double Row::backward_over_forward() const { return library.backward.median / inference.median; }

double Row::speedup_threads() const { return one_thread.both.median / library.both.median; }

double Row::speedup(Rival rival) const {
    const auto found = rivals.find(rival);
    return found == rivals.end() ? 0.0 : found->second.both.median / library.both.median;
}

double step_operations(const Shape& shape, std::size_t tokens) { return 3 * shape.operations(tokens); }

double step_bytes(const Shape& shape, double distinct_experts) {
    constexpr double times = 4;
    return times * sizeof(float) *
           (distinct_experts * static_cast<double>(shape.expert_weights()) +
            static_cast<double>(shape.shared_weights()));
}

std::string row_name(const Shape& shape, std::size_t tokens) {
    return std::string(shape.name) + "/f32/backward/tokens:" + std::to_string(tokens);
}

}  // namespace bench::backward
