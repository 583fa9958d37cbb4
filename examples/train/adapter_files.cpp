#include "adapter_files.hpp"

#include <cstddef>
#include <deque>
#include <filesystem>
#include <utility>
#include <vector>

#include <moe/io.hpp>
#include <nlohmann/json.hpp>

#include "folder.hpp"

namespace trainer {

namespace {

std::string weights_path(const std::string& directory) { return directory + "/adapter_model.safetensors"; }

std::string config_text(const LoraSettings& settings, const std::string& base) {
    const nlohmann::ordered_json json{{"peft_type", "LORA"},
                                      {"task_type", "CAUSAL_LM"},
                                      {"base_model_name_or_path", base},
                                      {"r", settings.rank},
                                      {"lora_alpha", settings.alpha},
                                      {"lora_dropout", 0.0},
                                      {"use_rslora", false},
                                      {"bias", "none"},
                                      {"target_modules", nlohmann::json::array()},
                                      {"target_parameters", {"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}},
                                      {"inference_mode", true}};
    return json.dump(2) + "\n";
}

}  // namespace

bool has_adapter(const std::string& directory) { return std::filesystem::exists(weights_path(directory)); }

void write_adapter(const std::string& directory, const LoraRouting<float>& routing, const Config& config,
                   const std::string& base) {
    create_folder(directory);
    const std::size_t n_experts = unsigned_size(config.n_experts);
    const std::size_t d = unsigned_size(config.d_model);
    const std::size_t d_ff = unsigned_size(config.d_ff);
    std::deque<moe::PeftTensors<float>> owners;  // what the tensors view does not move
    std::vector<moe::TensorToWrite> tensors;
    const auto add = [&](const std::string& prefix, const moe::LoraPair<float>& pair, const moe::PeftTarget& target) {
        owners.emplace_back(prefix, pair, target);
        for (const moe::TensorToWrite& tensor : owners.back().tensors()) {
            tensors.push_back(tensor);
        }
    };
    for (std::size_t i = 0; i < unsigned_size(config.n_layers); ++i) {
        // PEFT wraps a module once for each of its parameters, in their order: the last one is outside
        const std::string prefix = "base_model.model.model.layers." + std::to_string(i) + ".mlp.experts";
        add(prefix + ".base_layer", routing.gate_up(i), {n_experts, 2 * d_ff, d, moe::PeftSide::inputs});
        add(prefix, routing.down(i), {n_experts, d, d_ff, moe::PeftSide::inputs});
    }
    moe::write_safetensors(weights_path(directory), tensors, {{"format", "pt"}});
    write_text_file(directory + "/adapter_config.json", config_text(routing.settings(), base));
}

}  // namespace trainer
