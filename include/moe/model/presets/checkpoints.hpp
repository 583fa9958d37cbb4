#pragma once

#include <cstddef>

#include "selected.hpp"
#include "sigmoid.hpp"
#include "softmax.hpp"

namespace moe::inline MOE_ABI::presets {

/// A published checkpoint: its architecture, and its sizes where they are not those of the preset. Groups and scales of
/// 0 are the preset's.
struct Checkpoint {
    const char* name;
    MoEConfig (*architecture)();
    std::size_t n_experts = 0;  ///< 0: all sizes are the preset's
    int top_k = 0;
    std::size_t d_model = 0;
    std::size_t d_ff = 0;
    std::size_t shared_d_ff = 0;
    double scale = 0;         ///< routing.scale
    double routed_scale = 0;  ///< of the sum
    int n_groups = 0;
    int kept = 0;

    [[nodiscard]] MoEConfig config() const {
        MoEConfig result = architecture();
        result.name = name;
        if (n_experts > 0) {
            result.n_experts = n_experts;
            result.routing.top_k = top_k;
            result.d_model = d_model;
            result.d_ff = d_ff;
            result.shared_d_ff = shared_d_ff;
        }
        result.routing.scale = scale > 0 ? scale : result.routing.scale;
        result.routed_scale = routed_scale > 0 ? routed_scale : result.routed_scale;
        if (n_groups > 0) {
            result.routing.groups.n_groups = n_groups;
            result.routing.groups.kept = kept;
        }
        return result;
    }
};

/// Under the names they have on Hugging Face, without what follows the sizes. Other spellings of an architecture are
/// here as well.
inline constexpr Checkpoint checkpoints[] = {
    {.name = "Mixtral-8x7B-v0.1", .architecture = mixtral},
    {"Mixtral-8x22B-v0.1", mixtral, 8, 2, 6144, 16384},
    {.name = "MiniMax-Text-01", .architecture = minimax},
    {.name = "switch-base-8", .architecture = switch_transformer},
    {.name = "switch_transformers", .architecture = switch_transformer},
    {.name = "Qwen1.5-MoE-A2.7B", .architecture = qwen2_moe},
    {"Qwen2-57B-A14B", qwen2_moe, 64, 8, 3584, 2560, 20480},
    {.name = "Qwen3-30B-A3B", .architecture = qwen3_moe},
    {"Qwen3-235B-A22B", qwen3_moe, 128, 8, 4096, 1536},
    {.name = "qwen3_vl_moe", .architecture = qwen3_vl},
    {.name = "Qwen3-VL-30B-A3B", .architecture = qwen3_vl},
    {"Qwen3-VL-235B-A22B", qwen3_vl, 128, 8, 4096, 1536},
    {.name = "Qwen3-Next-80B-A3B", .architecture = qwen3_next},
    {.name = "Qwen3.5-35B-A3B", .architecture = qwen3_5_moe},
    {"Qwen3.5-397B-A17B", qwen3_5_moe, 512, 10, 4096, 1024, 1024},
    {.name = "Qwen3.6-35B-A3B", .architecture = qwen3_5_moe},
    {.name = "Mellum2-12B-A2.5B", .architecture = mellum},
    {.name = "OLMoE-1B-7B", .architecture = olmoe},
    {.name = "FlexOlmo-7x7B-1T", .architecture = flex_olmo},
    {.name = "AI21-Jamba-v0.1", .architecture = jamba},
    {.name = "hunyuan_v1_moe", .architecture = hunyuan_v1},
    {.name = "Hunyuan-A13B", .architecture = hunyuan_v1},
    {.name = "bailing", .architecture = bailing_moe},
    {.name = "Ling-lite-1.5", .architecture = bailing_moe},
    {.name = "snowflake-arctic", .architecture = arctic},
    {.name = "DeepSeek-R1", .architecture = deepseek_v3},
    {.name = "DeepSeek-V3.1", .architecture = deepseek_v3},
    {.name = "DeepSeek-V3.2", .architecture = deepseek_v3},
    {.name = "Kimi-K2",
     .architecture = deepseek_v3,
     .n_experts = 384,
     .top_k = 8,
     .d_model = 7168,
     .d_ff = 2048,
     .shared_d_ff = 2048,
     .scale = 2.827,
     .n_groups = 1,
     .kept = 1},
    {.name = "Moonlight-16B-A3B",
     .architecture = deepseek_v3,
     .n_experts = 64,
     .top_k = 6,
     .d_model = 2048,
     .d_ff = 1408,
     .shared_d_ff = 2816,
     .scale = 2.446,
     .n_groups = 1,
     .kept = 1},
    {.name = "DeepSeek-V4-Flash", .architecture = deepseek_v4},
    {.name = "Mistral-Small-4-119B", .architecture = mistral4},
    {.name = "ERNIE-4.5-21B-A3B", .architecture = ernie4_5_moe},
    {"ERNIE-4.5-300B-A47B", ernie4_5_moe, 64, 8, 8192, 3584},
    {.name = "gemma-4-26B-A4B", .architecture = gemma4},
    {.name = "Phi-3.5-MoE", .architecture = phimoe},
    {.name = "gpt-oss-20b", .architecture = gpt_oss},
    {"gpt-oss-120b", gpt_oss, 128, 4, 2880, 2880},
    {.name = "privacy-filter", .architecture = openai_privacy_filter},
    {.name = "Llama-4-Scout-17B-16E", .architecture = llama4},
    {"Llama-4-Maverick-17B-128E", llama4, 128, 1, 5120, 8192, 8192},
    {.name = "granite-3.0-1b-a400m", .architecture = granitemoe},
    {"granite-3.0-3b-a800m", granitemoe, 40, 8, 1536, 512},
    {.name = "granitemoeshared", .architecture = granitemoehybrid},
    {.name = "granite-4.0-h-small", .architecture = granitemoehybrid},
    {"granite-4.0-h-tiny", granitemoehybrid, 64, 6, 1536, 512, 1024},
    {.name = "JetMoE-8B", .architecture = jetmoe},
    {.name = "command-a-plus", .architecture = cohere2_moe},
    {.name = "GLM-4.5", .architecture = glm4_moe},
    {"GLM-4.5-Air", glm4_moe, 128, 8, 4096, 1408, 1408, 1.0},
    {.name = "GLM-4.7-Flash", .architecture = glm4_moe_lite},
    {.name = "GLM-5", .architecture = glm_moe_dsa},
    {.name = "GLM-5.3-Flash", .architecture = glm5_next},
    {.name = "dots.llm1", .architecture = dots1},
    {.name = "Solar-Open-100B", .architecture = solar_open},
    {.name = "K-EXAONE-236B-A23B", .architecture = exaone_moe},
    {.name = "Kimi-Linear-48B-A3B", .architecture = kimi_linear},
    {.name = "NVIDIA-Nemotron-3-Nano-30B-A3B", .architecture = nemotron_h},
    {.name = "A.X-K2-Light", .architecture = axk2},
    {.name = "Ling-mini-2.0", .architecture = bailing_moe_v2},
    {.name = "Ring-mini-2.0", .architecture = bailing_moe_v2},
    {.name = "Hy3", .architecture = hy_v3},
    {.name = "Hy4", .architecture = hy_v4},
    {.name = "Trinity-Mini", .architecture = afmoe},
    {"Trinity-Nano", afmoe, 128, 8, 1024, 256, 256},
    {.name = "LFM2-8B-A1B", .architecture = lfm2_moe},
    {.name = "minimax_m3_vl", .architecture = minimax_m3},
    {.name = "Step-3.7-Flash", .architecture = step3p7},
    {.name = "Laguna-XS.2", .architecture = laguna},
    {.name = "Laguna-S-2.1",
     .architecture = laguna,
     .n_experts = 256,
     .top_k = 10,
     .d_model = 3072,
     .d_ff = 1024,
     .shared_d_ff = 1024,
     .routed_scale = 2.5},
};

}  // namespace moe::inline MOE_ABI::presets
