#include "golden_blocks.hpp"

namespace moe_test {

namespace {

/// `preset` at the size of the golden blocks.
moe::MoEConfig resized(moe::MoEConfig preset, std::size_t n_experts, int top_k) {
    preset.n_experts = n_experts;
    preset.routing.top_k = top_k;
    preset.d_model = 40;
    preset.d_ff = 28;
    if (preset.shared_d_ff != 0) {
        preset.shared_d_ff = 28;
    }
    return preset;
}

moe::MoEConfig with_groups(moe::MoEConfig config, int n_groups, int kept) {
    config.routing.groups.n_groups = n_groups;
    config.routing.groups.kept = kept;
    return config;
}

moe::MoEConfig with_shared(moe::MoEConfig config, std::size_t shared_d_ff) {
    config.shared_d_ff = shared_d_ff;
    return config;
}

std::vector<GoldenBlock> softmax_blocks() {
    namespace presets = moe::presets;
    return {
        {.file = "mixtral", .config = resized(presets::mixtral(), 8, 2)},
        {.file = "qwen2_moe",
         .config = with_shared(resized(presets::qwen2_moe(), 12, 4), 36),
         .shared = "shared_expert.",
         .shared_gate = "shared_expert_gate.weight"},
        {.file = "qwen3_moe", .config = resized(presets::qwen3_moe(), 16, 4)},
        {.file = "olmoe", .config = resized(presets::olmoe(), 16, 4)},
        {.file = "deepseek_v2_greedy",
         .config = with_shared(resized(presets::deepseek_v2_lite(), 16, 6), 56),
         .shared = "shared_experts."},
        {.file = "deepseek_v2_group_limited",
         .config = with_shared(with_groups(resized(presets::deepseek_v2(), 16, 3), 4, 2), 56),
         .shared = "shared_experts."},
        {.file = "ernie4_5_moe",
         .config = resized(presets::ernie4_5_moe(), 8, 2),
         .selection_bias = "gate.moe_statics.e_score_correction_bias",
         .shared = "shared_experts."},
    };
}

std::vector<GoldenBlock> other_blocks() {
    namespace presets = moe::presets;
    moe::MoEConfig longcat = resized(presets::longcat_flash(), 8, 4);
    longcat.n_identity_experts = 4;
    longcat.routing.scale = 2.5;
    return {
        {.file = "longcat_flash",
         .config = longcat,
         .router = "router.classifier.weight",
         .selection_bias = "router.e_score_correction_bias"},
        {.file = "deepseek_v3",
         .config = with_groups(resized(presets::deepseek_v3(), 16, 4), 4, 2),
         .selection_bias = "gate.e_score_correction_bias",
         .shared = "shared_experts."},
        {.file = "minimax_m2",
         .config = resized(presets::minimax_m2(), 8, 2),
         .selection_bias = "e_score_correction_bias"},
        {.file = "gpt_oss",
         .config = resized(presets::gpt_oss(), 8, 4),
         .router = "router.weight",
         .router_bias = "router.bias"},
        {.file = "llama4",
         .config = resized(presets::llama4(), 8, 1),
         .router = "router.weight",
         .shared = "shared_expert."},
        {.file = "phimoe", .config = resized(presets::phimoe(), 8, 2), .router = "router.weight"},
        {.file = "granitemoe", .config = resized(presets::granitemoe(), 8, 2), .router = "router.weight"},
        {.file = "jetmoe",
         .config = resized(presets::jetmoe(), 8, 2),
         .router = "router.layer.weight",
         .experts = "",
         .gate_up = "input_linear.weight",
         .down = "output_linear.weight",
         .output_bias = "bias"},
        {.file = "dbrx",
         .config = resized(presets::dbrx(), 8, 2),
         .router = "router.layer.weight",
         .experts = "experts.mlp."},
        {.file = "switch_transformers",
         .config = resized(presets::switch_transformer(), 8, 1),
         .router = "router.classifier.weight"},
    };
}

}  // namespace

std::vector<GoldenBlock> golden_blocks() {
    std::vector<GoldenBlock> blocks = softmax_blocks();
    for (GoldenBlock& block : other_blocks()) {
        blocks.push_back(std::move(block));
    }
    return blocks;
}

}  // namespace moe_test
