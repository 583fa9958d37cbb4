#pragma once

#include "common.hpp"

/// Architectures that score each expert by itself, with a sigmoid or the square root of a softplus, and move the choice
/// with a bias.
namespace moe::inline MOE_ABI::presets {

/// DeepSeek-V3 (2024, section 2.1.2): sigmoid scores, a bias that moves the choice alone, the four best of 8 groups.
inline MoEConfig deepseek_v3() {
    return detail::deepseek_v3_router(2.5, detail::sized("deepseek_v3", 256, 8, 7168, 2048, 2048), 8, 4);
}

/// DeepSeek-V4-Flash, all layers but the first three: the square root of softplus as score, SwiGLU clamped at 10 before
/// the activation, in the shared expert as well.
inline MoEConfig deepseek_v4() {
    MoEConfig config =
        detail::formed(FormKind::clamped_before, detail::sized("deepseek_v4", 256, 6, 4096, 2048, 2048), 10.0);
    config.routing.score.kind = ScoreKind::sqrt_softplus;
    config.selection_bias = true;
    config.routing.normalize = Normalize::sum(1e-20);
    config.routing.scale = 1.5;
    return config;
}

/// DeepSeek-V4-Flash, its first three layers: a table of 6 experts for each token id chooses; the router weighs them.
inline MoEConfig deepseek_v4_hash() {
    MoEConfig config = deepseek_v4();
    config.name = "deepseek_v4_hash";
    config.gate = GateKind::hash;
    config.routing.top_k = 1;  // unset: the table says
    config.selection_bias = false;
    return config;
}

/// GLM-4.5: the router of DeepSeek-V3 without groups.
inline MoEConfig glm4_moe() {
    return detail::deepseek_v3_router(2.5, detail::sized("glm4_moe", 160, 8, 5120, 1536, 1536));
}

/// GLM-4.7-Flash: as GLM-4.5.
inline MoEConfig glm4_moe_lite() {
    return detail::deepseek_v3_router(1.8, detail::sized("glm4_moe_lite", 64, 4, 2048, 1536, 1536));
}

/// GLM-5: as GLM-4.5.
inline MoEConfig glm_moe_dsa() {
    return detail::deepseek_v3_router(2.5, detail::sized("glm_moe_dsa", 256, 8, 6144, 2048, 2048));
}

/// GLM-5.3-Flash: as GLM-5, SwiGLU clamped at 10 before the activation, in the shared expert as well.
inline MoEConfig glm5_next() {
    return detail::file_unknown(detail::deepseek_v3_router(
        2.5, detail::formed(FormKind::clamped_before, detail::sized("glm5_next", 288, 8, 4096, 2048, 2048), 10.0)));
}

/// dots.llm1: the router of DeepSeek-V3 without groups, two shared experts stored as one.
inline MoEConfig dots1() { return detail::deepseek_v3_router(2.5, detail::sized("dots1", 128, 6, 4096, 1408, 2816)); }

/// Solar-Open-100B: the router of DeepSeek-V3 without groups and scale.
inline MoEConfig solar_open() {
    return detail::deepseek_v3_router(1.0, detail::sized("solar_open", 128, 8, 4096, 1280, 1280));
}

/// K-EXAONE-236B: the router of DeepSeek-V3 without groups.
inline MoEConfig exaone_moe() {
    return detail::deepseek_v3_router(2.5, detail::sized("exaone_moe", 128, 8, 6144, 2048, 2048));
}

/// MiMo-V2-Flash: the router of DeepSeek-V3 without groups and scale; no shared expert.
inline MoEConfig mimo_v2_flash() {
    return detail::file_unknown(detail::deepseek_v3_router(1.0, detail::sized("mimo_v2_flash", 256, 8, 4096, 2048)));
}

/// Kimi-Linear-48B-A3B: the router of DeepSeek-V3 without groups.
inline MoEConfig kimi_linear() {
    return detail::file_unknown(
        detail::deepseek_v3_router(2.446, detail::sized("kimi_linear", 256, 8, 2304, 1024, 1024)));
}

/// Nemotron-3-Nano-30B-A3B, which has no latent projection: the router of DeepSeek-V3 without groups, squared ReLU
/// without a gate in all experts.
inline MoEConfig nemotron_h() {
    MoEConfig config = detail::deepseek_v3_router(2.5, detail::sized("nemotron_h", 128, 6, 2688, 1856, 3712));
    config.form.kind = FormKind::relu_squared;
    config.storage.gate_up = JoinedAs::separate;
    return config;
}

/// A.X-K1: as DeepSeek-V3; the norm of its output is outside the layer.
inline MoEConfig axk1() {
    return detail::deepseek_v3_router(2.5, detail::sized("axk1", 192, 8, 7168, 2048, 2048), 8, 4);
}

/// A.X-K2-Light: the router of DeepSeek-V3 without groups; where a checkpoint has them, they are filled with 0.
inline MoEConfig axk2() {
    MoEConfig config = detail::deepseek_v3_router(2.5, detail::sized("axk2", 128, 8, 2048, 512, 512));
    config.routing.groups.fill = 0.0;
    return config;
}

/// Ling-mini-2.0 and Ring-mini-2.0: as DeepSeek-V3.
inline MoEConfig bailing_moe_v2() {
    return detail::deepseek_v3_router(2.5, detail::sized("bailing_moe_v2", 256, 8, 2048, 512, 512), 8, 4);
}

/// Hy3-preview: the router of DeepSeek-V3 without groups.
inline MoEConfig hy_v3() { return detail::deepseek_v3_router(2.826, detail::sized("hy_v3", 192, 8, 4096, 1536, 1536)); }

/// Hy4-preview: the same; SwiGLU clamped at 10 before the activation in the routed experts alone.
inline MoEConfig hy_v4() {
    MoEConfig config = detail::file_unknown(detail::deepseek_v3_router(
        2.827, detail::formed(FormKind::clamped_before, detail::sized("hy_v4", 256, 8, 2816, 768, 768), 10.0)));
    config.shared_form = AnyForm{};
    return config;
}

/// Trinity-Mini (Arcee): the router of DeepSeek-V3 without groups.
inline MoEConfig afmoe() { return detail::deepseek_v3_router(2.826, detail::sized("afmoe", 128, 8, 2048, 1024, 1024)); }

/// LFM2-8B-A1B: sigmoid scores with a bias on the choice, divided by their sum + 1e-6.
inline MoEConfig lfm2_moe() { return detail::sigmoid_with_bias(detail::sized("lfm2_moe", 32, 4, 2048, 1792), 1e-6); }

/// MiniMax-M2: sigmoid scores with a bias on the choice, divided by their sum.
inline MoEConfig minimax_m2() { return detail::sigmoid_with_bias(detail::sized("minimax_m2", 256, 8, 3072, 1536)); }

/// MiniMax-M3: as M2, the routed sum times 2 before the shared expert is added, the clamped SwiGLU of form A in all.
/// transformers joins gate and up of the shared expert too, which the published file has apart.
inline MoEConfig minimax_m3() {
    MoEConfig config = detail::sigmoid_with_bias(
        detail::formed(FormKind::swiglu_oai, detail::sized("minimax_m3", 128, 4, 6144, 3072, 3072), 7.0));
    config.routed_scale = 2.0;
    config.shared_storage.gate_up = JoinedAs::concatenated;
    return config;
}

/// Step-3.7-Flash, all layers but the last two: as MiniMax-M2, the routed sum times 3 before the shared expert is
/// added.
inline MoEConfig step3p7() {
    MoEConfig config = detail::sigmoid_with_bias(detail::sized("step3p7", 288, 8, 4096, 1280, 1280));
    config.routed_scale = 3.0;
    return config;
}

/// Step-3.7-Flash, layers 43 and 44: SwiGLU clamped after the activation, at 7 in routed experts, at 16 in the shared.
inline MoEConfig step3p7_clamped() {
    MoEConfig config = detail::formed(FormKind::clamped_after, step3p7(), 7.0);
    config.name = "step3p7_clamped";
    config.shared_form = AnyForm{.kind = FormKind::clamped_after, .limit = 16.0};
    return config;
}

/// Laguna-XS.2: as MiniMax-M2, with a shared expert. Checkpoints with a moe_router_logit_softcapping or a
/// moe_routed_scaling_factor set routing.logit_softcap and routed_scale.
inline MoEConfig laguna() { return detail::sigmoid_with_bias(detail::sized("laguna", 256, 8, 2048, 512, 512)); }

}  // namespace moe::inline MOE_ABI::presets
