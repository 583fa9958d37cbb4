#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint/checkpoint_support.hpp"

/// How each architecture writes a layer of a folder.
namespace moe_test::made_folder {

using namespace moe_test::checkpoint;
using moe::DType;
using moe::JoinedAs;
using moe::MoEConfig;
using moe::StorageOrder;
namespace presets = moe::presets;

inline constexpr std::size_t n_experts = 8;
inline constexpr std::size_t d_model = 28;
inline constexpr std::size_t d_ff = 20;
inline constexpr std::size_t shared_width = 12;

/// How one architecture writes a layer.
struct Row {
    std::string type;
    MoEConfig (*preset)();
    std::vector<std::string> size_keys;  // experts, experts a token, width of an expert
    std::string place;                   // up to the router
    std::string router;
    std::vector<std::string> experts;   // gate, up, down, of each expert; or gate_up and down of all
    std::string bias{};                 // of the choice, or of the outputs
    std::vector<std::string> shared{};  // gate, up, down or gate_up, down; behind `place`, or whole names
    std::string extra{};                // more of config.json
};

inline const std::vector<std::string> local{"num_local_experts", "num_experts_per_tok", "intermediate_size"};
inline const std::vector<std::string> own{"num_experts", "num_experts_per_tok", "moe_intermediate_size"};
inline const std::vector<std::string> routed{"n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"};
inline const std::vector<std::string> by_w{"experts.#.w1", "experts.#.w3", "experts.#.w2"};
inline const std::vector<std::string> by_proj{"experts.#.gate_proj", "experts.#.up_proj", "experts.#.down_proj"};
inline const std::vector<std::string> fused{"experts.gate_up_proj", "experts.down_proj"};
inline const std::string correction = "gate.e_score_correction_bias";

inline std::vector<std::string> shared_in(const std::string& room) {
    return {room + ".gate_proj.weight", room + ".up_proj.weight", room + ".down_proj.weight"};
}

inline std::vector<Row> rows() {
    const std::string mlp = "model.layers.1.mlp.";
    const std::string sparse = "model.layers.1.block_sparse_moe.";
    const std::string forward = "model.layers.1.feed_forward.";
    const std::string gate = "gate.weight";
    const std::string qwen_shared = R"(,"shared_expert_intermediate_size":12)";
    const std::string one_shared = R"(,"n_shared_experts":1)";
    std::vector<Row> result{
        {"mixtral", presets::mixtral, local, sparse, gate, by_w},
        {"minimax_text_01", presets::minimax, local, sparse, gate, by_w},
        {"arctic", presets::arctic, local, sparse, gate, by_w, "", {}, R"(,"moe_layer_frequency":2)"},
        {"phimoe", presets::phimoe, local, sparse, gate, by_w},
        {"grok-1",
         presets::grok_1,
         own,
         "model.layers.1.moe_block.",
         gate,
         {"experts.#.linear", "experts.#.linear_v", "experts.#.linear_1"}},
        {"qwen2_moe", presets::qwen2_moe, own, mlp, gate, by_proj, "", shared_in("shared_expert"), qwen_shared},
        {"qwen3_moe", presets::qwen3_moe, own, mlp, gate, by_proj, "", {}, R"(,"norm_topk_prob":true)"},
        {"qwen3_vl_moe", presets::qwen3_vl, own, "model.language_model.layers.1.mlp.", gate, fused},
        {"qwen3_next", presets::qwen3_next, own, mlp, gate, by_proj, "", shared_in("shared_expert"), qwen_shared},
        {"qwen3_5_moe", presets::qwen3_5_moe, own, "model.language_model.layers.1.mlp.", gate, fused, "",
         shared_in("shared_expert"), qwen_shared},
        {"qwen4_exp", presets::qwen4_exp, own, mlp, gate, by_proj, "", shared_in("shared_expert"), qwen_shared},
        {"mellum", presets::mellum, own, mlp, gate, by_proj},
        {"olmoe", presets::olmoe, {"num_experts", "num_experts_per_tok", "intermediate_size"}, mlp, gate, by_proj},
        {"flex_olmo",
         presets::flex_olmo,
         {"num_experts", "num_experts_per_tok", "intermediate_size"},
         mlp,
         gate,
         by_proj},
        {"jamba",
         presets::jamba,
         {"num_experts", "num_experts_per_tok", "intermediate_size"},
         forward,
         "router.weight",
         by_proj,
         "",
         {},
         R"(,"expert_layer_period":2,"expert_layer_offset":1)"},
        {"hunyuan_v1_moe",
         presets::hunyuan_v1,
         {"num_experts", "moe_topk", "moe_intermediate_size"},
         mlp,
         "gate.wg.weight",
         by_proj,
         "",
         shared_in("shared_mlp"),
         R"(,"num_shared_expert":[1,1])"},
        {"bailing_moe", presets::bailing_moe, own, mlp, gate, by_proj, "", shared_in("shared_experts"),
         R"(,"num_shared_experts":1,"first_k_dense_replace":1)"},
        {"deepseek_v2", presets::deepseek_v2, routed, mlp, gate, by_proj, "", shared_in("shared_experts"),
         one_shared +
             R"(,"n_group":4,"topk_group":3,"topk_method":"group_limited_greedy","routed_scaling_factor":16.0)"},
        {"mistral4", presets::mistral4, routed, mlp, gate, by_proj, "", shared_in("shared_experts"), one_shared},
        {"ernie4_5_moe",
         presets::ernie4_5_moe,
         {"moe_num_experts", "moe_k", "moe_intermediate_size"},
         mlp,
         gate,
         by_proj,
         "moe_statics.e_score_correction_bias",
         shared_in("shared_experts"),
         R"(,"moe_num_shared_experts":1,"moe_layer_start_index":1,"moe_layer_end_index":-1)"},
        {"llama4", presets::llama4, local, "language_model.model.layers.1.feed_forward.", "router.weight", fused, "",
         shared_in("shared_expert"), R"(,"interleave_moe_layer_step":2)"},
        {"gemma4",
         presets::gemma4,
         {"num_experts", "top_k_experts", "moe_intermediate_size"},
         "model.language_model.layers.1.",
         "router.proj.weight",
         fused},
        {"gpt_oss", presets::gpt_oss, local, mlp, "router.weight", fused},
        {"openai_privacy_filter", presets::openai_privacy_filter, local, mlp, "router.weight", fused},
        {"granitemoe",
         presets::granitemoe,
         local,
         sparse,
         "router.layer.weight",
         {"input_linear.weight", "output_linear.weight"}},
        {"granitemoehybrid",
         presets::granitemoehybrid,
         local,
         sparse,
         "router.layer.weight",
         {"input_linear.weight", "output_linear.weight"},
         "",
         {"model.layers.1.shared_mlp.input_linear.weight", "model.layers.1.shared_mlp.output_linear.weight"},
         R"(,"shared_intermediate_size":12)"},
        {"jetmoe",
         presets::jetmoe,
         local,
         mlp,
         "router.layer.weight",
         {"input_linear.weight", "output_linear.weight"},
         "bias"},
        {"aria",
         presets::aria,
         {"moe_num_experts", "moe_topk", "intermediate_size"},
         "language_model.model.layers.1.mlp.",
         "router.weight",
         {"experts.fc1.weight", "experts.fc2.weight"},
         "",
         shared_in("shared_experts"),
         R"(,"moe_num_shared_experts":1)"},
        {"cohere2_moe",
         presets::cohere2_moe,
         {"num_experts", "num_experts_per_tok", "intermediate_size"},
         mlp,
         gate,
         by_proj,
         "",
         shared_in("shared_experts"),
         R"(,"num_shared_experts":1)"},
        {"deepseek_v4",
         presets::deepseek_v4,
         routed,
         "layers.1.ffn.",
         gate,
         by_w,
         "gate.bias",
         {"shared_experts.w1.weight", "shared_experts.w3.weight", "shared_experts.w2.weight"},
         one_shared + R"(,"scoring_func":"sqrtsoftplus","swiglu_limit":10.0,"num_hash_layers":1)"},
        {"longcat_flash",
         presets::longcat_flash,
         {"n_routed_experts", "moe_topk", "expert_ffn_hidden_size"},
         mlp,
         "router.classifier.weight",
         by_proj,
         "router.e_score_correction_bias",
         {},
         R"(,"zero_expert_num":4)"},
        {"kimi_linear",
         presets::kimi_linear,
         {"num_experts", "num_experts_per_token", "moe_intermediate_size"},
         sparse,
         gate,
         by_w,
         correction,
         shared_in("shared_experts"),
         R"(,"num_shared_experts":1,"moe_renormalize":true,"moe_router_activation_func":"sigmoid")"},
        {"nemotron_h",
         presets::nemotron_h,
         routed,
         "backbone.layers.1.mixer.",
         gate,
         {"", "experts.#.up_proj", "experts.#.down_proj"},
         correction,
         {"", "shared_experts.up_proj.weight", "shared_experts.down_proj.weight"},
         R"(,"moe_shared_expert_intermediate_size":12,"hybrid_override_pattern":"ME","time_step_limit":[0,Infinity])"},
        {"bailing_moe_v2", presets::bailing_moe_v2, own, mlp, gate, by_proj, "gate.expert_bias",
         shared_in("shared_experts"), R"(,"num_shared_experts":1,"n_group":4,"topk_group":2)"},
        {"afmoe", presets::afmoe, own, mlp, "router.gate.weight", by_proj, "expert_bias", shared_in("shared_experts"),
         R"(,"num_shared_experts":1,"num_dense_layers":1,"route_scale":2.826,"score_func":"sigmoid")"},
        {"lfm2_moe", presets::lfm2_moe, own, forward, gate, by_w, "expert_bias"},
        {"minimax_m2", presets::minimax_m2, local, sparse, gate, by_w, "e_score_correction_bias"},
        {"minimax_m3_vl", presets::minimax_m3, local, sparse, gate, by_w, "e_score_correction_bias",
         shared_in("shared_experts"), one_shared + R"(,"swiglu_limit":7.0,"routed_scaling_factor":2.0)"},
        {"step3p7",
         presets::step3p7,
         {"moe_num_experts", "moe_top_k", "moe_intermediate_size"},
         "model.layers.1.moe.",
         gate,
         {"gate_proj.weight", "up_proj.weight", "down_proj.weight"},
         "router_bias",
         shared_in("model.layers.1.share_expert"),
         R"(,"share_expert_dim":12,"moe_layers_enum":"1","moe_router_scaling_factor":3.0)"},
        {"laguna", presets::laguna, own, mlp, gate, by_proj, correction, shared_in("shared_expert"), qwen_shared},
        {"exaone_moe", presets::exaone_moe, own, mlp, gate, by_proj, "e_score_correction_bias",
         shared_in("shared_experts"), R"(,"num_shared_experts":1)"},
        {"mimo_v2_flash",
         presets::mimo_v2_flash,
         routed,
         mlp,
         gate,
         by_proj,
         correction,
         {},
         R"(,"moe_layer_freq":[0,1])"},
        {"switch_transformers",
         presets::switch_transformer,
         {"num_experts", "k", "d_ff"},
         "encoder.block.1.layer.1.mlp.",
         "router.classifier.weight",
         {"", "experts.expert_#.wi", "experts.expert_#.wo"},
         "",
         {},
         R"(,"num_sparse_encoder_layers":1,"decoder_sparse_step":0)"},
        {"dbrx",
         presets::dbrx,
         {"moe_num_experts", "moe_top_k", "ffn_hidden_size"},
         "transformer.blocks.1.ffn.",
         "router.layer.weight",
         {"experts.mlp.w1", "experts.mlp.v1", "experts.mlp.w2"}},
    };
    for (const auto& [type, preset] :
         std::vector<std::pair<std::string, MoEConfig (*)()>>{{"deepseek_v3", presets::deepseek_v3},
                                                              {"kimi_k2", presets::deepseek_v3},
                                                              {"glm4_moe", presets::glm4_moe},
                                                              {"glm4_moe_lite", presets::glm4_moe_lite},
                                                              {"glm_moe_dsa", presets::glm_moe_dsa},
                                                              {"glm5_next", presets::glm5_next},
                                                              {"dots1", presets::dots1},
                                                              {"solar_open", presets::solar_open},
                                                              {"axk1", presets::axk1},
                                                              {"axk2", presets::axk2},
                                                              {"hy_v3", presets::hy_v3},
                                                              {"hy_v4", presets::hy_v4}}) {
        result.push_back({type, preset, routed, mlp, gate, by_proj, correction, shared_in("shared_experts"),
                          one_shared +
                              R"(,"n_group":4,"topk_group":2,"topk_method":"noaux_tc","scoring_func":"sigmoid",)" +
                              R"("first_k_dense_replace":1)"});
    }
    return result;
}

}  // namespace moe_test::made_folder
