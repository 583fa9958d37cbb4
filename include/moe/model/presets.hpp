#pragma once

#include <array>
#include <string_view>

#include "moe_config.hpp"

namespace moe::inline MOE_ABI::presets {

/// The MoE layers of published architectures, at the size of the checkpoint each names; storage is that of Hugging Face
/// transformers in memory. Sources: each model's own code, as released. What is not set is the default of MoEConfig.

namespace detail {

inline MoEConfig sized(const char* name, std::size_t n_experts, int top_k, std::size_t d_model, std::size_t d_ff) {
    MoEConfig config;
    config.name = name;
    config.n_experts = n_experts;
    config.d_model = d_model;
    config.d_ff = d_ff;
    config.routing.top_k = top_k;
    config.storage.gate_up = JoinedAs::concatenated;
    return config;
}

inline void softmax_of_selected(MoEConfig& config) {
    config.routing.select_on = SelectOn::logits;
    config.routing.weight_from = WeightFrom::softmax_of_selected;
}

inline void sigmoid_with_bias(MoEConfig& config) {
    config.routing.score.kind = ScoreKind::sigmoid;
    config.selection_bias = true;
}

}  // namespace detail

/// Mixtral 8x7B (Jiang et al. 2024): softmax over all, two experts, their weights divided by their sum.
inline MoEConfig mixtral() {
    MoEConfig config = detail::sized("mixtral", 8, 2, 4096, 14336);
    config.routing.normalize = true;
    return config;
}

/// Switch-base-8 (Fedus et al. 2021): one expert, weighted with its probability; ReLU without a gate.
inline MoEConfig switch_transformer() {
    MoEConfig config = detail::sized("switch_transformer", 8, 1, 768, 3072);
    config.form.kind = FormKind::relu;
    config.storage.gate_up = JoinedAs::separate;
    return config;
}

/// Qwen1.5-MoE-A2.7B: weights as the softmax left them, a shared expert behind a sigmoid gate.
inline MoEConfig qwen2_moe() {
    MoEConfig config = detail::sized("qwen2_moe", 60, 4, 2048, 1408);
    config.shared_d_ff = 5632;
    config.shared_mode = SharedMode::gated;
    return config;
}

/// Qwen3-30B-A3B: as Mixtral, with 8 of 128.
inline MoEConfig qwen3_moe() {
    MoEConfig config = detail::sized("qwen3_moe", 128, 8, 2048, 768);
    config.routing.normalize = true;
    return config;
}

/// OLMoE-1B-7B (Muennighoff et al. 2024): softmax, no normalisation.
inline MoEConfig olmoe() { return detail::sized("olmoe", 64, 8, 2048, 1024); }

/// DeepSeek-V2-Lite: softmax, no normalisation, two shared experts stored as one.
inline MoEConfig deepseek_v2_lite() {
    MoEConfig config = detail::sized("deepseek_v2_lite", 64, 6, 2048, 1408);
    config.shared_d_ff = 2816;
    return config;
}

/// DeepSeek-V2 (2024, section 2.1.3): the three best of 8 groups, a group as good as its best expert; weights times 16.
inline MoEConfig deepseek_v2() {
    MoEConfig config = detail::sized("deepseek_v2", 160, 6, 5120, 1536);
    config.routing.groups = {.n_groups = 8, .kept = 3, .score_members = 1, .fill = 0.0};
    config.routing.scale = 16.0;
    config.shared_d_ff = 3072;
    return config;
}

/// DeepSeek-V3 (2024, section 2.1.2): sigmoid scores, a bias that moves the choice alone, the four best of 8 groups.
inline MoEConfig deepseek_v3() {
    MoEConfig config = detail::sized("deepseek_v3", 256, 8, 7168, 2048);
    detail::sigmoid_with_bias(config);
    config.routing.groups = {.n_groups = 8, .kept = 4, .score_members = 2};
    config.routing.normalize = Normalize::sum(1e-20);
    config.routing.scale = 2.5;
    config.shared_d_ff = 2048;
    return config;
}

/// GPT-OSS-20b: router and expert biases, softmax over the chosen, the clamped SwiGLU of form A, interleaved storage.
inline MoEConfig gpt_oss() {
    MoEConfig config = detail::sized("gpt_oss", 32, 4, 2880, 2880);
    detail::softmax_of_selected(config);
    config.router_bias = true;
    config.expert_bias = true;
    config.form = {.kind = FormKind::swiglu_oai, .limit = 7.0, .alpha = 1.702};
    config.storage = {JoinedAs::interleaved, true, true};
    return config;
}

/// Llama 4 Scout: one expert chosen on the logit; the sigmoid of it multiplies the expert's input.
inline MoEConfig llama4() {
    MoEConfig config = detail::sized("llama4", 16, 1, 5120, 8192);
    config.routing.select_on = SelectOn::logits;
    config.routing.weight_from = WeightFrom::sigmoid_of_selected;
    config.weight_at = WeightAt::input;
    config.shared_d_ff = 8192;
    config.storage = {JoinedAs::concatenated, true, true};
    return config;
}

/// Phi-3.5-MoE: SparseMixer in evaluation.
inline MoEConfig phimoe() {
    MoEConfig config = detail::sized("phimoe", 16, 2, 4096, 6400);
    config.gate = GateKind::sparse_mixer;
    return config;
}

/// Granite-3 1B-A400M: softmax over the chosen.
inline MoEConfig granitemoe() {
    MoEConfig config = detail::sized("granitemoe", 32, 8, 1024, 512);
    detail::softmax_of_selected(config);
    return config;
}

/// JetMoE-8B (Shen et al. 2024): softmax over the chosen, a bias added to every output.
inline MoEConfig jetmoe() {
    MoEConfig config = detail::sized("jetmoe", 8, 2, 2048, 5632);
    detail::softmax_of_selected(config);
    config.output_bias = true;
    return config;
}

/// LongCat-Flash: 256 identity experts beside 512 real ones, softmax over all with a bias on the choice, weights
/// times 6.
inline MoEConfig longcat_flash() {
    MoEConfig config = detail::sized("longcat_flash", 512, 12, 6144, 2048);
    config.selection_bias = true;
    config.n_identity_experts = 256;
    config.routing.scale = 6.0;
    return config;
}

/// ERNIE-4.5-21B-A3B: softmax with a bias on the choice, the sum of the weights bounded from below.
inline MoEConfig ernie4_5_moe() {
    MoEConfig config = detail::sized("ernie4_5_moe", 64, 6, 2560, 1536);
    config.selection_bias = true;
    config.routing.normalize = Normalize::clamped_sum(1e-12);
    config.shared_d_ff = 3072;
    return config;
}

/// MiniMax-M2: sigmoid scores with a bias on the choice, divided by their sum.
inline MoEConfig minimax_m2() {
    MoEConfig config = detail::sized("minimax_m2", 256, 8, 3072, 1536);
    detail::sigmoid_with_bias(config);
    config.routing.normalize = true;
    return config;
}

/// DBRX: softmax, weights divided by their 1-norm; down stored (input, output).
inline MoEConfig dbrx() {
    MoEConfig config = detail::sized("dbrx", 16, 4, 6144, 10752);
    config.routing.normalize = Normalize::lp(1.0);
    config.storage = {JoinedAs::separate, false, true};
    return config;
}

/// All presets, in the order above.
inline constexpr std::array all{&mixtral,          &switch_transformer, &qwen2_moe,   &qwen3_moe,     &olmoe,
                                &deepseek_v2_lite, &deepseek_v2,        &deepseek_v3, &gpt_oss,       &llama4,
                                &phimoe,           &granitemoe,         &jetmoe,      &longcat_flash, &dbrx,
                                &minimax_m2,       &ernie4_5_moe};

/// The preset called `name`. Throws Error(not_found) listing the names there are.
inline MoEConfig find(std::string_view name) {
    std::string known;
    for (MoEConfig (*preset)() : all) {
        MoEConfig config = preset();
        if (config.name == name) {
            return config;
        }
        known += (known.empty() ? "" : ", ") + config.name;
    }
    raise_error(ErrorCode::not_found, "presets: no preset is called ", std::string(name), "; there are ", known);
}

}  // namespace moe::inline MOE_ABI::presets
