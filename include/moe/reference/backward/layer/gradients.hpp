#pragma once

#include <cstddef>
#include <vector>

#include "../expert.hpp"

namespace moe::inline MOE_ABI::reference {

/// The gradients of a layer's inputs and parameters, of the sizes of reference::Layer's members of the same names;
/// empty where those are. Beside them what passes between the gate and the experts, by token.
struct LayerGradients {
    Vector x{};             // (n_tokens, d_model)
    Vector router_input{};  // (n_tokens, d_router), or empty where the router reads x: it is part of that of x then
    Vector router{};
    Vector router_bias{};
    Vector per_expert_scale{};  // of the rule
    std::vector<ExpertGradients> experts{};
    std::vector<Vector> constants{};
    std::vector<Vector> mixes{};
    std::vector<ExpertGradients> shared{};
    Vector shared_gate{};
    Vector output_bias{};
    std::vector<Vector> weights{};  // of each token's choices, as the layer used them
    std::vector<Vector> logits{};   // of each token
};

/// Zeros for all parameters; nothing yet of the inputs and by token.
[[nodiscard]] inline LayerGradients zero_gradients(const Layer& layer) {
    const auto zeros = [](const Vector& parameter) { return Vector(parameter.size(), 0.0); };
    LayerGradients gradients;
    gradients.router = zeros(layer.router);
    gradients.router_bias = zeros(layer.router_bias);
    gradients.per_expert_scale = zeros(layer.rule.per_expert_scale);
    gradients.shared_gate = zeros(layer.shared_gate);
    gradients.output_bias = zeros(layer.output_bias);
    for (const Expert& expert : layer.experts) {
        gradients.experts.push_back(zero_gradients(expert));
    }
    for (const Expert& expert : layer.shared) {
        gradients.shared.push_back(zero_gradients(expert));
    }
    for (const Vector& constant : layer.constants) {
        gradients.constants.push_back(zeros(constant));
    }
    for (const Vector& mix : layer.mixes) {
        gradients.mixes.push_back(zeros(mix));
    }
    return gradients;
}

}  // namespace moe::inline MOE_ABI::reference
