#include "balance.hpp"

#include <string>

#include <moe/core/random.hpp>
#include <moe/stats.hpp>

#include "load_shares.hpp"

namespace compare {

namespace {

constexpr double seconds_per_logit = 30e-9;

double work_of(const RoutedInput& input) {
    return seconds_per_logit * static_cast<double>(input.tokens) * static_cast<double>(input.experts);
}

BalanceRow row_of(const Strategy& strategy, const RoutedInput& input, const moe::AnyGate& gate) {
    moe::RouterStats<float> stats(input.experts);
    input.route(gate, stats);
    const moe::LoadSummary load = moe::load_summary(stats.load());
    BalanceRow row;
    row.strategy = strategy.name;
    row.input = input.name;
    row.layer = input.layer;
    row.tokens = input.tokens;
    row.experts = input.experts;
    row.max_violation = load.max_violation;
    row.variation = load.variation;
    row.gini = load.gini;
    row.entropy = load.entropy;
    row.dead = static_cast<double>(load.dead_experts);
    row.dropped = stats.drop_rate();
    row.experts_per_token = stats.mean_experts_per_token();
    row.confidence = stats.mean_largest_weight();
    row.load = load_shares(stats.load());
    return row;
}

}  // namespace

std::vector<BalanceRow> measure_balance(std::span<const RoutedInput> inputs, std::span<const Calibration> calibrations,
                                        std::span<const Strategy* const> strategies, std::uint64_t seed,
                                        Progress& progress) {
    std::vector<BalanceRow> rows;
    for (const Strategy* strategy : strategies) {
        progress.begin("balance", std::string(strategy->name));
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            const Setting setting{inputs[i].experts, inputs[i].top_k, moe::random_bits(seed, i), calibrations[i].bias,
                                  calibrations[i].thresholds};
            if (const auto gate = strategy->make(setting)) {
                rows.push_back(row_of(*strategy, inputs[i], *gate));
            }
            progress.advance(work_of(inputs[i]));
        }
    }
    return rows;
}

double balance_work(std::span<const RoutedInput> inputs, std::size_t n_strategies) {
    double work = 0;
    for (const RoutedInput& input : inputs) {
        work += work_of(input) * static_cast<double>(n_strategies);
    }
    return work;
}

}  // namespace compare
