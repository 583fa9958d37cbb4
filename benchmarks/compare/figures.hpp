#pragma once

#include <array>
#include <utility>

#include "report.hpp"

namespace compare {

/// The figures of a row by name, for whatever treats all of them alike.

template <class Row>
using Figure = std::pair<const char*, double Row::*>;

/// Without least and most of the loss, which are those of the seeds.
inline constexpr std::array trained_figures{
    Figure<TrainedRow>{"nll", &TrainedRow::nll},
    Figure<TrainedRow>{"train_nll", &TrainedRow::train_nll},
    Figure<TrainedRow>{"parameters", &TrainedRow::parameters},
    Figure<TrainedRow>{"active_parameters", &TrainedRow::active_parameters},
    Figure<TrainedRow>{"operations", &TrainedRow::operations},
    Figure<TrainedRow>{"seconds", &TrainedRow::seconds},
    Figure<TrainedRow>{"max_violation", &TrainedRow::max_violation},
    Figure<TrainedRow>{"entropy", &TrainedRow::entropy},
    Figure<TrainedRow>{"dead", &TrainedRow::dead},
    Figure<TrainedRow>{"dropped", &TrainedRow::dropped},
    Figure<TrainedRow>{"experts_per_token", &TrainedRow::experts_per_token},
    Figure<TrainedRow>{"router_norm", &TrainedRow::router_norm},
    Figure<TrainedRow>{"expert_norm", &TrainedRow::expert_norm},
};

inline constexpr std::array training_figures{
    Figure<TrainingRow>{"operations", &TrainingRow::operations},
    Figure<TrainingRow>{"seconds", &TrainingRow::seconds},
    Figure<TrainingRow>{"loss", &TrainingRow::loss},
    Figure<TrainingRow>{"nll", &TrainingRow::nll},
    Figure<TrainingRow>{"max_violation", &TrainingRow::max_violation},
    Figure<TrainingRow>{"entropy", &TrainingRow::entropy},
    Figure<TrainingRow>{"dead", &TrainingRow::dead},
    Figure<TrainingRow>{"dropped", &TrainingRow::dropped},
    Figure<TrainingRow>{"experts_per_token", &TrainingRow::experts_per_token},
    Figure<TrainingRow>{"router_norm", &TrainingRow::router_norm},
    Figure<TrainingRow>{"expert_norm", &TrainingRow::expert_norm},
};

}  // namespace compare
