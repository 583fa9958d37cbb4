#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "../../threads.hpp"
#include "../progress.hpp"
#include "finished_trainings.hpp"

namespace compare {

/// What is trained.
struct Trainings {
    std::vector<const TrainedStrategy*> strategies{};
    std::vector<std::uint64_t> seeds{};
    TrainingPlan plan;        ///< without its text
    std::string directory{};  ///< of FinishedTrainings; or empty
    std::string text_file = MOE_TEXT_FILE;
};

/// Trains a model with each strategy from each seed, as many at once as there are threads, one thread each. Figures but
/// for seconds depend on `trainings` alone. Trainings that were done before are read.
class TrainingPart {
public:
    /// Throws moe::Error: a text or a folder that cannot be used.
    TrainingPart(const Trainings& trainings, const bench::Threads& threads);

    /// In guessed seconds.
    [[nodiscard]] double work() const;

    /// Into `trained` and `training` of the report.
    void run(Progress& progress, Report& report);

private:
    struct Task {
        const TrainedStrategy* strategy;
        std::uint64_t seed;
        std::optional<Training> done;
        std::exception_ptr error;
    };

    Trainings trainings_;
    bench::Threads threads_;
    trainer::Text text_;
    FinishedTrainings finished_;
    std::vector<Task> tasks_;  ///< by strategy, then seed
};

}  // namespace compare
