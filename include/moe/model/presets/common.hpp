#pragma once

#include <cstddef>

#include "../moe_config.hpp"

/// What the presets of several architectures have in common: each takes a configuration and returns it changed.
namespace moe::inline MOE_ABI::presets::detail {

/// Softmax scores as weights, SwiGLU. transformers concatenates gate and up of the routed experts in memory, the shared
/// expert's are apart; the published file has every projection by itself.
inline MoEConfig sized(const char* name, std::size_t n_experts, int top_k, std::size_t d_model, std::size_t d_ff,
                       std::size_t shared_d_ff = 0) {
    MoEConfig config;
    config.name = name;
    config.n_experts = n_experts;
    config.d_model = d_model;
    config.d_ff = d_ff;
    config.routing.top_k = top_k;
    config.shared_d_ff = shared_d_ff;
    config.storage.gate_up = JoinedAs::concatenated;
    config.published.known = true;
    return config;
}

/// Weights divided by their sum.
inline MoEConfig normalized(MoEConfig config) {
    config.routing.normalize = Normalize::sum();
    return config;
}

/// The shared expert behind a sigmoid gate.
inline MoEConfig shared_gated(MoEConfig config) {
    config.shared_mode = SharedMode::gated;
    return config;
}

/// Top-k of the logits, weighted with the softmax of those chosen.
inline MoEConfig softmax_of_selected(MoEConfig config) {
    config.routing.select_on = SelectOn::logits;
    config.routing.weight_from = WeightFrom::softmax_of_selected;
    return config;
}

/// Sigmoid scores, a bias that moves the choice alone, weights divided by their sum + eps.
inline MoEConfig sigmoid_with_bias(MoEConfig config, double eps = 0.0) {
    config.routing.score.kind = ScoreKind::sigmoid;
    config.selection_bias = true;
    config.routing.normalize = Normalize::sum(eps);
    return config;
}

/// The router of DeepSeek-V3: sigmoid_with_bias with an eps of 1e-20, the `kept` best of `n_groups` groups, each as
/// good as its two best experts, weights times `scale`.
inline MoEConfig deepseek_v3_router(double scale, MoEConfig config, int n_groups = 1, int kept = 1) {
    config = sigmoid_with_bias(config, 1e-20);
    config.routing.groups.n_groups = n_groups;
    config.routing.groups.kept = kept;
    config.routing.scale = scale;
    return config;
}

/// All experts of this form.
inline MoEConfig formed(FormKind kind, MoEConfig config, double limit = 0.0) {
    config.form.kind = kind;
    config.form.limit = limit;
    return config;
}

/// The routed experts in this order in the memory of transformers, and in the published file.
inline MoEConfig stored(MoEConfig config, JoinedAs gate_up, bool up_input_major, bool down_input_major) {
    config.storage = {gate_up, up_input_major, down_input_major};
    config.published.experts = config.storage;
    return config;
}

/// The published file joins gate and up as transformers does in memory.
inline MoEConfig published_joined(MoEConfig config) {
    config.published.experts = config.storage;
    return config;
}

/// How the published file stores experts is not known here.
inline MoEConfig file_unknown(MoEConfig config) {
    config.published.known = false;
    return config;
}

}  // namespace moe::inline MOE_ABI::presets::detail
