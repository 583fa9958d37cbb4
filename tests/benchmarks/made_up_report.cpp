#include "made_up_report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string>
#include <tuple>
#include <utility>

#include "made_up_training.hpp"

using namespace compare;

namespace {

struct Strategy {
    const char* name;
    double compute;   ///< share of all experts
    double nll;       ///< nats a byte
    double skew;      ///< of the load
    double overhead;  ///< seconds of routing a token
    double dropped;
    bool causal;
};

constexpr std::array<Strategy, 14> strategies{{
    {"top-1", 0.125, 1.548, 0.9, 2e-7, 0, true},
    {"top-2", 0.25, 1.412, 0.55, 2.1e-7, 0, true},
    {"top-4", 0.5, 1.4095, 0.35, 2.4e-7, 0, true},
    {"top-8", 1, 1.4082, 0.0, 2.9e-7, 0, true},
    {"top-p 0.7", 0.231, 1.4178, 0.5, 3.3e-7, 0, true},
    {"capacity 1.0", 0.221, 1.4893, 0.2, 4.4e-7, 0.117, true},
    {"capacity 1.25", 0.238, 1.4391, 0.3, 4.4e-7, 0.048, true},
    {"expert choice", 0.25, 1.4303, 0.0, 6.2e-7, 0, false},
    {"sinkhorn", 0.25, 1.4262, 0.08, 2.1e-6, 0, false},
    {"base", 0.125, 1.631, 0.0, 3.9e-6, 0, false},
    {"threshold", 0.263, 1.4158, 0.6, 1.9e-7, 0, true},
    {"relu", 0.322, 1.4132, 0.5, 1.8e-7, 0, true},
    {"random", 0.25, 1.917, 0.06, 1.2e-7, 0, true},
    {"round robin", 0.25, 1.924, 0.0, 0.9e-7, 0, true},
}};

/// In [0, 1), the same for the same seed (Knuth, The Art of Computer Programming, 3.3.4: line 26 of table 1).
class Dice {
public:
    explicit Dice(std::uint64_t seed) : state_(seed) {}
    double roll() {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        return static_cast<double>(state_ >> 11U) * 0x1p-53;
    }

private:
    std::uint64_t state_;
};

std::vector<double> load_of(std::size_t experts, double skew, Dice& dice) {
    std::vector<double> load(experts);
    for (double& share : load) {
        share = std::exp(skew * 2.4 * (dice.roll() - 0.5));
    }
    const double sum = std::accumulate(load.begin(), load.end(), 0.0);
    std::ranges::for_each(load, [sum](double& share) { share /= sum; });
    return load;
}

double variation_of(const std::vector<double>& load) {
    double squares = 0;
    for (const double share : load) {
        squares += std::pow(share * static_cast<double>(load.size()) - 1, 2);
    }
    return std::sqrt(squares / static_cast<double>(load.size()));
}

double violation_of(const std::vector<double>& load) {
    return *std::ranges::max_element(load) * static_cast<double>(load.size()) - 1;
}

double entropy_of(const std::vector<double>& load) {
    double sum = 0;
    for (const double share : load) {
        sum -= share > 0 ? share * std::log(share) : 0;
    }
    return sum / std::log(static_cast<double>(load.size()));
}

SpeedRow speed_row(const Strategy& strategy, const char* shape, double cost, double experts, std::size_t tokens,
                   Dice& dice) {
    const auto count = static_cast<double>(tokens);
    SpeedRow row;
    row.strategy = strategy.name;
    row.shape = shape;
    row.tokens = tokens;
    const double reads = std::min(experts, 1 + 0.9 * count * strategy.compute * 8);
    const double products = cost * (reads * 2e-5 + count * strategy.compute * 6e-5) * (0.96 + 0.08 * dice.roll());
    row.route_seconds = 4e-6 + count * (strategy.overhead * 3 + 4e-7 * cost);
    row.dispatch_seconds = 1e-6 + count * 1.1e-7;
    row.hidden_seconds = products * 0.65;
    row.output_seconds = products * 0.35;
    row.seconds.median = (row.route_seconds + row.dispatch_seconds + products) * 1.01;
    row.seconds.min = row.seconds.median * 0.96;
    row.noisy = dice.roll() < 0.06;
    row.seconds.p95 = row.seconds.median * (row.noisy ? 1.9 : 1.07);
    row.tokens_per_second = count / row.seconds.median;
    row.speedup_active = (0.6 + 0.35 * count / 512) * (0.9 + 0.1 * dice.roll());
    row.speedup_total = row.speedup_active * 0.9 / strategy.compute;
    row.active_experts = std::round(reads);
    row.load_median = std::ceil(count * 2 / experts);
    row.load_min = std::floor(row.load_median * (1 - strategy.skew / 2));
    row.load_max = std::ceil(row.load_median * (1 + strategy.skew * 3));
    return row;
}

void add_balance(Report& report, const Strategy& strategy, const char* input, int layer, std::size_t experts,
                 double skew, Dice& dice) {
    BalanceRow row;
    row.strategy = strategy.name;
    row.input = input;
    row.layer = layer;
    row.tokens = 512;
    row.experts = experts;
    row.load = load_of(experts, skew, dice);
    if (skew > 1.2) {
        row.load[0] += row.load[1];
        row.load[1] = 0;
    }
    row.max_violation = violation_of(row.load);
    row.variation = variation_of(row.load);
    row.gini = row.variation / 2;
    row.entropy = entropy_of(row.load);
    row.dead = static_cast<double>(std::ranges::count(row.load, 0.0));
    row.dropped = strategy.dropped * (layer < 0 ? 2 : 1);
    row.experts_per_token = strategy.compute * 8;
    row.confidence = 0.45 + 0.3 * dice.roll();
    report.balance.push_back(std::move(row));
}

void add_collapse(Report& report) {
    for (const char* const run : {"without balancing", "with sign bias", "balanced but dead"}) {
        Dice dice(7);
        const bool balanced = run != std::string("without balancing");
        const bool dead = run == std::string("balanced but dead");
        for (std::size_t step = 0; step < 80; ++step) {
            const double pull = balanced ? std::exp(-static_cast<double>(step) / 14) : 1.0;
            CollapseRow row;
            row.run = run;
            row.step = step;
            row.load = load_of(8, 0.1 + 0.15 * pull, dice);
            for (double& share : row.load) {
                share *= 1 - 0.6 * pull;
            }
            row.load[3] += 0.6 * pull;
            row.max_violation = violation_of(row.load);
            row.variation = variation_of(row.load);
            row.effective = std::exp(entropy_of(row.load) * std::log(8.0));
            row.loss = 0.05 + (dead ? 0.4 : 0.85 * pull);
            row.router_norm = dead ? 0 : 0.01 + 0.3 * pull * dice.roll();
            report.collapse.push_back(std::move(row));
        }
    }
}

struct CostedModel {
    const char* name;
    const char* kind;
    std::size_t layers;
    std::size_t experts;
    double per_token;
    double total;   ///< parameters
    double active;  ///< parameters
};

constexpr const char* costed_script = "<b>&amp;</b></script><script>throw new Error('escaped')</script>";

constexpr std::array<CostedModel, 6> costed_models{{
    {"small", "published", 24, 32, 8, 1.33e9, 0.43e9},
    {"middle", "published", 32, 8, 2, 46.7e9, 12.9e9},
    {"large", "published", 58, 256, 8, 671.0e9, 37.2e9},
    {costed_script, "published", 16, 64, 6.5, 6.9e9, 1.28e9},
    {"preset", "layer", 1, 16, 2, 0.39e9, 0.05e9},
    {"8 experts", "reported", 0, 8, 2, 220e9, 55e9},
}};

DemandOfToken demand(double parameters_read, double parameters, double bytes, double tokens,
                     const CostMachine& machine) {
    DemandOfToken result{.bytes = parameters_read * bytes / tokens, .flops = 2 * parameters};
    const double seconds = std::max(result.bytes / machine.bytes_per_second, result.flops / machine.flops_per_second);
    result.tokens_per_second = 1 / seconds;
    return result;
}

CostRow cost_row(const CostedModel& model, const char* format, double bytes, std::size_t count,
                 const CostMachine& machine) {
    const auto tokens = static_cast<double>(count);
    const double part = 1 - std::pow(1 - model.per_token / static_cast<double>(model.experts), tokens);
    CostRow row{.model = model.name, .kind = model.kind, .format = format, .tokens = count, .experts = model.experts};
    row.distinct_experts = part * static_cast<double>(model.experts);
    const double read = count == 1 ? model.active : std::max(model.active, part * model.total);
    row.mixture = demand(read, model.active, bytes, tokens, machine);
    row.active = demand(model.active, model.active, bytes, tokens, machine);
    row.total = demand(model.total, model.total, bytes, tokens, machine);
    row.speedup_active = row.mixture.tokens_per_second / row.active.tokens_per_second;
    row.speedup_total = row.mixture.tokens_per_second / row.total.tokens_per_second;
    row.fits = model.total * bytes < machine.memory_bytes;
    return row;
}

}  // namespace

Report costs_report() {
    Report report;
    report.context = {{"cpu", "Intel Xeon Processor, 2 x 2.10 GHz"}, {"figures", costed_script}};
    const CostMachine machine{2, 21.3e9, 180e9, 720e9, 34e9};
    report.cost_machine = {machine};
    for (const CostedModel& model : costed_models) {
        CostModelRow row{.model = model.name, .kind = model.kind, .layers = model.layers, .experts = model.experts};
        row.experts_per_token = model.per_token;
        row.d_model = model.layers == 0 ? 0 : 4096;
        row.d_ff = model.layers == 0 ? 0 : 1408;
        row.total_parameters = model.total;
        row.active_parameters = model.active;
        row.expert_share = 1.0 - 1.0 / 3 * model.active / model.total;
        row.bytes_f32 = 4 * model.total;
        row.bytes_bf16 = 2 * model.total;
        row.bytes_f16 = 2 * model.total;
        row.bytes_int8 = 34.0 / 32 * model.total;
        row.bytes_int4 = 18.0 / 32 * model.total;
        row.presets = model.experts == 8 ? "one another" : "";
        row.shapes = model.experts == 8 ? "" : "shape-8x7b";
        row.note = model.layers == 0 ? "reported, not confirmed; two, a \"guess\"" : "";
        report.cost_models.push_back(row);
        for (const auto& [format, bytes] : {std::pair{"f32", 4.0}, {"bf16", 2.0}}) {
            for (const std::size_t tokens : {1U, 8U, 64U}) {
                report.cost.push_back(cost_row(model, format, bytes, tokens, machine));
            }
        }
    }
    return report;
}

Report made_up_report() {
    Report report;
    report.context = {{"cpu", "Intel Xeon Processor, 2 x 2.10 GHz, AVX-512 with VNNI"},
                      {"compiler", "GNU 12.2.0, -O3 -DNDEBUG -march=native"},
                      {"moe", "0.4.0, xsimd 12.1.1"},
                      {"threads, seed", "2, 1"},
                      {"figures", "made up"}};
    Dice dice(1);
    for (const auto& [shape, cost, experts] : {std::tuple{"mixtral-8x7b", 9.0, 8.0}, {"qwen3-30b-a3b", 1.0, 128.0}}) {
        for (const std::size_t tokens : {1U, 64U, 512U}) {
            for (const Strategy& strategy : strategies) {
                report.speed.push_back(speed_row(strategy, shape, cost, experts, tokens, dice));
            }
        }
    }
    for (const Strategy& strategy : strategies) {
        for (int layer = 0; layer < 4; ++layer) {
            add_balance(report, strategy, "tiny-mixtral", layer, 8, strategy.skew, dice);
        }
        add_balance(report, strategy, "zipf", -1, 32, strategy.skew * 2, dice);
        add_balance(report, strategy, "one-hot", -1, 32, strategy.skew * 3, dice);
        report.quality.push_back({strategy.name, strategy.nll, strategy.compute, strategy.dropped, strategy.causal});
    }
    add_collapse(report);
    add_training(report);
    return report;
}

Report untrained_report() {
    Report report = made_up_report();
    report.trained.clear();
    report.training.clear();
    return report;
}

Report awkward_report() {
    using Limits = std::numeric_limits<double>;
    const std::string script = "</script><script>throw new Error('escaped')</script>";
    const std::string markup = "<b title=\"x\">&amp; & 'y'</b>, <!-- --> \"quoted\"";
    const std::string unicode = "t\xC3\xB6p-\xE2\x82\x82 \xE5\xB0\x82\xE5\xAE\xB6";
    const std::string broken = "not utf-8: \xC3( \xFF end";
    const std::string controls = "a\tb\nc\x1b[31m\x7f";
    Report report;
    report.context = {{"cpu", script}, {"__proto__", markup}, {"cpu", controls}, {unicode, broken}, {"", ""}};
    for (const std::string& name : {script, markup, unicode, broken, controls, std::string("__proto__")}) {
        SpeedRow speed;
        speed.strategy = name;
        speed.shape = name == script ? script : "constructor";
        speed.tokens = name == unicode ? 1 : 4096;
        speed.seconds = {Limits::denorm_min(), 0.1 + 0.2, 1e9};
        speed.route_seconds = 1.0 / 3;
        speed.tokens_per_second = name == broken ? 0 : 123456789.125;
        speed.speedup_active = 9.996;
        speed.load_max = 4096;
        speed.noisy = name != unicode;
        report.speed.push_back(speed);
        BalanceRow balance;
        balance.strategy = name;
        balance.input = markup;
        balance.layer = name == markup ? 3 : -1;
        balance.gini = Limits::epsilon();
        balance.entropy = -0.0;
        balance.load = name == unicode ? std::vector<double>{} : std::vector<double>{0.1, 0, 2.0 / 3, 1e-300};
        report.balance.push_back(balance);
        report.quality.push_back(
            {name, name == markup ? Limits::max() / 4 : 1.5, name == broken ? 0.0 : 0.25, 1, false});
    }
    report.collapse.push_back({.run = markup, .load = {}});
    for (const std::string& name : {script, markup, broken, std::string("__proto__")}) {
        TrainedRow trained;
        trained.strategy = name;
        trained.causal = name != markup;
        trained.seeds = 1;
        trained.nll = name == broken ? Limits::quiet_NaN() : 1.5;
        trained.nll_least = trained.nll_most = trained.nll;
        trained.parameters = Limits::max() / 4;
        trained.seconds = Limits::denorm_min();
        report.trained.push_back(trained);
        for (const std::size_t step : {0U, 7U}) {
            TrainingRow row;
            row.strategy = name;
            row.step = step;
            row.loss = name == script ? Limits::infinity() : 2;
            row.nll = name == markup ? 1e300 : step == 0 ? Limits::quiet_NaN() : 2.5;
            row.expert_norm = Limits::epsilon();
            row.load = name == broken ? std::vector<double>{} : std::vector<double>{0, 1};
            report.training.push_back(row);
        }
    }
    return report;
}
