#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "../../core/error.hpp"
#include "../../model/presets.hpp"
#include "../text.hpp"

namespace moe::inline MOE_ABI::detail {

/// An architecture as config.json names it, by model_type or by the class in front of ForCausalLM.
struct HuggingFaceArchitecture {
    const char* name;
    MoEConfig (*preset)();
    bool plain_width = false;   ///< the width of its experts is intermediate_size
    bool fixed_norm = false;    ///< its code does not look at norm_topk_prob
    bool scale_of_sum = false;  ///< routed_scaling_factor multiplies the routed sum
};

inline constexpr HuggingFaceArchitecture hugging_face_architectures[] = {
    {"mixtral", presets::mixtral, true},
    {"minimax", presets::minimax, true},
    {"minimax_text_01", presets::minimax, true},
    {"minimax_m1", presets::minimax, true},
    {"switch_transformers", presets::switch_transformer, true},
    {"qwen2_moe", presets::qwen2_moe},
    {"qwen3_moe", presets::qwen3_moe},
    {"qwen3_omni_moe", presets::qwen3_moe},
    {"qwen3_vl_moe", presets::qwen3_vl, false, true},
    {"qwen3_next", presets::qwen3_next},
    {"qwen3_5_moe", presets::qwen3_5_moe, false, true},
    {"qwen4_exp", presets::qwen4_exp},
    {"mellum", presets::mellum},
    {"olmoe", presets::olmoe, true},
    {"flex_olmo", presets::flex_olmo, true},
    {"jamba", presets::jamba, true},
    {"hunyuan_v1_moe", presets::hunyuan_v1, true},
    {"hunyuan", presets::hunyuan_v1, true},
    {"bailing_moe", presets::bailing_moe},
    {"arctic", presets::arctic, true},
    {"grok_1", presets::grok_1, true},
    {"dbrx", presets::dbrx, true},
    {"deepseek", presets::deepseek_v2_lite},
    {"deepseek_v2", presets::deepseek_v2, false, true},
    {"deepseek_v3", presets::deepseek_v3},
    {"deepseek_v32", presets::deepseek_v3},
    {"kimi_k2", presets::deepseek_v3},
    {"deepseek_v4", presets::deepseek_v4},
    {"mistral4", presets::mistral4},
    {"ernie4_5_moe", presets::ernie4_5_moe},
    {"longcat_flash", presets::longcat_flash, false, true},
    {"gemma4", presets::gemma4, false, true},
    {"phimoe", presets::phimoe, true},
    {"gpt_oss", presets::gpt_oss, true},
    {"openai_privacy_filter", presets::openai_privacy_filter, true},
    {"llama4", presets::llama4, true},
    {"granitemoe", presets::granitemoe, true},
    {"granitemoeshared", presets::granitemoehybrid, true},
    {"granitemoehybrid", presets::granitemoehybrid, true},
    {"jetmoe", presets::jetmoe, true},
    {"aria", presets::aria, true},
    {"cohere2_moe", presets::cohere2_moe, true},
    {"glm4_moe", presets::glm4_moe},
    {"glm4v_moe", presets::glm4_moe},
    {"glm4_moe_lite", presets::glm4_moe_lite},
    {"glm_moe_dsa", presets::glm_moe_dsa},
    {"glm5_next", presets::glm5_next},
    {"dots1", presets::dots1},
    {"solar_open", presets::solar_open},
    {"exaone_moe", presets::exaone_moe},
    {"mimo_v2_flash", presets::mimo_v2_flash},
    {"axk1", presets::axk1},
    {"axk2", presets::axk2},
    {"kimi_linear", presets::kimi_linear},
    {"nemotron_h", presets::nemotron_h},
    {"bailing_moe_v2", presets::bailing_moe_v2},
    {"hy_v3", presets::hy_v3},
    {"hy_v4", presets::hy_v4},
    {"afmoe", presets::afmoe},
    {"lfm2_moe", presets::lfm2_moe},
    {"minimax_m2", presets::minimax_m2, true},
    {"minimax_m3", presets::minimax_m3, true, false, true},
    {"minimax_m3_vl", presets::minimax_m3, true, false, true},
    {"step3p7", presets::step3p7, false, false, true},
    {"laguna", presets::laguna, false, false, true},
};

/// The first of `names` that is known. Throws Error(range) naming the first of all and those nearest to it,
/// Error(missing) where there are no names.
[[nodiscard]] inline const HuggingFaceArchitecture& find_architecture(const std::vector<std::string_view>& names,
                                                                      std::string_view context) {
    ensure(!names.empty(), ErrorCode::missing, context, ": it names no architecture: no key model_type, architectures");
    std::string nearest;
    for (std::string_view name : names) {
        const std::string_view asked = name.ends_with("_text") ? name.substr(0, name.size() - 5) : name;
        presets::detail::NearestNames near(asked);
        for (const HuggingFaceArchitecture& architecture : hugging_face_architectures) {
            if (near.offer(architecture.name)) {
                return architecture;
            }
        }
        nearest = nearest.empty() ? near.text() : nearest;
    }
    raise_error(ErrorCode::range, context, ": the architecture ", in_quotes(names.front()),
                " is none that is known; the nearest are ", nearest);
}

}  // namespace moe::inline MOE_ABI::detail
