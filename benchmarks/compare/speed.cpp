#include "speed.hpp"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include <moe/stats.hpp>

#include "../probes/clock.hpp"
#include "../row.hpp"
#include "../weights.hpp"
#include "speed_arms.hpp"
#include "speed_check.hpp"
#include "speed_input.hpp"

namespace compare {

namespace {

constexpr double slice = 0.004;    ///< seconds of an arm in a round, at least
constexpr double long_call = 0.5;  ///< seconds: such a call needs fewer repetitions
constexpr std::size_t least_rounds = 3;
constexpr std::size_t usual_rounds = 5;
constexpr std::size_t rounds_of_long_calls = 2;
constexpr double least_seconds = 1;  ///< of all arms of a row: short calls are repeated more often
constexpr double patience = 8;       ///< seconds: rounds beyond the least begin before

/// Times of one arm.
struct Samples {
    std::vector<double> seconds;
    std::vector<double> route;
    std::vector<double> dispatch;
    std::vector<double> hidden;
    std::vector<double> output;
    std::size_t turn = 0;
};

double median(const std::vector<double>& values) { return bench::Statistics(values).median; }

std::vector<float> make_router(const bench::Shape& shape, const bench::Threads& threads) {
    std::vector<float> router(shape.n_experts * shape.d_model);
    bench::fill_stored<float>(threads, bench::WeightStream(0, 0, bench::Matrix::router, shape.d_model), 0, router);
    return router;
}

/// The plan of a call, kept.
class PlanKeeper final : public moe::Observer<float> {
public:
    void on_plan(const moe::RoutingRecord<float>& record) override { plan.assign(record.plan); }
    moe::RoutingPlan<float> plan;
};

void describe_load(const moe::PlanView<float>& plan, SpeedRow& row) {
    std::vector<std::size_t> counts;
    for (std::size_t e = 0; e < plan.n_experts; ++e) {
        counts.push_back(plan.tokens_of(e).size());
    }
    row.load_min = moe::min_load(counts);
    row.load_median = moe::median_load(counts);
    row.load_max = moe::max_load(counts);
    row.active_experts = static_cast<double>(counts.size() - moe::dead_experts(counts));
}

void describe_times(const Samples& samples, SpeedRow& row) {
    const bench::Statistics seconds(samples.seconds);
    row.seconds = {seconds.min, seconds.median, seconds.p95};
    row.route_seconds = median(samples.route);
    row.dispatch_seconds = median(samples.dispatch);
    row.hidden_seconds = median(samples.hidden);
    row.output_seconds = median(samples.output);
    row.tokens_per_second = static_cast<double>(row.tokens) / seconds.median;
    constexpr double spread = 1.5;
    row.noisy = seconds.p95 > spread * seconds.min;
}

}  // namespace

struct SpeedSession::Parts {
    Parts(const bench::Shape& the_shape, const SpeedPlan& the_plan, const bench::Threads& the_threads);

    void check(std::size_t tokens, std::vector<SpeedRow>& rows);
    void rounds(std::size_t tokens, std::vector<Samples>& samples, Progress& progress, double work);
    void one_round(std::size_t tokens, bool backwards, std::vector<Samples>& samples);
    void time(const SpeedArm& arm, std::size_t tokens, Samples& samples);

    [[nodiscard]] SpeedCall call(std::size_t tokens, std::size_t turn) {
        const std::size_t batch = turn % input.batches(tokens);
        return {input.x(tokens, batch), input.ids(tokens, batch), moe::view(y.data(), tokens, shape.d_model)};
    }

    bench::Shape shape;
    SpeedPlan plan;
    bench::Threads threads;
    std::vector<std::unique_ptr<SpeedArm>> arms;  ///< the dense networks first: to pack them takes most room
    std::vector<float> router;
    SpeedBank bank;
    SpeedLayer layer;
    SpeedInput input;
    SpeedCheck checker;
    std::vector<float> y;
    moe::Workspace workspace;
};

namespace {

std::vector<std::unique_ptr<SpeedArm>> dense_arms(const bench::Shape& shape, const bench::Threads& threads) {
    std::vector<std::unique_ptr<SpeedArm>> arms;
    const auto add = [&](std::string_view name, std::size_t n_experts, std::size_t group) {
        arms.push_back(std::make_unique<DenseArm>(
            std::string(name), bench::BankSizes{1, shape.d_model, n_experts * shape.d_ff, group}, threads));
    };
    add(dense_total, shape.n_experts, total_group);
    add(dense_active, shape.top_k, active_group);
    return arms;
}

}  // namespace

SpeedSession::Parts::Parts(const bench::Shape& the_shape, const SpeedPlan& the_plan, const bench::Threads& the_threads)
    : shape(the_shape),
      plan(the_plan),
      threads(the_threads),
      arms(dense_arms(shape, threads)),
      router(make_router(shape, threads)),
      bank({shape.n_experts, shape.d_model, shape.d_ff, expert_group}, moe::Compute::exact, threads),
      layer(moe::Router{moe::view(std::as_const(router).data(), shape.n_experts, shape.d_model), moe::Dense<>{}}.packed(
                threads),
            bank.experts()),
      input(moe::view(std::as_const(router).data(), shape.n_experts, shape.d_model), plan.distribution, plan.tokens,
            plan.seed),
      checker(shape, threads),
      y(*std::ranges::max_element(plan.tokens) * shape.d_model) {
    const Setting setting{shape.n_experts, shape.top_k, plan.seed};
    for (const Strategy* strategy : plan.strategies) {
        if (auto gate = strategy->make(setting)) {
            arms.push_back(std::make_unique<LayerArm>(std::string(strategy->name), layer, std::move(*gate)));
        }
    }
}

/// Every arm once, before anything is timed; makes their rows.
void SpeedSession::Parts::check(std::size_t tokens, std::vector<SpeedRow>& rows) {
    const SpeedCall first = call(tokens, 0);
    checker.begin(first.x);
    for (const auto& arm : arms) {
        SpeedRow row;
        row.strategy = arm->name();
        row.shape = shape.name;
        row.tokens = tokens;
        PlanKeeper keeper;
        arm->run(first, workspace, threads, &keeper);
        if (arm->name() == dense_active) {
            checker.check_dense(arm->name(), shape.top_k * shape.d_ff, active_group, first.y);
        } else if (arm->name() == dense_total) {
            checker.check_dense(arm->name(), shape.n_experts * shape.d_ff, total_group, first.y);
        } else {
            checker.check_layer(arm->name(), keeper.plan, first.y);
            describe_load(keeper.plan, row);
        }
        rows.push_back(std::move(row));
    }
}

void SpeedSession::Parts::time(const SpeedArm& arm, std::size_t tokens, Samples& samples) {
    double spent = 0;
    do {
        const SpeedCall next = call(tokens, samples.turn++);
        moe::PhaseTimer<float> timer;
        const auto phase = [&](moe::Phase which) { return timer.phase(which).total(); };
        samples.seconds.push_back(bench::seconds_of([&] { arm.run(next, workspace, threads, &timer); }));
        samples.route.push_back(phase(moe::Phase::logits) + phase(moe::Phase::gating));
        samples.dispatch.push_back(phase(moe::Phase::plan));
        samples.hidden.push_back(phase(moe::Phase::hidden));
        samples.output.push_back(phase(moe::Phase::output));
        spent += samples.seconds.back();
    } while (spent < slice);
}

void SpeedSession::Parts::one_round(std::size_t tokens, bool backwards, std::vector<Samples>& samples) {
    for (std::size_t i = 0; i < arms.size(); ++i) {
        const std::size_t arm = backwards ? arms.size() - 1 - i : i;
        const auto& seconds = samples[arm].seconds;
        if (seconds.size() < rounds_of_long_calls || seconds.front() < long_call) {
            time(*arms[arm], tokens, samples[arm]);
        }
    }
}

/// `work` of progress is spread over them.
void SpeedSession::Parts::rounds(std::size_t tokens, std::vector<Samples>& samples, Progress& progress, double work) {
    const std::size_t least = plan.quick ? rounds_of_long_calls : least_rounds;
    const std::size_t most = plan.quick ? rounds_of_long_calls : usual_rounds;
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t done = 0;; ++done) {
        const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
        const bool enough = done >= most && (plan.quick || spent.count() > least_seconds);
        if (enough || (done >= least && spent.count() > patience)) {
            progress.advance(work * static_cast<double>(most - std::min(done, most)) / static_cast<double>(most));
            return;
        }
        one_round(tokens, done % 2 == 1, samples);
        progress.advance(done < most ? work / static_cast<double>(most) : 0.0);
    }
}

SpeedSession::SpeedSession(const bench::Shape& shape, const SpeedPlan& plan, const bench::Threads& threads)
    : parts_(std::make_unique<Parts>(shape, plan, threads)) {}

SpeedSession::~SpeedSession() = default;

std::vector<SpeedRow> SpeedSession::measure(std::size_t tokens, Progress& progress) {
    const bench::Shape& shape = parts_->shape;
    progress.begin("speed at " + std::string(shape.name) + ", " + std::to_string(tokens) +
                   (tokens == 1 ? " token" : " tokens"));
    const double all = work(shape, tokens, parts_->plan, parts_->threads);
    constexpr double check_part = 0.25;
    std::vector<SpeedRow> rows;
    parts_->check(tokens, rows);
    progress.advance(check_part * all);
    std::vector<Samples> samples(rows.size());
    parts_->rounds(tokens, samples, progress, (1 - check_part) * all);
    const auto median_of = [&](std::string_view name) {
        const auto found = std::ranges::find(rows, name, &SpeedRow::strategy);
        return median(samples[static_cast<std::size_t>(found - rows.begin())].seconds);
    };
    const double active = median_of(dense_active);
    const double total = median_of(dense_total);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        describe_times(samples[i], rows[i]);
        rows[i].speedup_active = active / rows[i].seconds.median;
        rows[i].speedup_total = total / rows[i].seconds.median;
    }
    return rows;
}

double SpeedSession::bytes(const bench::Shape& shape) {
    const double layer = 2.0 * static_cast<double>(shape.n_experts * shape.expert_weights());
    return 2 * layer + 2.0 * static_cast<double>(shape.top_k * shape.expert_weights());
}

double SpeedSession::work(const bench::Shape& shape, std::size_t tokens, const SpeedPlan& plan,
                          const bench::Threads& threads) {
    const auto flops_per_second = 6e10 * static_cast<double>(threads.concurrency());
    constexpr double bytes_per_second = 1.5e10;
    const auto seconds = [&](std::size_t experts) {  // of a call in which a token takes so many
        const auto touched = static_cast<double>(std::min(shape.n_experts, experts * tokens));
        const auto weights = static_cast<double>(shape.expert_weights());
        return std::max({slice, 2 * weights * static_cast<double>(experts * tokens) / flops_per_second,
                         2 * weights * touched / bytes_per_second});
    };
    const auto n_calls = static_cast<double>(1 + (plan.quick ? rounds_of_long_calls : least_rounds));
    constexpr double n_dense = 2;  // of all experts: the network and the strategy
    return n_calls * static_cast<double>(plan.strategies.size()) * seconds(shape.top_k) +
           static_cast<double>(1 + rounds_of_long_calls) * n_dense * seconds(shape.n_experts);
}

}  // namespace compare
