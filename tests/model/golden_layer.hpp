#pragma once

#include <map>
#include <string>
#include <vector>

#include <moe/io.hpp>
#include <moe/moe.hpp>

#include "golden_blocks.hpp"

/// Layers over the tensors of the golden blocks.
namespace moe_test {

/// The tensors of one file, converted to T and kept while a layer looks at them.
template <class T>
class GoldenTensors {
public:
    explicit GoldenTensors(const std::string& name)
        : file_(
              moe::SafetensorsFile::open(std::string(MOE_TEST_DATA_DIR) + "/golden/blocks/" + name + ".safetensors")) {}

    const std::vector<T>& at(const std::string& name) {
        auto& values = kept_[name];
        if (values.empty()) {
            if constexpr (std::is_same_v<T, float>) {
                values = file_.at(name).to_float_vector();
            } else {
                values = file_.at(name).to_double_vector();
            }
        }
        return values;
    }
    const T* parameter(const std::string& name) { return at("param." + name).data(); }
    const std::vector<std::size_t>& shape(const std::string& name) const { return file_.at("param." + name).shape; }
    const moe::SafetensorsFile& file() const { return file_; }

private:
    moe::SafetensorsFile file_;
    std::map<std::string, std::vector<T>> kept_;
};

/// Experts as the state dict of the architecture holds them.
template <class T>
moe::ExpertWeights<T> golden_experts(const GoldenBlock& block, GoldenTensors<T>& tensors) {
    const moe::MoEConfig& config = block.config;
    if (block.file == "switch_transformers") {  // one matrix an expert
        std::vector<const T*> up;
        std::vector<const T*> down;
        for (std::size_t e = 0; e < config.n_experts; ++e) {
            const std::string prefix = "experts.expert_" + std::to_string(e);
            up.push_back(tensors.parameter(prefix + ".wi.weight"));
            down.push_back(tensors.parameter(prefix + ".wo.weight"));
        }
        moe::ExpertWeights<T> weights;
        weights.up = moe::separate(up, config.d_ff, config.d_model);
        weights.down = moe::separate(down, config.d_model, config.d_ff);
        return weights;
    }
    const std::size_t n = config.n_experts;
    const auto stack = [&](const std::string& name, std::size_t rows, std::size_t columns) {
        return moe::stacked(tensors.parameter(name), n, rows, columns);
    };
    moe::StackedExperts<T> stacked;
    if (block.file == "dbrx") {
        stacked.gate = stack("experts.mlp.w1", config.d_ff, 40);
        stacked.up = stack("experts.mlp.v1", config.d_ff, 40);
        stacked.down = stack("experts.mlp.w2", config.d_ff, 40);
    } else {
        const std::vector<std::size_t> gate_up = tensors.shape(block.experts + block.gate_up);
        const std::vector<std::size_t> down = tensors.shape(block.experts + block.down);
        stacked.gate_up = stack(block.experts + block.gate_up, gate_up.at(1), gate_up.at(2));
        stacked.down = stack(block.experts + block.down, down.at(1), down.at(2));
    }
    if (config.expert_bias) {
        stacked.gate_up_bias = stack("experts.gate_up_proj_bias", 2 * config.d_ff, 1);
        stacked.down_bias = stack("experts.down_proj_bias", 40, 1);
    }
    return moe::expert_weights(config, stacked);
}

template <class T>
moe::ConfiguredLayer<T> golden_layer(const GoldenBlock& block, GoldenTensors<T>& tensors,
                                     const std::vector<float>& selection_bias) {
    const moe::MoEConfig& config = block.config;
    moe::LayerWeights<T> weights;
    weights.router = moe::view(tensors.parameter(block.router), config.n_routed(), 40);
    if (config.router_bias) {
        weights.router_bias = tensors.at("param." + block.router_bias);
    }
    weights.selection_bias = selection_bias;
    weights.experts = golden_experts(block, tensors);
    if (config.shared_d_ff != 0) {
        const auto matrix = [&](const std::string& name, std::size_t rows, std::size_t columns) {
            return moe::stacked(tensors.parameter(block.shared + name), 1, rows, columns);
        };
        const std::size_t d_ff = config.shared_d_ff;
        weights.shared = moe::shared_weights<T>(config, {.gate = matrix("gate_proj.weight", d_ff, 40),
                                                         .up = matrix("up_proj.weight", d_ff, 40),
                                                         .down = matrix("down_proj.weight", 40, d_ff)});
    }
    if (!block.shared_gate.empty()) {
        weights.shared_gate = moe::stacked(tensors.parameter(block.shared_gate), 1, 1, 40);
    }
    if (config.output_bias) {
        weights.output_bias = tensors.at("param." + block.output_bias);
    }
    return moe::make_layer(config, weights);
}

}  // namespace moe_test
