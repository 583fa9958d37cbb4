#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "training_run.hpp"

namespace compare {

/// A folder in which trainings that are done stay, so that a comparison which was stopped goes on where it was. One
/// file each, all or nothing.
class FinishedTrainings {
public:
    /// An empty `directory`: nothing is kept. Throws moe::Error(file) where it cannot be made.
    explicit FinishedTrainings(std::string directory);

    /// What `keep` was given for the same plan, build of the library, strategy and seed; nothing where there is no such
    /// file, or it is damaged: the training is then done again.
    [[nodiscard]] std::optional<Training> find(const TrainedStrategy& strategy, const TrainingPlan& plan,
                                               std::uint64_t seed) const;

    /// Throws moe::Error(file).
    void keep(const TrainedStrategy& strategy, const TrainingPlan& plan, std::uint64_t seed,
              const Training& training) const;

private:
    [[nodiscard]] std::string path(const TrainedStrategy& strategy, std::uint64_t seed) const;

    std::string directory_;
};

}  // namespace compare
