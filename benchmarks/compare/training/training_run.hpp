#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "../../../examples/train/data.hpp"
#include "../../../examples/train/run.hpp"
#include "../report.hpp"
#include "trained_strategies.hpp"

namespace compare {

/// What all strategies learn, from what and how long.
struct TrainingPlan {
    trainer::Run run;  ///< model and settings of top-2, which strategies change
    const trainer::Text* text = nullptr;
    std::size_t n_rows = 20;          ///< of a curve, or as many as there are steps
    std::size_t rows_of_measure = 4;  ///< of which one has the loss on held-out text, the last among them
};

/// The plan of `compare --train`, or of --quick, without its text.
[[nodiscard]] TrainingPlan training_plan(bool quick);

/// One training: its curve, and where it ended as a row of one seed.
struct Training {
    TrainedRow end;
    std::vector<TrainingRow> curve;
};

/// Trains a model with a strategy from `seed`, which first weights, batches and draws depend on, on the calling thread
/// alone. Only seconds depend on the machine. `advance` is told of each part of the work that is done, of 1 in all.
[[nodiscard]] Training train(const TrainedStrategy& strategy, const TrainingPlan& plan, std::uint64_t seed,
                             const std::function<void(double)>& advance);

/// The rows of one strategy's seeds as one: means, and least and most of the loss.
[[nodiscard]] TrainedRow mean_of(const std::vector<TrainedRow>& seeds);

}  // namespace compare
