#pragma once

#include "common.hpp"

/// Architectures that choose on the logits and make weights of those chosen.
namespace moe::inline MOE_ABI::presets {

/// GPT-OSS-20b: router and expert biases, softmax over the chosen, the clamped SwiGLU of form A. Gate and up
/// interleave; transformers holds all experts (input, output), the published file has them (output, input).
inline MoEConfig gpt_oss() {
    MoEConfig config = detail::softmax_of_selected(
        detail::formed(FormKind::swiglu_oai, detail::sized("gpt_oss", 32, 4, 2880, 2880), 7.0));
    config.router_bias = true;
    config.expert_bias = true;
    config.storage = {JoinedAs::interleaved, true, true};
    config.published.experts = {JoinedAs::interleaved, false, false};
    return config;
}

/// OpenAI's privacy filter: as GPT-OSS, gate and up concatenated; weights divided by top_k, the sum multiplied with it.
inline MoEConfig openai_privacy_filter() {
    MoEConfig config = detail::softmax_of_selected(
        detail::formed(FormKind::swiglu_oai, detail::sized("openai_privacy_filter", 128, 4, 640, 640), 7.0));
    config.routing.scale = 0.25;
    config.routed_scale = 4.0;
    config.router_bias = true;
    config.expert_bias = true;
    return detail::stored(config, JoinedAs::concatenated, true, true);
}

/// Llama 4 Scout: one expert chosen on the logit; the sigmoid of it multiplies the expert's input.
inline MoEConfig llama4() {
    MoEConfig config =
        detail::stored(detail::sized("llama4", 16, 1, 5120, 8192, 8192), JoinedAs::concatenated, true, true);
    config.routing.select_on = SelectOn::logits;
    config.routing.weight_from = WeightFrom::sigmoid_of_selected;
    config.weight_at = WeightAt::input;
    return config;
}

/// Granite-3 1B-A400M: softmax over the chosen.
inline MoEConfig granitemoe() {
    return detail::published_joined(detail::softmax_of_selected(detail::sized("granitemoe", 32, 8, 1024, 512)));
}

/// Granite-4.0-H-Small: as Granite-3, with a shared expert whose gate and up are joined too.
inline MoEConfig granitemoehybrid() {
    MoEConfig config = detail::published_joined(
        detail::softmax_of_selected(detail::sized("granitemoehybrid", 72, 10, 4096, 768, 1536)));
    config.shared_storage.gate_up = JoinedAs::concatenated;
    config.published.shared = config.shared_storage;
    return config;
}

/// JetMoE-8B (Shen et al. 2024): softmax over the chosen, a bias added to every output.
inline MoEConfig jetmoe() {
    MoEConfig config = detail::published_joined(detail::softmax_of_selected(detail::sized("jetmoe", 8, 2, 2048, 5632)));
    config.output_bias = true;
    return config;
}

/// Aria (Li et al. 2024): softmax over the chosen, two shared experts stored as one; experts stored (input, output).
inline MoEConfig aria() {
    return detail::stored(detail::softmax_of_selected(detail::sized("aria", 64, 6, 2560, 1664, 3328)),
                          JoinedAs::concatenated, true, true);
}

/// Command A+: the sigmoid of each of the chosen, divided by their sum; the mean of the routed sum and of four shared
/// experts stored as one. Where a checkpoint's expert_selection_fn is softmax, set weight_from to softmax_of_selected
/// and normalize to false.
inline MoEConfig cohere2_moe() {
    MoEConfig config = detail::normalized(detail::sized("cohere2_moe", 128, 8, 4096, 4096, 16384));
    config.routing.select_on = SelectOn::logits;
    config.routing.weight_from = WeightFrom::sigmoid_of_selected;
    config.shared_mode = SharedMode::average;
    return config;
}

}  // namespace moe::inline MOE_ABI::presets
