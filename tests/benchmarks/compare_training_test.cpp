#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../../benchmarks/compare/figures.hpp"
#include "../../benchmarks/compare/training/training.hpp"
#include "io/support.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::compare_training_test {

/// Trainings of a model so small that a strategy takes milliseconds.
namespace {

using namespace compare;

constexpr std::size_t length = 16;

TrainingPlan small_plan() {
    TrainingPlan plan = training_plan(true);
    plan.run.config.d_model = 16;
    plan.run.config.d_ff = 8;
    plan.run.settings.length = length;
    plan.run.settings.schedule.n_steps = 6;
    plan.n_rows = 3;
    plan.rows_of_measure = 2;
    trainer::complete(plan.run);
    return plan;
}

/// The beginning of the text that is learnt otherwise.
std::string write_text(const TemporaryDirectory& directory) {
    const std::string path = directory.file("text");
    std::ifstream whole(MOE_TEXT_FILE, std::ios::binary);
    std::string beginning(2000, ' ');
    whole.read(beginning.data(), static_cast<std::streamsize>(beginning.size()));
    std::ofstream(path, std::ios::binary) << beginning;
    return path;
}

Trainings small_trainings(const TemporaryDirectory& directory) {
    Trainings trainings{.seeds = {1, 2}, .plan = small_plan(), .text_file = write_text(directory)};
    for (const TrainedStrategy& strategy : trained_strategies()) {
        trainings.strategies.push_back(&strategy);
    }
    return trainings;
}

Report run(const Trainings& trainings, std::size_t n_threads) {
    Report report;
    TrainingPart part(trainings, bench::Threads(n_threads));
    Progress progress(1);
    part.run(progress, report);
    return report;
}

/// All but seconds, NaN included.
bool same_figures(const Report& a, const Report& b) {
    const auto equal = [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); };
    const auto same = [&](const auto& x, const auto& y, const auto& figures) {
        return std::ranges::all_of(figures, [&](const auto& figure) {
            return std::string_view(figure.first) == "seconds" || equal(x.*figure.second, y.*figure.second);
        });
    };
    return std::ranges::equal(a.trained, b.trained,
                              [&](const TrainedRow& x, const TrainedRow& y) {
                                  return x.strategy == y.strategy && x.causal == y.causal && x.seeds == y.seeds &&
                                         x.nll_least == y.nll_least && x.nll_most == y.nll_most &&
                                         same(x, y, trained_figures);
                              }) &&
           std::ranges::equal(a.training, b.training, [&](const TrainingRow& x, const TrainingRow& y) {
               return x.strategy == y.strategy && x.seed == y.seed && x.step == y.step && x.load == y.load &&
                      same(x, y, training_figures);
           });
}

const TrainedRow& find(const Report& report, std::string_view name) {
    const auto found = std::ranges::find(report.trained, name, &TrainedRow::strategy);
    REQUIRE(found != report.trained.end());
    return *found;
}

}  // namespace

TEST_CASE("trainings are the same for any number of threads, and where they were kept", "[compare][training]") {
    const TemporaryDirectory scratch;
    Trainings trainings = small_trainings(scratch);
    const Report expected = run(trainings, 1);
    REQUIRE(expected.trained.size() == trained_strategies().size());
    REQUIRE(expected.training.size() == 2 * 3 * trained_strategies().size());
    CHECK(same_figures(expected, expected));
    trainings.directory = scratch.file("runs");
    CHECK(same_figures(run(trainings, 2), expected));
    // what was kept is read: all is done before it begins, seconds too are those of the trainings
    TrainingPart part(trainings, bench::Threads(1));
    CHECK(part.work() == 0);
    const Report kept = run(trainings, 1);
    CHECK(same_figures(kept, expected));
    CHECK(std::ranges::equal(kept.trained, run(trainings, 2).trained, {}, &TrainedRow::seconds, &TrainedRow::seconds));

    // a damaged file, or one of another plan, is no training that is done
    const std::string one = trainings.directory + "/top-2-1.json";
    REQUIRE(std::filesystem::exists(one));
    std::filesystem::resize_file(one, std::filesystem::file_size(one) / 2);
    CHECK(TrainingPart(trainings, bench::Threads(1)).work() > 0);
    CHECK(same_figures(run(trainings, 1), expected));
    CHECK(TrainingPart(trainings, bench::Threads(1)).work() == 0);
    trainings.plan.run.settings.schedule.n_steps = 7;
    const double all = TrainingPart(trainings, bench::Threads(1)).work();
    trainings.directory.clear();
    CHECK(TrainingPart(trainings, bench::Threads(1)).work() == all);
    CHECK_FALSE(same_figures(run(trainings, 1), expected));
    // fewer steps than rows
    trainings.strategies.resize(1);
    trainings.plan.run.settings.schedule.n_steps = 1;
    const Report shortest = run(trainings, 1);
    REQUIRE(shortest.training.size() == 2);
    CHECK(shortest.training.front().step == 1);
    CHECK(shortest.training.front().nll > 0);
}

TEST_CASE("strategies cost a token the same, and their figures say what they do", "[compare][training]") {
    const TemporaryDirectory scratch;
    const Report report = run(small_trainings(scratch), 2);
    const TrainedRow& dense = find(report, "dense-active");
    const double router = 2.0 * 8 * 16;  // of both layers
    for (const TrainedRow& row : report.trained) {
        INFO(row.strategy);
        CHECK(row.nll > 1);
        CHECK(row.nll < 6);  // a byte at random: log(256) = 5.5
        CHECK(row.nll_least <= row.nll);
        CHECK(row.nll <= row.nll_most);
        CHECK(row.causal == (row.strategy != "expert-choice"));
        // those that compute more or fewer while they learn say so
        const bool other_cost = row.strategy == "dense-total" || row.strategy == "reinmax" ||
                                row.strategy == "switch" || row.strategy == "gshard" || row.strategy == "relu" ||
                                row.strategy == "expert-threshold" || row.strategy == "dense-to-sparse" ||
                                row.strategy == "soft-moe" || row.strategy == "noisy-top-2";
        if (!other_cost) {
            CHECK(std::abs(row.active_parameters - dense.active_parameters) <= router);
        }
        CHECK(row.active_parameters <= row.parameters);
    }
    CHECK(find(report, "dense-total").parameters == dense.parameters + 2 * 3 * 16 * 8 * (8 - 2));
    CHECK(std::abs(find(report, "dense-total").parameters - find(report, "top-2").parameters) <= router);
    CHECK(find(report, "reinmax").experts_per_token == 4);
    CHECK(find(report, "top-2").experts_per_token == 2);
    CHECK(find(report, "switch").dropped > 0);
    CHECK(find(report, "top-2").dropped == 0);
    CHECK(find(report, "top-2").router_norm > 0);
    CHECK(find(report, "hash").router_norm == 0);
    CHECK(std::isnan(find(report, "hash").entropy));
}

TEST_CASE("what is called causal reads no later token", "[compare][training]") {
    const TemporaryDirectory scratch;
    const trainer::Text text(write_text(scratch), length);
    for (const TrainedStrategy& strategy : trained_strategies()) {
        INFO(strategy.name);
        trainer::Run run = small_plan().run;
        const auto routing = strategy.make(run);
        const trainer::Model<float> model(run.config, 3, routing->more_parameters(run.config));
        trainer::Pass<float> pass(model, length, routing->blocks(model, false));
        std::vector<std::int32_t> tokens(text.training().begin(), text.training().begin() + 8 * length);
        const std::vector<std::int32_t> targets(tokens.size(), 'e');
        const auto losses = [&] {
            pass.forward({tokens, targets, 8}, moe::SerialExecutor{});
            const std::span<const double> found = pass.losses(moe::SerialExecutor{});
            return std::vector<double>(found.begin(), found.end());
        };
        const std::vector<double> before = losses();
        const auto later = [](std::size_t t) { return t % length >= length / 2; };
        for (std::size_t t = 0; t < tokens.size(); ++t) {
            if (later(t)) {
                tokens[t] = static_cast<std::int32_t>('a' + t % 26);
            }
        }
        const std::vector<double> after = losses();
        bool same = true;
        bool changed = false;
        for (std::size_t t = 0; t < tokens.size(); ++t) {
            (later(t) ? changed : same) = later(t) ? changed || before[t] != after[t] : same && before[t] == after[t];
        }
        CHECK(changed);
        CHECK(same == strategy.causal);
    }
}

}  // namespace moe_test::compare_training_test
