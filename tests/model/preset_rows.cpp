#include "preset_rows.hpp"

#include <utility>

namespace moe_test {

namespace {

using moe::JoinedAs;
using moe::StorageOrder;
using moe::reference::Base;
using moe::reference::Form;
using moe::reference::Norm;
using moe::reference::Score;
using moe::reference::Shared;
using moe::reference::Source;
using moe::reference::TokenChoiceRule;

constexpr StorageOrder joined{JoinedAs::concatenated, false, false};
constexpr StorageOrder input_major{JoinedAs::concatenated, true, true};

TokenChoiceRule softmax(Norm norm, double value = 0) { return {.norm = norm, .norm_value = value}; }

TokenChoiceRule of_selected(Source weight_from, Norm norm = Norm::none) {
    return {.select_on = Base::logits, .weight_from = weight_from, .norm = norm};
}

TokenChoiceRule sigmoid(double eps, double scale = 1) {
    return {.score = Score::sigmoid, .norm = Norm::sum, .norm_value = eps, .scale = scale};
}

std::vector<PresetRow> softmax_rows() {
    const TokenChoiceRule normalized = softmax(Norm::sum);
    const TokenChoiceRule plain = softmax(Norm::none);
    TokenChoiceRule mistral = softmax(Norm::sum, 1e-20);
    mistral.group_fill = 0;
    return {
        {.name = "minimax", .sizes = {32, 2, 6144, 9216, 0}, .rule = normalized},
        {.name = "qwen3_vl", .sizes = {128, 8, 2048, 768, 0}, .rule = normalized, .file = input_major},
        {.name = "qwen3_next", .sizes = {512, 10, 2048, 512, 512}, .rule = normalized, .shared_mode = Shared::gated},
        {.name = "qwen3_5_moe",
         .sizes = {256, 8, 2048, 512, 512},
         .rule = normalized,
         .shared_mode = Shared::gated,
         .file = joined},
        {.name = "qwen4_exp",
         .sizes = {512, 10, 2048, 512, 512},
         .rule = normalized,
         .shared_mode = Shared::gated,
         .file_known = false},
        {.name = "mellum", .sizes = {64, 8, 2304, 896, 0}, .rule = normalized},
        {.name = "flex_olmo", .sizes = {7, 5, 4096, 11008, 0}, .rule = plain},
        {.name = "jamba", .sizes = {16, 2, 4096, 14336, 0}, .rule = plain},
        {.name = "hunyuan_v1", .sizes = {64, 8, 4096, 3072, 3072}, .rule = normalized},
        {.name = "bailing_moe", .sizes = {64, 6, 2048, 1408, 2816}, .rule = normalized},
        {.name = "arctic", .sizes = {128, 2, 7168, 4864, 0}, .rule = normalized, .file_known = false},
        {.name = "grok_1",
         .sizes = {8, 2, 6144, 32768, 0},
         .rule = plain,
         .form = {Form::geglu_tanh},
         .file_known = false},
        {.name = "mistral4",
         .sizes = {128, 4, 4096, 2048, 2048},
         .rule = mistral,
         .group_limited = true,
         .file_known = false},
        {.name = "gemma4",
         .sizes = {128, 8, 2816, 704, 0},
         .rule = normalized,
         .per_expert_scale = true,
         .form = {Form::geglu_tanh},
         .file = joined},
    };
}

std::vector<PresetRow> selected_rows() {
    const TokenChoiceRule softmax_of_selected = of_selected(Source::softmax_of_selected);
    TokenChoiceRule privacy = softmax_of_selected;
    privacy.scale = 0.25;
    return {
        {.name = "openai_privacy_filter",
         .sizes = {128, 4, 640, 640, 0},
         .rule = privacy,
         .router_bias = true,
         .expert_bias = true,
         .form = {Form::clamp_a, 7},
         .routed_scale = 4,
         .memory = input_major,
         .file = input_major},
        {.name = "granitemoehybrid",
         .sizes = {72, 10, 4096, 768, 1536},
         .rule = softmax_of_selected,
         .shared_memory = joined,
         .file = joined,
         .shared_file = joined},
        {.name = "aria",
         .sizes = {64, 6, 2560, 1664, 3328},
         .rule = softmax_of_selected,
         .memory = input_major,
         .file = input_major},
        {.name = "cohere2_moe",
         .sizes = {128, 8, 4096, 4096, 16384},
         .rule = of_selected(Source::sigmoid_of_selected, Norm::sum),
         .shared_mode = Shared::average},
    };
}

/// The router of DeepSeek-V3 with the sizes of others.
PresetRow v3_row(std::string name, PublishedSizes sizes, double scale, std::size_t n_groups = 1, std::size_t kept = 1) {
    TokenChoiceRule rule = sigmoid(1e-20, scale);
    rule.n_groups = n_groups;
    rule.groups_kept = kept;
    return {.name = std::move(name), .sizes = sizes, .rule = rule, .selection_bias = true, .group_limited = true};
}

std::vector<PresetRow> v3_rows() {
    std::vector<PresetRow> rows{
        v3_row("glm4_moe", {160, 8, 5120, 1536, 1536}, 2.5),
        v3_row("glm4_moe_lite", {64, 4, 2048, 1536, 1536}, 1.8),
        v3_row("glm_moe_dsa", {256, 8, 6144, 2048, 2048}, 2.5),
        v3_row("dots1", {128, 6, 4096, 1408, 2816}, 2.5),
        v3_row("solar_open", {128, 8, 4096, 1280, 1280}, 1),
        v3_row("exaone_moe", {128, 8, 6144, 2048, 2048}, 2.5),
        v3_row("axk1", {192, 8, 7168, 2048, 2048}, 2.5, 8, 4),
        v3_row("bailing_moe_v2", {256, 8, 2048, 512, 512}, 2.5, 8, 4),
    };
    PresetRow axk2 = v3_row("axk2", {128, 8, 2048, 512, 512}, 2.5);
    axk2.rule.group_fill = 0;
    rows.push_back(axk2);
    PresetRow nemotron = v3_row("nemotron_h", {128, 6, 2688, 1856, 3712}, 2.5);
    nemotron.form = nemotron.shared_form = {Form::relu_squared};
    nemotron.memory = {};
    rows.push_back(nemotron);
    PresetRow glm5 = v3_row("glm5_next", {288, 8, 4096, 2048, 2048}, 2.5);
    glm5.form = glm5.shared_form = {Form::clamp_b, 10};
    PresetRow hy_v4 = v3_row("hy_v4", {256, 8, 2816, 768, 768}, 2.827);
    hy_v4.form = {Form::clamp_b, 10};
    for (PresetRow row : {glm5, hy_v4, v3_row("kimi_linear", {256, 8, 2304, 1024, 1024}, 2.446),
                          v3_row("mimo_v2_flash", {256, 8, 4096, 2048, 0}, 1)}) {
        row.file_known = false;
        rows.push_back(std::move(row));
    }
    return rows;
}

std::vector<PresetRow> sigmoid_rows() {
    const FormRow oai{Form::clamp_a, 7};
    const FormRow v4_form{Form::clamp_b, 10};
    const TokenChoiceRule v4{.score = Score::sqrt_softplus, .norm = Norm::sum, .norm_value = 1e-20, .scale = 1.5};
    return {
        {.name = "deepseek_v4",
         .sizes = {256, 6, 4096, 2048, 2048},
         .rule = v4,
         .selection_bias = true,
         .form = v4_form,
         .shared_form = v4_form},
        {.name = "deepseek_v4_hash",
         .sizes = {256, 1, 4096, 2048, 2048},
         .rule = v4,
         .by_table = true,
         .form = v4_form,
         .shared_form = v4_form},
        {.name = "hy_v3", .sizes = {192, 8, 4096, 1536, 1536}, .rule = sigmoid(1e-20, 2.826), .selection_bias = true},
        {.name = "afmoe", .sizes = {128, 8, 2048, 1024, 1024}, .rule = sigmoid(1e-20, 2.826), .selection_bias = true},
        {.name = "lfm2_moe", .sizes = {32, 4, 2048, 1792, 0}, .rule = sigmoid(1e-6), .selection_bias = true},
        {.name = "minimax_m3",
         .sizes = {128, 4, 6144, 3072, 3072},
         .rule = sigmoid(0),
         .selection_bias = true,
         .form = oai,
         .shared_form = oai,
         .routed_scale = 2,
         .shared_memory = joined},
        {.name = "step3p7",
         .sizes = {288, 8, 4096, 1280, 1280},
         .rule = sigmoid(0),
         .selection_bias = true,
         .routed_scale = 3},
        {.name = "step3p7_clamped",
         .sizes = {288, 8, 4096, 1280, 1280},
         .rule = sigmoid(0),
         .selection_bias = true,
         .form = {Form::clamp_c, 7},
         .shared_form = {Form::clamp_c, 16},
         .routed_scale = 3},
        {.name = "laguna", .sizes = {256, 8, 2048, 512, 512}, .rule = sigmoid(0), .selection_bias = true},
    };
}

}  // namespace

std::vector<PresetRow> preset_rows() {
    std::vector<PresetRow> rows = softmax_rows();
    for (auto&& more : {selected_rows(), v3_rows(), sigmoid_rows()}) {
        rows.insert(rows.end(), more.begin(), more.end());
    }
    return rows;
}

}  // namespace moe_test
