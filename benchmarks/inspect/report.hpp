#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "limits.hpp"
#include "measure.hpp"
#include "model_facts.hpp"

namespace inspect {

/// What the model is made of: layers, routing, weights by projection, parameters, bytes a token.
[[nodiscard]] std::string model_text(const std::string& path, const ModelFacts& facts);

/// Tokens a second that the limits allow at most, for so many tokens at once.
[[nodiscard]] std::string speed_text(const ModelFacts& facts, const Limits& limits,
                                     std::span<const std::size_t> tokens);

/// What one layer did, and what all layers with experts would.
[[nodiscard]] std::string measured_text(const ModelFacts& facts, const MeasuredLayer& measured);

/// What fits in memory: all weights where they lie in the files, or the experts packed in some format.
[[nodiscard]] std::string plan_text(const ModelFacts& facts, const Memory& memory);

/// Seconds that the limits allow at least: the layers with experts, and everything.
struct LeastSeconds {
    double experts = 0;
    double model = 0;
};
[[nodiscard]] LeastSeconds least_seconds(const ModelFacts& facts, const Limits& limits, std::size_t tokens);

}  // namespace inspect
