#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "../../../examples/train/run.hpp"
#include "routing.hpp"

namespace compare {

/// A way to choose experts that a model is trained with.
struct TrainedStrategy {
    std::string_view name;
    std::string_view description;
    bool causal = true;  ///< of the model that reads: a token's experts don't depend on later tokens

    /// Routing for a model of run.config, whose sizes and settings it may change first: dense models have one expert.
    /// The cost of a token stays what it is, on average over a batch.
    std::unique_ptr<TrainedRouting> (*make)(trainer::Run& run);
};

/// All that are compared. One takes part by its line in trained_strategies.cpp.
[[nodiscard]] std::span<const TrainedStrategy> trained_strategies() noexcept;

}  // namespace compare
