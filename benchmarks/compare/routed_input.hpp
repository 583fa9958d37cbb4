#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <moe/gating/any_gate.hpp>
#include <moe/layer/parts/observer.hpp>

#include "../../examples/generate/model.hpp"

namespace compare {

/// Tokens whose logits are given, to be routed by any gate.
struct RoutedInput {
    std::string name;
    int layer = -1;  ///< of the model it is from
    std::size_t tokens = 0;
    std::size_t experts = 0;
    std::size_t top_k = 0;
    std::function<void(const moe::AnyGate&, moe::Observer<float>&)> route;
};

/// What the routers of tiny-mixtral read on 512 bytes of held-out text, as stored beside it, a layer each. The model
/// must outlive it.
[[nodiscard]] std::vector<RoutedInput> model_inputs(const generate::Model& model, const std::string& directory);

/// Random logits of 64 experts, top-8, with Zipf and one-hot skew.
[[nodiscard]] std::vector<RoutedInput> skewed_inputs(std::size_t tokens, std::uint64_t seed);

/// What strategies that balance loads while they are trained would have come to on an input.
struct Calibration {
    std::vector<float> bias;        ///< (experts) of the choice by sigmoid scores: 200 steps of moe::SignBalancer
    std::vector<float> thresholds;  ///< (experts) of the softmax: top_k experts a token on average, equal loads
};
[[nodiscard]] Calibration calibrate(const RoutedInput& input);

}  // namespace compare
