#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "cost_models.hpp"
#include "options.hpp"
#include "report.hpp"

namespace compare {

/// What a mixture of experts costs and gains against dense models, for all named models, in all formats: sizes, then
/// bytes, operations and the speed that the limits of this machine allow, for each number of tokens of the options.
/// Takes a second or two, which are those of the probes.
[[nodiscard]] Report compare_costs(const Options& options);

/// The limits of this machine: the best of many turns of the benchmark's probes, since what disturbs them only takes
/// away.
[[nodiscard]] CostMachine measure_machine(std::size_t threads, bool quick);

/// Rows of the models, in their order.
[[nodiscard]] std::vector<CostModelRow> cost_model_rows(std::span<const CostedModel> models);

/// Rows by model, format and number of tokens. Every weight is in the format; what no batch of weights shows is not
/// counted: activations, the cache of attention and its products.
[[nodiscard]] std::vector<CostRow> cost_rows(std::span<const CostedModel> models, std::span<const std::size_t> tokens,
                                             const CostMachine& machine);

}  // namespace compare
