#include "training_run.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include <moe/parallel/executor.hpp>

#include "../../../examples/train/trainer.hpp"
#include "../figures.hpp"
#include "interval.hpp"

namespace compare {

namespace {

using trainer::Model;
using Clock = std::chrono::steady_clock;

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

/// A routing that is looked at between the passes of a step.
class Watched final : public trainer::Routing<float> {
public:
    Watched(TrainedRouting& inner, std::function<void(const std::vector<moe::Tape<float>*>&)> look)
        : inner_(inner), look_(std::move(look)) {}

    [[nodiscard]] trainer::Blocks<float> make_blocks(const Model<float>& model) override {
        return inner_.blocks(model, true);
    }
    void begin_step(std::uint64_t step) override { inner_.begin_step(step); }
    [[nodiscard]] bool needs_counts(const trainer::Settings& settings) const override {
        return inner_.needs_counts(settings);
    }
    void add_losses(const trainer::RoutedBatch<float>& batch, trainer::Step& step) override {
        look_(batch.tapes);
        inner_.add_losses(batch, step);
    }
    void end_step(const trainer::Step& step) override { inner_.end_step(step); }

private:
    TrainedRouting& inner_;
    std::function<void(const std::vector<moe::Tape<float>*>&)> look_;
};

/// The gradients of the parameters whose name has `part`.
moe::GradientViews<float> gradients_of(const Model<float>& model, std::string_view part) {
    moe::GradientViews<float> views;
    for (const moe::Parameter<float>& parameter : model.parameters().all()) {
        if (parameter.info().name.find(part) != std::string::npos) {
            views.add(parameter.gradient());
        }
    }
    return views;
}

/// What both kinds of rows say of the routing.
template <class Row>
void describe(const Interval& interval, Row& row) {
    row.max_violation = interval.max_violation();
    row.entropy = interval.entropy();
    row.dead = interval.dead();
    row.dropped = interval.dropped();
    row.experts_per_token = interval.experts_per_token();
    row.router_norm = interval.router_norm();
    row.expert_norm = interval.expert_norm();
}

/// One strategy, model and seed, from first weights to the last step.
class TrainingRun {
public:
    TrainingRun(const TrainedStrategy& strategy, const TrainingPlan& plan, std::uint64_t seed)
        : plan_(plan),
          run_(with_seed(plan.run, seed)),
          routing_(strategy.make(run_)),
          model_(run_.config, seed, routing_->more_parameters(run_.config)),
          watched_(*routing_, [this](const auto& tapes) { watch(tapes); }),
          trainer_(model_, run_.settings, watched_),
          reader_(model_, run_.settings.length, routing_->blocks(model_, false)),
          routers_(gradients_of(model_, "gate.weight")),
          experts_(gradients_of(model_, "mlp.experts")),
          sequences_(run_.settings.length) {
        training_.end.strategy = strategy.name;
        training_.end.causal = strategy.causal;
        training_.end.seeds = 1;
        row_.strategy = strategy.name;
        row_.seed = seed;
    }

    Training run(const std::function<void(double)>& advance) {
        const std::uint64_t n_steps = run_.settings.schedule.n_steps;
        const std::size_t n_rows = std::min<std::size_t>(plan_.n_rows, n_steps);
        for (std::size_t i = 1; i <= n_rows; ++i) {
            const bool measured = i % plan_.rows_of_measure == 0 || i == n_rows;
            while (trainer_.steps_done() < n_steps * i / n_rows) {
                step();
            }
            add_row(measured);
            advance(1 / static_cast<double>(n_rows));
        }
        finish();
        return std::move(training_);
    }

private:
    static trainer::Run with_seed(trainer::Run run, std::uint64_t seed) {
        run.settings.seed = seed;
        return run;
    }

    [[nodiscard]] std::size_t step_bytes() const { return run_.settings.batch * run_.settings.length; }

    void watch(const std::vector<moe::Tape<float>*>& tapes) {
        since_row_.watch(tapes);
        if (in_last_tenth()) {
            last_tenth_.watch(tapes);
        }
    }
    [[nodiscard]] bool in_last_tenth() const {
        return 10 * (trainer_.steps_done() + 1) > 9 * run_.settings.schedule.n_steps;
    }

    void step() {
        const bool last = in_last_tenth();
        const trainer::Settings& settings = run_.settings;
        trainer::draw(plan_.text->training(), settings.seed, trainer_.steps_done(), settings.batch, settings.length,
                      sequences_);
        trainer::Batch batch = sequences_.batch();
        batch.first_position = trainer_.steps_done() * step_bytes();
        const Clock::time_point start = Clock::now();
        trainer::Step step = trainer_.compute_gradients(batch, moe::SerialExecutor{});
        const double router_norm = std::sqrt(moe::squared_norm(routers_));
        const double expert_norm = std::sqrt(moe::squared_norm(experts_));
        trainer_.update(step, moe::SerialExecutor{});
        seconds_.push_back(std::chrono::duration<double>(Clock::now() - start).count());
        since_row_.add(step, router_norm, expert_norm);
        if (last) {
            last_tenth_.add(step, router_norm, expert_norm);
        }
    }

    /// Weights that a byte is multiplied with.
    [[nodiscard]] double active_weights(const Interval& interval) const {
        const trainer::Config& config = run_.config;
        const double of_expert = static_cast<double>(3 * config.d_ff * config.d_model);
        const double layers = static_cast<double>(config.n_layers);
        const double rows = routing_->rows_per_token() > 0 ? routing_->rows_per_token() : interval.experts_per_token();
        return static_cast<double>(model_.n_weights() - model_.embedding().value().size()) +
               layers * of_expert * (rows - static_cast<double>(config.n_experts));
    }

    void add_row(bool measured) {
        const Interval interval = std::exchange(since_row_, {});
        row_.step = trainer_.steps_done();
        row_.operations += 6 * active_weights(interval) * static_cast<double>(interval.n_steps() * step_bytes());
        row_.seconds = median_seconds() * static_cast<double>(row_.step);
        row_.loss = interval.loss();
        row_.nll = measured ? trainer::evaluate(reader_, plan_.text->held_out(), run_.settings.length,
                                                run_.settings.batch, moe::SerialExecutor{})
                            : unknown;
        describe(interval, row_);
        row_.load = interval.load();
        training_.curve.push_back(row_);
    }

    /// Of one step: the rest of the machine may disturb some.
    [[nodiscard]] double median_seconds() const {
        std::vector<double> sorted = seconds_;
        const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
        std::nth_element(sorted.begin(), middle, sorted.end());
        return *middle;
    }

    void finish() {
        TrainedRow& end = training_.end;
        end.nll = end.nll_least = end.nll_most = row_.nll;
        end.train_nll = last_tenth_.loss();
        end.parameters = static_cast<double>(model_.n_weights());
        end.active_parameters = active_weights(last_tenth_);
        end.operations = row_.operations;
        end.seconds = median_seconds() * static_cast<double>(seconds_.size());
        for (TrainingRow& row : training_.curve) {
            row.seconds = median_seconds() * static_cast<double>(row.step);
        }
        describe(last_tenth_, end);
    }

    const TrainingPlan& plan_;
    trainer::Run run_;
    std::unique_ptr<TrainedRouting> routing_;
    Model<float> model_;
    Watched watched_;
    trainer::Trainer<float> trainer_;
    trainer::Pass<float> reader_;
    moe::GradientViews<float> routers_;
    moe::GradientViews<float> experts_;
    trainer::Sequences sequences_;
    Interval since_row_;
    Interval last_tenth_;
    std::vector<double> seconds_;  ///< of each step
    TrainingRow row_;
    Training training_;
};

}  // namespace

TrainingPlan training_plan(bool quick) {
    TrainingPlan plan;
    plan.run = trainer::default_run();
    plan.run.config.d_ff = 128;
    plan.run.config.n_layers = 2;
    plan.run.settings.batch = 8;
    plan.run.settings.schedule.rate = 2e-3;  // 5e-3 and 1e-3 end higher, with dense and with top-2, and scatter more
    plan.run.settings.schedule.n_steps = quick ? 20 : 1000;
    if (quick) {
        plan.n_rows = 5;
        plan.rows_of_measure = 5;
    }
    trainer::complete(plan.run);
    return plan;
}

Training train(const TrainedStrategy& strategy, const TrainingPlan& plan, std::uint64_t seed,
               const std::function<void(double)>& advance) {
    return TrainingRun(strategy, plan, seed).run(advance);
}

TrainedRow mean_of(const std::vector<TrainedRow>& seeds) {
    TrainedRow mean = seeds.front();
    mean.seeds = seeds.size();
    for (const auto& [name, member] : trained_figures) {
        double sum = 0;
        for (const TrainedRow& row : seeds) {
            sum += row.*member;
        }
        mean.*member = sum / static_cast<double>(seeds.size());
    }
    for (const TrainedRow& row : seeds) {
        mean.nll_least = std::min(mean.nll_least, row.nll);
        mean.nll_most = std::max(mean.nll_most, row.nll);
    }
    return mean;
}

}  // namespace compare
