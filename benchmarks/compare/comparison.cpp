#include "comparison.hpp"

#include <chrono>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include <Eigen/Core>

#include "../../examples/command_line/values.hpp"
#include "../formatted.hpp"
#include "../machine.hpp"
#include "balance.hpp"
#include "collapse.hpp"
#include "quality.hpp"
#include "routed_input.hpp"
#include "speed_runs.hpp"
#include "training/training.hpp"

namespace compare {

namespace {

constexpr std::size_t collapse_steps = 600;
constexpr double collapse_seconds = 2;

/// The figures that depend on the seed alone, not on the machine.
struct RoutingPart {
    explicit RoutingPart(const Options& options)
        : model(MOE_MODEL_DIR),
          inputs(model_inputs(model, MOE_MODEL_DIR)),
          text(read_text(MOE_MODEL_DIR "/held_out.txt")),
          threads(options.threads) {
        for (RoutedInput& input : skewed_inputs(options.quick ? 256 : 1024, options.seed)) {
            inputs.push_back(std::move(input));
        }
        if (options.quick) {
            text.resize(2 * window_bytes);
        }
    }

    [[nodiscard]] QualityPlan quality_plan(const Options& options) const {
        return {text, std::span(calibrations).first(model.layers().size()), options.seed};
    }

    [[nodiscard]] double work(const Options& options) const {
        return collapse_seconds + balance_work(inputs, options.strategies.size()) +
               quality_work({text, {}, 0}, options.strategies.size(), threads);
    }

    void measure(const Options& options, Progress& progress, Report& report) {
        progress.begin("collapse");
        report.collapse = collapse(options.seed, collapse_steps);
        progress.advance(collapse_seconds);
        progress.begin("biases and thresholds that balance");
        for (const RoutedInput& input : inputs) {
            calibrations.push_back(calibrate(input));
        }
        report.balance = measure_balance(inputs, calibrations, options.strategies, options.seed, progress);
        report.quality = measure_quality(model, quality_plan(options), options.strategies, threads, progress);
    }

    generate::Model model;
    std::vector<RoutedInput> inputs;  ///< those of the model's layers first
    std::vector<Calibration> calibrations;
    std::vector<std::int32_t> text;
    bench::Threads threads;
};

Trainings trainings(const Options& options) {
    Trainings trainings{.strategies = options.trained,
                        .seeds = std::vector<std::uint64_t>(options.seeds),
                        .plan = training_plan(options.quick),
                        .directory = options.runs};
    std::iota(trainings.seeds.begin(), trainings.seeds.end(), options.seed);
    if (options.steps > 0) {
        trainings.plan.run.settings.schedule.n_steps = options.steps;
        trainer::complete(trainings.plan.run);
    }
    return trainings;
}

/// What was trained, for the context.
std::string training_text(const Options& options) {
    const TrainingPlan plan = trainings(options).plan;
    const trainer::Config& config = plan.run.config;
    const trainer::Settings& settings = plan.run.settings;
    return bench::formatted(
        "%td layers of width %td, %td experts of %td, %td a byte; %zu steps of %zu bytes; seeds %zu", config.n_layers,
        config.d_model, config.n_experts, config.d_ff, config.top_k,
        static_cast<std::size_t>(settings.schedule.n_steps), settings.batch * settings.length, options.seeds);
}

std::vector<std::pair<std::string, std::string>> context(const Options& options, std::size_t text_bytes) {
    auto facts = bench::machine_facts();
    facts.emplace_back("threads", std::to_string(options.threads));
    facts.emplace_back("seed", std::to_string(options.seed));
    facts.emplace_back("shapes",
                       command_line::joined(options.shapes, [](const bench::Shape* shape) { return shape->name; }));
    facts.emplace_back("tokens", command_line::joined(options.tokens, [](std::size_t n) { return std::to_string(n); }));
    facts.emplace_back("distribution", distribution_name(options.distribution));
    facts.emplace_back("weights", "one layer, random, bfloat16, no shared experts");
    facts.emplace_back("quality_text",
                       std::to_string(text_bytes) + " held-out bytes in windows of " + std::to_string(window_bytes));
    if (options.train) {
        facts.emplace_back("training", training_text(options));
    }
    facts.emplace_back("quick", options.quick ? "yes" : "no");
    return facts;
}

}  // namespace

Report compare_strategies(const Options& options) {
    Eigen::setNbThreads(1);  // --threads is about the layers, and Eigen's threads may change bits
    const auto start = std::chrono::steady_clock::now();
    RoutingPart routing(options);
    SpeedRuns speed(options);
    std::optional<TrainingPart> training;
    if (options.train) {
        training.emplace(trainings(options), routing.threads);
    }
    Report report;
    report.context = context(options, routing.text.size());
    if (!speed.left_out().empty()) {
        report.context.emplace_back("left_out", speed.left_out());
    }
    Progress progress(routing.work(options) + speed.work() + (training ? training->work() : 0));
    routing.measure(options, progress, report);
    report.speed = speed.run(progress);
    if (training) {
        training->run(progress, report);
    }
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    report.context.emplace_back("seconds", bench::formatted("%.0f", elapsed.count()));
    return report;
}

}  // namespace compare
