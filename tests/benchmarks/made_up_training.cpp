#include "made_up_training.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

using namespace compare;

namespace {

struct Trained {
    const char* name;
    double nll;        ///< where the mean of its seeds ends
    double per_token;  ///< experts
    double skew;       ///< of the load at the end
    double dropped;
    std::size_t experts;
    bool causal;
};

constexpr std::array<Trained, 10> all_trained{{
    {"dense", 1.694, 1, 0, 0, 1, true},
    {"top-1", 1.641, 1, 0.5, 0, 8, true},
    {"top-2", 1.602, 2, 0.24, 0, 8, true},
    {"top-4", 1.655, 4, 0.12, 0, 8, true},
    {"expert choice", 1.588, 2, 0, 0, 8, false},
    {"sinkhorn", 1.613, 2, 0.05, 0, 8, false},
    {"base", 1.668, 1, 0, 0, 8, false},
    {"threshold", 1.63, 1.9, 0.31, 0, 8, true},
    {"relu", 1.6045, 2.1, 0.7, 0, 8, true},
    {"switch 1.25", 1.679, 1, 0.33, 0.071, 8, true},
}};

constexpr std::size_t n_seeds = 3;
constexpr std::size_t n_points = 12;
constexpr std::size_t steps_a_point = 50;
constexpr std::array<double, n_seeds> of_seed{-0.004, 0.001, 0.003};  // nats; their sum is 0

double active_of(const Trained& strategy) {
    return strategy.experts == 1 ? 150'000.0 : 50'000 + 50'000 * strategy.per_token;
}

/// (experts) with one favourite, which has `skew` of the shares of all others besides its own.
std::vector<double> load_with(std::size_t experts, double skew) {
    std::vector<double> load(experts, (1 - skew) / static_cast<double>(experts));
    load[experts / 3] += skew;
    return load;
}

TrainingRow point_of(const Trained& strategy, std::size_t seed, std::size_t point) {
    const double done = static_cast<double>(point + 1) / static_cast<double>(n_points);
    const double early = std::exp(-5 * done) - std::exp(-5.0);
    TrainingRow row;
    row.strategy = strategy.name;
    row.seed = seed + 1;
    row.step = (point + 1) * steps_a_point;
    row.operations = 6 * active_of(strategy) * 4096 * static_cast<double>(row.step);
    row.seconds = 1e-3 * static_cast<double>(row.step) * (10 + strategy.per_token + 0.1 * static_cast<double>(seed));
    row.loss = strategy.nll + of_seed[seed] - 0.06 + 3.9 * early;
    row.nll = point % 3 == 2 ? strategy.nll + of_seed[seed] + 3.7 * early : std::numeric_limits<double>::quiet_NaN();
    row.load = load_with(strategy.experts, strategy.experts == 1 ? 0 : strategy.skew + 0.25 * early);
    row.max_violation = row.load[strategy.experts / 3] * static_cast<double>(strategy.experts) - 1;
    row.entropy = strategy.experts == 1 ? 1 : 0.95 - 0.5 * done * (1 - strategy.skew);
    row.dead = strategy.skew > 0.6 ? std::floor(3 * done) : 0;
    row.dropped = strategy.dropped * (1 + early);
    row.experts_per_token = strategy.per_token;
    row.router_norm = strategy.experts == 1 ? 0 : 0.02 + 0.3 * early + 0.01 * static_cast<double>(seed);
    row.expert_norm = 0.4 + 1.1 * early;
    return row;
}

}  // namespace

void add_training(Report& report) {
    for (const Trained& strategy : all_trained) {
        TrainedRow mean;
        mean.strategy = strategy.name;
        mean.causal = strategy.causal;
        mean.seeds = n_seeds;
        mean.nll = strategy.nll;
        mean.nll_least = strategy.nll + of_seed.front();
        mean.nll_most = strategy.nll + of_seed.back();
        mean.active_parameters = active_of(strategy);
        mean.parameters = 50'000 + (strategy.experts == 1 ? 100'000.0 : 400'000.0);
        mean.experts_per_token = strategy.per_token;
        mean.dropped = strategy.dropped;
        for (std::size_t seed = 0; seed < n_seeds; ++seed) {
            for (std::size_t point = 0; point < n_points; ++point) {
                report.training.push_back(point_of(strategy, seed, point));
            }
            const TrainingRow& last = report.training.back();
            mean.train_nll += last.loss / n_seeds;
            mean.operations += last.operations / n_seeds;
            mean.seconds += last.seconds / n_seeds;
            mean.max_violation += last.max_violation / n_seeds;
            mean.entropy += last.entropy / n_seeds;
            mean.dead += last.dead / n_seeds;
            mean.router_norm += last.router_norm / n_seeds;
            mean.expert_norm += last.expert_norm / n_seeds;
        }
        report.trained.push_back(mean);
    }
}
