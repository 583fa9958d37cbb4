#include "golden_layers.hpp"

#include <cstddef>
#include <functional>

#include <moe/io.hpp>

namespace moe_test {

namespace {

namespace reference = moe::reference;
using reference::Norm;
using reference::Score;
using reference::Source;
using reference::TokenChoiceRule;
using reference::Vector;

constexpr std::size_t d_model = 40;
constexpr std::size_t d_ff = 28;

/// How a file stores its experts, E of them.
enum class Storage {
    stacked,      // gate above up (E, 2 d_ff, d_model), down (E, d_model, d_ff)
    transposed,   // gate beside up (E, d_model, 2 d_ff), down (E, d_ff, d_model)
    interleaved,  // as transposed, but gate and up in turn, with biases
    dbrx,         // w1, v1, w2, each (E d_ff, d_model)
    by_expert,    // wi (d_ff, d_model), wo (d_model, d_ff) of each
};

/// What a file is.
struct Block {
    std::size_t n_experts = 8;  // with weights
    TokenChoiceRule rule{};
    std::string router = "gate.weight";
    std::string selection_bias{};
    Storage storage = Storage::stacked;
    std::string gate_up = "experts.gate_up_proj";
    std::string down = "experts.down_proj";
    std::string shared{};  // prefix of the projections
    std::string shared_gate{};
    std::string router_bias{};
    std::string output_bias{};
};

Block block_of(const std::string& name) {
    const std::string deepseek_shared = "shared_experts.";
    if (name == "mixtral") {
        return {.rule = {.top_k = 2, .norm = Norm::sum}};
    }
    if (name == "qwen2_moe") {
        return {.n_experts = 12,
                .rule = {.top_k = 4},
                .shared = "shared_expert.",
                .shared_gate = "shared_expert_gate.weight"};
    }
    if (name == "qwen3_moe") {
        return {.n_experts = 16, .rule = {.top_k = 4, .norm = Norm::sum}};
    }
    if (name == "olmoe") {
        return {.n_experts = 16, .rule = {.top_k = 4}};
    }
    if (name == "deepseek_v2_greedy") {
        return {.n_experts = 16, .rule = {.top_k = 6}, .shared = deepseek_shared};
    }
    if (name == "deepseek_v2_group_limited") {
        return {.n_experts = 16,
                .rule = {.top_k = 3, .n_groups = 4, .groups_kept = 2, .group_members = 1, .scale = 16},
                .shared = deepseek_shared};
    }
    if (name == "deepseek_v3") {
        return {.n_experts = 16,
                .rule = {.top_k = 4,
                         .score = Score::sigmoid,
                         .n_groups = 4,
                         .groups_kept = 2,
                         .norm = Norm::sum,
                         .norm_value = 1e-20,
                         .scale = 2.5},
                .selection_bias = "gate.e_score_correction_bias",
                .shared = deepseek_shared};
    }
    if (name == "ernie4_5_moe") {
        return {.rule = {.top_k = 2, .norm = Norm::clamped_sum, .norm_value = 1e-12},
                .selection_bias = "gate.moe_statics.e_score_correction_bias",
                .shared = deepseek_shared};
    }
    if (name == "minimax_m2") {
        return {.rule = {.top_k = 2, .score = Score::sigmoid, .norm = Norm::sum},
                .selection_bias = "e_score_correction_bias"};
    }
    if (name == "longcat_flash") {
        return {.rule = {.top_k = 4, .scale = 2.5},
                .router = "router.classifier.weight",
                .selection_bias = "router.e_score_correction_bias"};
    }
    if (name == "dbrx") {
        return {.rule = {.top_k = 2, .norm = Norm::lp, .norm_value = 1},
                .router = "router.layer.weight",
                .storage = Storage::dbrx};
    }
    if (name == "switch_transformers") {
        return {.rule = {.top_k = 1}, .router = "router.classifier.weight", .storage = Storage::by_expert};
    }
    if (name == "llama4") {
        return {.rule = {.top_k = 1, .weight_from = Source::sigmoid_of_selected},
                .router = "router.weight",
                .storage = Storage::transposed,
                .shared = "shared_expert."};
    }
    if (name == "phimoe") {
        return {.router = "router.weight"};
    }
    const TokenChoiceRule of_selected{.top_k = 2, .weight_from = Source::softmax_of_selected};
    if (name == "granitemoe") {
        return {.rule = of_selected, .router = "router.weight"};
    }
    if (name == "jetmoe") {
        return {.rule = of_selected,
                .router = "router.layer.weight",
                .gate_up = "input_linear.weight",
                .down = "output_linear.weight",
                .output_bias = "bias"};
    }
    TokenChoiceRule four = of_selected;  // gpt_oss
    four.top_k = 4;
    return {.rule = four, .router = "router.weight", .storage = Storage::interleaved, .router_bias = "router.bias"};
}

enum class Part { gate, up, down, gate_bias, up_bias, down_bias };

/// Where a file has one number of an expert.
struct Place {
    std::string tensor{};
    std::size_t index = 0;
};

/// Of element (row, column) of a part, biases in column 0.
Place place_of(const Block& block, Part part, std::size_t e, std::size_t row, std::size_t column) {
    const std::size_t second = part == Part::up || part == Part::up_bias ? 1 : 0;
    switch (block.storage) {
        case Storage::stacked:
            return part == Part::down ? Place{block.down, (e * d_model + row) * d_ff + column}
                                      : Place{block.gate_up, ((2 * e + second) * d_ff + row) * d_model + column};
        case Storage::transposed:
            return part == Part::down ? Place{block.down, (e * d_ff + column) * d_model + row}
                                      : Place{block.gate_up, ((e * d_model + column) * 2 + second) * d_ff + row};
        case Storage::interleaved:
            switch (part) {
                case Part::gate:
                case Part::up: return {block.gate_up, ((e * d_model + column) * d_ff + row) * 2 + second};
                case Part::down: return {block.down, (e * d_ff + column) * d_model + row};
                case Part::down_bias: return {block.down + "_bias", e * d_model + row};
                default: return {block.gate_up + "_bias", (e * d_ff + row) * 2 + second};
            }
        case Storage::dbrx:
            return part == Part::down
                       ? Place{"experts.mlp.w2", (e * d_ff + column) * d_model + row}
                       : Place{second == 1 ? "experts.mlp.v1" : "experts.mlp.w1", (e * d_ff + row) * d_model + column};
        case Storage::by_expert: break;
    }
    const std::string prefix = "experts.expert_" + std::to_string(e);
    return part == Part::down ? Place{prefix + ".wo.weight", row * d_ff + column}
                              : Place{prefix + ".wi.weight", row * d_model + column};
}

/// Calls visit(number of an expert, where the file has it) for each number of expert e, which is an Expert or its
/// gradients.
template <class E, class Visit>
void for_each_number(const Block& block, std::size_t e, E& expert, const Visit& visit) {
    const auto matrix = [&](Part part, auto& values, std::size_t columns) {
        for (std::size_t i = 0; i < values.size(); ++i) {
            visit(values[i], place_of(block, part, e, i / columns, i % columns));
        }
    };
    matrix(Part::gate, expert.gate, d_model);
    matrix(Part::up, expert.up, d_model);
    matrix(Part::down, expert.down, d_ff);
    matrix(Part::gate_bias, expert.gate_bias, 1);
    matrix(Part::up_bias, expert.up_bias, 1);
    matrix(Part::down_bias, expert.down_bias, 1);
}

reference::Expert empty_expert(const Block& block) {
    reference::Expert expert{.d_model = d_model, .d_ff = d_ff};
    const bool biases = block.storage == Storage::interleaved;
    expert.form = biases                                ? reference::Form::clamp_a
                  : block.storage == Storage::by_expert ? reference::Form::relu
                                                        : reference::Form::swiglu;
    expert.gate.resize(block.storage == Storage::by_expert ? 0 : d_ff * d_model);
    expert.up.resize(d_ff * d_model);
    expert.down.resize(d_model * d_ff);
    expert.gate_bias.resize(biases ? d_ff : 0);
    expert.up_bias.resize(biases ? d_ff : 0);
    expert.down_bias.resize(biases ? d_model : 0);
    return expert;
}

}  // namespace

std::vector<std::string> golden_layer_names() {
    return {"mixtral",     "qwen2_moe",     "qwen3_moe",  "olmoe",   "deepseek_v2_greedy", "deepseek_v2_group_limited",
            "deepseek_v3", "ernie4_5_moe",  "minimax_m2", "gpt_oss", "granitemoe",         "llama4",
            "phimoe",      "longcat_flash", "jetmoe",     "dbrx",    "switch_transformers"};
}

GoldenLayer golden_layer(const std::string& name) {
    const auto file =
        moe::SafetensorsFile::open(std::string(MOE_TEST_DATA_DIR) + "/golden/blocks/" + name + ".safetensors");
    const auto parameter = [&](const std::string& tensor) {
        return tensor.empty() ? Vector() : file.at("param." + tensor).to_double_vector();
    };
    const Block block = block_of(name);
    GoldenLayer golden{.file = name, .sparse_mixer = name == "phimoe"};
    reference::Layer& layer = golden.layer;
    layer.d_model = d_model;
    layer.rule = block.rule;
    layer.rule.selection_bias = parameter(block.selection_bias);
    layer.router = parameter(block.router);
    layer.router_bias = parameter(block.router_bias);
    layer.output_bias = parameter(block.output_bias);
    layer.weight_at_input = name == "llama4";
    layer.n_identity = layer.router.size() / d_model - block.n_experts;
    std::map<std::string, Vector> tensors;
    for (std::size_t e = 0; e < block.n_experts; ++e) {
        reference::Expert expert = empty_expert(block);
        for_each_number(block, e, expert, [&](double& value, const Place& place) {
            Vector& tensor = tensors[place.tensor];
            tensor = tensor.empty() ? parameter(place.tensor) : std::move(tensor);
            value = tensor.at(place.index);
        });
        layer.experts.push_back(expert);
    }
    if (!block.shared.empty()) {
        reference::Expert shared{.d_model = d_model};
        shared.gate = parameter(block.shared + "gate_proj.weight");
        shared.up = parameter(block.shared + "up_proj.weight");
        shared.down = parameter(block.shared + "down_proj.weight");
        shared.d_ff = shared.up.size() / d_model;
        layer.shared = {shared};
        layer.shared_gate = parameter(block.shared_gate);
        layer.shared_mode = block.shared_gate.empty() ? reference::Shared::add : reference::Shared::gated;
    }
    golden.x = file.at("input").to_double_vector();
    golden.y = file.at("output").to_double_vector();
    golden.dy = file.at("grad_output").to_double_vector();
    if (file.find("topk_index") != nullptr) {
        golden.experts = file.at("topk_index").to_vector<std::int32_t>();
    }
    for (const moe::TensorView& tensor : file.tensors()) {
        if (tensor.name.rfind("grad.", 0) == 0 || tensor.name == "grad_input") {
            golden.expected[tensor.name] = tensor.to_double_vector();
        }
    }
    return golden;
}

std::map<std::string, Vector> GoldenLayer::stored(const reference::LayerGradients& gradients) const {
    const Block block = block_of(file);
    std::map<std::string, Vector> result;
    const auto put = [&](const std::string& tensor, const Vector& values) {
        if (!tensor.empty()) {
            result["grad." + tensor] = values;
        }
    };
    result["grad_input"] = gradients.x;
    put(block.router, gradients.router);
    put(block.router_bias, gradients.router_bias);
    put(block.output_bias, gradients.output_bias);
    put(block.shared_gate, gradients.shared_gate);
    if (!block.shared.empty()) {
        put(block.shared + "gate_proj.weight", gradients.shared[0].gate);
        put(block.shared + "up_proj.weight", gradients.shared[0].up);
        put(block.shared + "down_proj.weight", gradients.shared[0].down);
    }
    for (std::size_t e = 0; e < gradients.experts.size(); ++e) {
        for_each_number(block, e, gradients.experts[e], [&](const double& value, const Place& place) {
            const auto stored_size = expected.find("grad." + place.tensor);
            Vector& tensor = result["grad." + place.tensor];
            tensor.resize(stored_size == expected.end() ? 0 : stored_size->second.size(), 0.0);
            tensor.at(place.index) = value;
        });
    }
    return result;
}

}  // namespace moe_test
