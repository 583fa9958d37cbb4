#pragma once

#include <array>
#include <string>
#include <string_view>

#include "presets/checkpoints.hpp"
#include "presets/names.hpp"

/// The MoE layers of published architectures, at the size of the checkpoint each names. Storage is that of Hugging Face
/// transformers in memory; MoEConfig::in_published_file() and in_gguf() are the same layers as files have them.
/// Sources: each model's own code, as released. What is not set is the default of MoEConfig.
namespace moe::inline MOE_ABI::presets {

/// All presets, by family.
inline constexpr std::array all{&mixtral,
                                &minimax,
                                &switch_transformer,
                                &qwen2_moe,
                                &qwen3_moe,
                                &qwen3_vl,
                                &qwen3_next,
                                &qwen3_5_moe,
                                &qwen4_exp,
                                &mellum,
                                &olmoe,
                                &flex_olmo,
                                &jamba,
                                &hunyuan_v1,
                                &bailing_moe,
                                &arctic,
                                &grok_1,
                                &dbrx,
                                &deepseek_v2,
                                &mistral4,
                                &ernie4_5_moe,
                                &longcat_flash,
                                &gemma4,
                                &phimoe,
                                &gpt_oss,
                                &llama4,
                                &granitemoe,
                                &granitemoehybrid,
                                &jetmoe,
                                &aria,
                                &cohere2_moe,
                                &deepseek_v3,
                                &deepseek_v4,
                                &deepseek_v4_hash,
                                &glm4_moe,
                                &glm5_next,
                                &glm4_moe_lite,
                                &glm_moe_dsa,
                                &dots1,
                                &solar_open,
                                &exaone_moe,
                                &mimo_v2_flash,
                                &axk1,
                                &axk2,
                                &kimi_linear,
                                &nemotron_h,
                                &bailing_moe_v2,
                                &hy_v3,
                                &hy_v4,
                                &afmoe,
                                &lfm2_moe,
                                &minimax_m2,
                                &minimax_m3,
                                &step3p7,
                                &laguna,
                                &step3p7_clamped,
                                &deepseek_v2_lite,
                                &openai_privacy_filter};

/// The preset of that name ("mixtral", "MixtralForCausalLM"), or the checkpoint ("Mixtral-8x7B-v0.1",
/// "mistralai/Mixtral-8x7B-Instruct-v0.1", "Qwen3-235B-A22B") with its sizes; its `name` is then the checkpoint's.
/// Case, separators, an owner before a slash and what does not change the layer (Instruct, FP8, a date) are left out of
/// the comparison. Throws Error(not_found) with the nearest names.
inline MoEConfig find(std::string_view name) {
    detail::NearestNames nearest(name);
    for (MoEConfig (*preset)() : all) {
        MoEConfig config = preset();
        if (nearest.offer(config.name.c_str())) {
            return config;
        }
    }
    for (const Checkpoint& checkpoint : checkpoints) {
        if (nearest.offer(checkpoint.name)) {
            return checkpoint.config();
        }
    }
    raise_error(ErrorCode::not_found, "presets: no preset is called ", std::string(name).c_str(), "; the nearest are ",
                nearest.text().c_str());
}

}  // namespace moe::inline MOE_ABI::presets
