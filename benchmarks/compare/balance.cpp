#include "balance.hpp"

#include <algorithm>
#include <string>

#include <moe/core/random.hpp>

#include "load.hpp"

namespace compare {

namespace {

constexpr double seconds_per_logit = 30e-9;

double work_of(const RoutedInput& input) {
    return seconds_per_logit * static_cast<double>(input.tokens) * static_cast<double>(input.experts);
}

BalanceRow row_of(const Strategy& strategy, const RoutedInput& input, const moe::AnyGate& gate) {
    LoadCounter load;
    input.route(gate, load);
    Unevenness figures = unevenness(load.counts);
    BalanceRow row;
    row.strategy = strategy.name;
    row.input = input.name;
    row.layer = input.layer;
    row.tokens = input.tokens;
    row.experts = input.experts;
    row.max_violation = figures.max_violation;
    row.variation = figures.variation;
    row.gini = figures.gini;
    row.entropy = figures.entropy;
    row.dead = figures.dead;
    row.dropped = load.dropped_share();
    row.experts_per_token = static_cast<double>(load.assignments) / static_cast<double>(input.tokens);
    row.confidence = load.largest_weights / static_cast<double>(std::max<std::size_t>(1, load.routed_tokens));
    row.load = std::move(figures.share);
    return row;
}

}  // namespace

std::vector<BalanceRow> measure_balance(std::span<const RoutedInput> inputs, std::span<const std::vector<float>> biases,
                                        std::span<const Strategy* const> strategies, std::uint64_t seed,
                                        Progress& progress) {
    std::vector<BalanceRow> rows;
    for (const Strategy* strategy : strategies) {
        progress.begin("balance", std::string(strategy->name));
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            const Setting setting{inputs[i].experts, inputs[i].top_k, moe::random_bits(seed, i), biases[i]};
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
