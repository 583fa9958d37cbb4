#include "load.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace compare {

void LoadCounter::on_plan(const moe::RoutingRecord<float>& record) {
    const moe::PlanView<float>& plan = record.plan;
    counts.resize(plan.n_experts);
    for (std::size_t e = 0; e < plan.n_experts; ++e) {
        counts[e] += plan.tokens_of(e).size();
    }
    tokens += plan.n_tokens;
    assignments += plan.n_assignments();
    for (std::size_t t = 0; t < plan.n_tokens; ++t) {
        const auto weights = plan.weights_of(t);
        if (!weights.empty()) {
            ++routed_tokens;
            largest_weights += static_cast<double>(*std::ranges::max_element(weights));
        }
    }
    for (std::size_t t = 0; t < record.choices.rows(); ++t) {
        const auto choices = record.choices.row_span(t);
        dropped += static_cast<std::size_t>(
            std::ranges::count_if(choices, [](moe::ExpertId choice) { return choice < moe::no_expert; }));
    }
}

void LoadCounter::add(const LoadCounter& other) {
    counts.resize(std::max(counts.size(), other.counts.size()));
    for (std::size_t e = 0; e < other.counts.size(); ++e) {
        counts[e] += other.counts[e];
    }
    tokens += other.tokens;
    assignments += other.assignments;
    dropped += other.dropped;
    routed_tokens += other.routed_tokens;
    largest_weights += other.largest_weights;
}

double LoadCounter::dropped_share() const {
    const std::size_t choices = assignments + dropped;
    return choices == 0 ? 0.0 : static_cast<double>(dropped) / static_cast<double>(choices);
}

Unevenness unevenness(std::vector<std::size_t> counts) {
    Unevenness result;
    result.share.resize(counts.size());
    const auto n = static_cast<double>(counts.size());
    const auto sum = static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::size_t{0}));
    result.dead = static_cast<double>(std::ranges::count(counts, std::size_t{0}));
    if (sum == 0) {
        return result;
    }
    const double mean = sum / n;
    double squares = 0;
    double entropy = 0;
    for (std::size_t e = 0; e < counts.size(); ++e) {
        const auto count = static_cast<double>(counts[e]);
        result.share[e] = count / sum;
        squares += (count - mean) * (count - mean);
        entropy -= count > 0 ? result.share[e] * std::log(result.share[e]) : 0.0;
    }
    std::ranges::sort(counts);
    for (std::size_t i = 0; i < counts.size(); ++i) {
        result.gini += (2 * static_cast<double>(i + 1) - n - 1) * static_cast<double>(counts[i]) / (n * sum);
    }
    result.max_violation = static_cast<double>(counts.back()) / mean - 1;
    result.variation = std::sqrt(squares / n) / mean;
    result.entropy = counts.size() > 1 ? entropy / std::log(n) : 1.0;
    return result;
}

}  // namespace compare
