#pragma once

#include "../../benchmarks/compare/report.hpp"

/// 14 strategies, 3 token counts, 2 shapes, 4 layers of 8 experts, 3 runs of 80 steps, and trained strategies
/// (made_up_training.hpp): as a comparison might find them.
compare::Report made_up_report();

/// The same without training.
compare::Report untrained_report();

/// Costs of three published models, one layer and a reported one, in two formats with 1, 8 and 64 tokens; a name that
/// must be escaped, and one of each note, preset and shape.
compare::Report costs_report();

/// Names that must be escaped, bytes that are no UTF-8, the least and largest figures, lists that are empty.
compare::Report awkward_report();
