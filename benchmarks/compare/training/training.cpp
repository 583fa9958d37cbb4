#include "training.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <utility>

namespace compare {

namespace {

constexpr double seconds_per_byte = 25e-6;  // of a training on one thread, with its share of measuring

}  // namespace

TrainingPart::TrainingPart(const Trainings& trainings, const bench::Threads& threads)
    : trainings_(trainings),
      threads_(threads),
      text_(trainings.text_file, trainings.plan.run.settings.length),
      finished_(trainings.directory) {
    trainings_.plan.text = &text_;
    for (const TrainedStrategy* strategy : trainings_.strategies) {
        for (const std::uint64_t seed : trainings_.seeds) {
            tasks_.push_back({strategy, seed, finished_.find(*strategy, trainings_.plan, seed), nullptr});
        }
    }
}

double TrainingPart::work() const {
    const trainer::Settings& settings = trainings_.plan.run.settings;
    const auto n = std::ranges::count_if(tasks_, [](const Task& task) { return !task.done; });
    return seconds_per_byte * static_cast<double>(n) *
           static_cast<double>(settings.schedule.n_steps * settings.batch * settings.length) /
           static_cast<double>(threads_.concurrency());
}

void TrainingPart::run(Progress& progress, Report& report) {
    const double total = work();
    const auto missing = static_cast<double>(std::ranges::count_if(tasks_, [](const Task& t) { return !t.done; }));
    if (missing > 0) {
        progress.begin("training");
    }
    std::mutex mutex;
    std::atomic<bool> failed = false;
    threads_.take_turns(tasks_.size(), [&](std::size_t i) {
        Task& task = tasks_[i];
        if (task.done || failed) {
            return;
        }
        try {
            Training training = train(*task.strategy, trainings_.plan, task.seed, [&](double part) {
                const std::lock_guard lock(mutex);
                progress.advance(total * part / missing);
            });
            finished_.keep(*task.strategy, trainings_.plan, task.seed, training);
            task.done = std::move(training);
            const std::lock_guard lock(mutex);
            progress.begin("trained " + std::string(task.strategy->name) + ", seed " + std::to_string(task.seed));
        } catch (...) {  // must not leave the parallel region
            task.error = std::current_exception();
            failed = true;
        }
    });
    for (const Task& task : tasks_) {
        if (task.error) {
            std::rethrow_exception(task.error);
        }
    }
    for (std::size_t i = 0; i < tasks_.size(); i += trainings_.seeds.size()) {
        std::vector<TrainedRow> ends;
        for (std::size_t s = 0; s < trainings_.seeds.size(); ++s) {
            const Training& training = *tasks_[i + s].done;
            ends.push_back(training.end);
            report.training.insert(report.training.end(), training.curve.begin(), training.curve.end());
        }
        report.trained.push_back(mean_of(ends));
    }
}

}  // namespace compare
