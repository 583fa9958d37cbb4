#pragma once

#include "common.hpp"

/// Architectures that score with a softmax over all experts, or choose by it.
namespace moe::inline MOE_ABI::presets {

/// Mixtral 8x7B (Jiang et al. 2024): softmax over all, two experts, their weights divided by their sum.
inline MoEConfig mixtral() { return detail::normalized(detail::sized("mixtral", 8, 2, 4096, 14336)); }

/// MiniMax-Text-01: as Mixtral.
inline MoEConfig minimax() { return detail::normalized(detail::sized("minimax", 32, 2, 6144, 9216)); }

/// Switch-base-8 (Fedus et al. 2021): one expert, weighted with its probability; ReLU without a gate.
inline MoEConfig switch_transformer() {
    MoEConfig config = detail::formed(FormKind::relu, detail::sized("switch_transformer", 8, 1, 768, 3072));
    config.storage.gate_up = JoinedAs::separate;
    return config;
}

/// Qwen1.5-MoE-A2.7B: weights as the softmax left them, a shared expert behind a sigmoid gate.
inline MoEConfig qwen2_moe() { return detail::shared_gated(detail::sized("qwen2_moe", 60, 4, 2048, 1408, 5632)); }

/// Qwen3-30B-A3B: as Mixtral, with 8 of 128.
inline MoEConfig qwen3_moe() { return detail::normalized(detail::sized("qwen3_moe", 128, 8, 2048, 768)); }

/// Qwen3-VL-30B-A3B: as Qwen3; its file has gate and up joined, and all experts stored (input, output).
inline MoEConfig qwen3_vl() {
    MoEConfig config = detail::normalized(detail::sized("qwen3_vl", 128, 8, 2048, 768));
    config.published.experts = {JoinedAs::concatenated, true, true};
    return config;
}

/// Qwen3-Next-80B-A3B: normalised, with the gated shared expert of Qwen2.
inline MoEConfig qwen3_next() {
    return detail::shared_gated(detail::normalized(detail::sized("qwen3_next", 512, 10, 2048, 512, 512)));
}

/// Qwen3.5-35B-A3B: as Qwen3-Next.
inline MoEConfig qwen3_5_moe() {
    return detail::published_joined(
        detail::shared_gated(detail::normalized(detail::sized("qwen3_5_moe", 256, 8, 2048, 512, 512))));
}

/// Qwen4-Exp: as Qwen3-Next.
inline MoEConfig qwen4_exp() {
    return detail::file_unknown(
        detail::shared_gated(detail::normalized(detail::sized("qwen4_exp", 512, 10, 2048, 512, 512))));
}

/// Mellum2-12B: as Qwen3.
inline MoEConfig mellum() { return detail::normalized(detail::sized("mellum", 64, 8, 2304, 896)); }

/// OLMoE-1B-7B (Muennighoff et al. 2024): softmax, no normalisation.
inline MoEConfig olmoe() { return detail::sized("olmoe", 64, 8, 2048, 1024); }

/// FlexOlmo-7x7B: as OLMoE.
inline MoEConfig flex_olmo() { return detail::sized("flex_olmo", 7, 5, 4096, 11008); }

/// Jamba-v0.1 (Lieber et al. 2024): softmax, no normalisation.
inline MoEConfig jamba() { return detail::sized("jamba", 16, 2, 4096, 14336); }

/// Hunyuan-A13B: normalised, a shared expert added.
inline MoEConfig hunyuan_v1() { return detail::normalized(detail::sized("hunyuan_v1", 64, 8, 4096, 3072, 3072)); }

/// Ling-lite-1.5 (the first bailing_moe): normalised, two shared experts stored as one.
inline MoEConfig bailing_moe() { return detail::normalized(detail::sized("bailing_moe", 64, 6, 2048, 1408, 2816)); }

/// Snowflake Arctic: as Mixtral; the dense network beside it is outside the layer.
inline MoEConfig arctic() {
    return detail::file_unknown(detail::normalized(detail::sized("arctic", 128, 2, 7168, 4864)));
}

/// Grok-1: softmax, weights as it left them, GeGLU with the tanh approximation, as its own code has it (vLLM and
/// llama.cpp divide by the sum: normalize = true). Its file is a JAX checkpoint.
inline MoEConfig grok_1() {
    return detail::file_unknown(detail::formed(FormKind::geglu_tanh, detail::sized("grok_1", 8, 2, 6144, 32768)));
}

/// DBRX: softmax, weights divided by their 1-norm; down stored (input, output).
inline MoEConfig dbrx() {
    MoEConfig config = detail::stored(detail::sized("dbrx", 16, 4, 6144, 10752), JoinedAs::separate, false, true);
    config.routing.normalize = Normalize::lp(1.0);
    return config;
}

/// DeepSeek-V2-Lite: softmax, no normalisation, two shared experts stored as one.
inline MoEConfig deepseek_v2_lite() { return detail::sized("deepseek_v2_lite", 64, 6, 2048, 1408, 2816); }

/// DeepSeek-V2 (2024, section 2.1.3): the three best of 8 groups, a group as good as its best expert; weights times 16.
inline MoEConfig deepseek_v2() {
    MoEConfig config = detail::sized("deepseek_v2", 160, 6, 5120, 1536, 3072);
    config.routing.groups = {.n_groups = 8, .kept = 3, .score_members = 1, .fill = 0.0};
    config.routing.scale = 16.0;
    return config;
}

/// Mistral-Small-4-119B: softmax, weights divided by their sum + 1e-20. Its code has the groups of DeepSeek-V3, filled
/// with 0; this checkpoint has one group.
inline MoEConfig mistral4() {
    MoEConfig config = detail::file_unknown(detail::sized("mistral4", 128, 4, 4096, 2048, 2048));
    config.routing.groups.fill = 0.0;
    config.routing.normalize = Normalize::sum(1e-20);
    return config;
}

/// ERNIE-4.5-21B-A3B: softmax with a bias on the choice, the sum of the weights bounded from below.
inline MoEConfig ernie4_5_moe() {
    MoEConfig config = detail::sized("ernie4_5_moe", 64, 6, 2560, 1536, 3072);
    config.selection_bias = true;
    config.routing.normalize = Normalize::clamped_sum(1e-12);
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

/// Gemma-4-26B-A4B: normalised, then times a number of each expert; GeGLU with the tanh approximation. The router reads
/// the residual after a norm of its own, times its scale: give it as ForwardOptions::router_input. The dense network
/// beside it is outside the layer.
inline MoEConfig gemma4() {
    MoEConfig config = detail::published_joined(
        detail::formed(FormKind::geglu_tanh, detail::normalized(detail::sized("gemma4", 128, 8, 2816, 704))));
    config.per_expert_scale = true;
    return config;
}

/// Phi-3.5-MoE: SparseMixer in evaluation.
inline MoEConfig phimoe() {
    MoEConfig config = detail::sized("phimoe", 16, 2, 4096, 6400);
    config.gate = GateKind::sparse_mixer;
    return config;
}

}  // namespace moe::inline MOE_ABI::presets
