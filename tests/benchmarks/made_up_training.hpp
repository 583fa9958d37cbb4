#pragma once

#include "../../benchmarks/compare/report.hpp"

/// Adds 10 strategies, three of them not causal, that were trained with 3 seeds each: 12 rows of a training, of which
/// every third knows its held-out text. "top-2" and "relu" lie closer together than their seeds; "dense" and "top-2"
/// have as many active parameters.
void add_training(compare::Report& report);
