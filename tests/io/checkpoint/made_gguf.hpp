#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint/checkpoint_support.hpp"

/// GGUF files of two blocks as llama.cpp has them of each architecture, the second of which has experts.
namespace moe_test::made_gguf {

using namespace moe_test::checkpoint;
using moe::MoEConfig;
namespace presets = moe::presets;

inline constexpr std::size_t n_experts = 8;
inline constexpr std::size_t d_model = 32;
inline constexpr std::size_t d_ff = 64;
inline constexpr std::size_t shared_width = 96;

using Values = std::vector<moe::GgufValueToWrite>;

/// One architecture: which preset it is, what its metadata say beside sizes, and what that makes of the preset.
struct Row {
    std::string name;
    MoEConfig (*preset)();
    std::function<void(MoEConfig&)> change;
    Values more{};
    bool choice_bias = false;
    bool shared = false;
};

inline void none(MoEConfig&) {}
inline void sum(MoEConfig& config) { config.routing.normalize = true; }
inline void plain(MoEConfig& config) { config.routing.normalize = false; }
inline void sigmoid_sum(MoEConfig& config) {
    config.routing.score.kind = moe::ScoreKind::sigmoid;
    config.routing.normalize = moe::Normalize::sum(1e-20);
    config.routing.scale = 2.5;
    config.routing.groups = {};
}

inline std::vector<Row> rows() {
    const moe::GgufValueToWrite sigmoid{"expert_gating_func", std::uint64_t{2}};
    const moe::GgufValueToWrite norm{"expert_weights_norm", true};
    const moe::GgufValueToWrite scale{"expert_weights_scale", 2.5F};
    const auto unscaled = [](MoEConfig& config) { config.routing.scale = 1; };
    const auto grouped = [](MoEConfig& config) {
        sigmoid_sum(config);
        config.routing.groups.n_groups = 4;
        config.routing.groups.kept = 2;
    };
    const auto softmax = [](MoEConfig& config) {
        config.routing = {};
        config.routing.top_k = 2;
    };
    return {
        {"llama", presets::mixtral, none},
        {"qwen2moe", presets::qwen2_moe, plain, {}, false, true},
        {"qwen3moe", presets::qwen3_moe, sum},
        {"qwen3vlmoe", presets::qwen3_vl, sum},
        {"qwen3next", presets::qwen3_next, sum, {}, false, true},
        {"qwen35moe", presets::qwen3_5_moe, sum, {}, false, true},
        {"olmoe", presets::olmoe, plain},
        {"dbrx", presets::dbrx, none},
        {"hunyuan-moe", presets::hunyuan_v1, sum, {}, false, true},
        {"ernie4_5-moe", presets::ernie4_5_moe, none, {}, true, true},
        {"arctic", presets::arctic, sum},
        {"phimoe", presets::mixtral, sum},
        {"granitemoe", presets::granitemoe, none},
        {"granitehybrid", presets::granitemoehybrid, none, {}, false, true},
        {"grok", presets::grok_1, sum},
        {"gpt-oss", presets::gpt_oss, none},
        {"llama4", presets::llama4, none, {{"interleave_moe_layer_step", std::uint32_t{2}}}, false, true},
        {"deepseek", presets::deepseek_v2_lite, plain, {}, false, true},
        {"deepseek2", presets::deepseek_v2_lite, softmax, {}, false, true},
        {"deepseek2", presets::deepseek_v3, sigmoid_sum, {sigmoid, norm, scale}, true, true},
        {"deepseek2",
         presets::deepseek_v3,
         grouped,
         {sigmoid, norm, scale, {"expert_group_count", std::int32_t{4}}, {"expert_group_used_count", std::uint8_t{2}}},
         true,
         true},
        {"deepseek4",
         presets::deepseek_v4,
         sigmoid_sum,
         {sigmoid, norm, scale, {"swiglu_clamp_exp", std::vector<float>{0.0F, 10.0F}}},
         true,
         true},
        {"glm4moe",
         presets::glm4_moe,
         sigmoid_sum,
         {norm, scale, {"leading_dense_block_count", std::int64_t{1}}},
         true,
         true},
        {"glm-dsa", presets::glm_moe_dsa, sigmoid_sum, {norm, scale}, true, true},
        {"dots1", presets::dots1, sigmoid_sum, {norm, scale}, true, true},
        {"bailingmoe", presets::bailing_moe, sum, {norm}, false, true},
        {"bailingmoe2", presets::bailing_moe_v2, sigmoid_sum, {norm, scale}, true, true},
        {"minimax-m2", presets::minimax_m2, none, {sigmoid}, true},
        {"lfm2moe", presets::lfm2_moe, none, {}, true},
        {"afmoe", presets::afmoe, sigmoid_sum, {norm, scale}, true, true},
        {"exaone-moe", presets::exaone_moe, sigmoid_sum, {norm, scale}, true, true},
        {"mimo2", presets::mimo_v2_flash, unscaled, {norm}, true},
        {"nemotron_h_moe", presets::nemotron_h, sigmoid_sum, {norm, scale}, true, true},
        {"jamba", presets::jamba, plain},
    };
}

/// A made-up model of two blocks, the second of which is looked at.
class Made {
public:
    /// `type` of the experts, "mixed" for one type for each projection.
    Made(const Row& row, const std::string& type, Draw& draw) : name_(row.name), config_(row.preset().in_gguf()) {
        config_.n_experts = n_experts;
        config_.d_model = d_model;
        config_.d_ff = d_ff;
        config_.routing.top_k = config_.routing.top_k > 1 ? 2 : 1;
        config_.shared_d_ff = row.shared ? shared_width : 0;
        config_.selection_bias = row.choice_bias;
        row.change(config_);
        const bool gated = config_.form.gated();
        router_ = add("ffn_gate_inp.weight", {n_experts, d_model}, "F32", draw);
        gate_ = gated ? add("ffn_gate_exps.weight", {n_experts, d_ff, d_model}, type == "mixed" ? "F16" : type, draw)
                      : nullptr;
        up_ = add("ffn_up_exps.weight", {n_experts, d_ff, d_model}, type == "mixed" ? "BF16" : type, draw);
        down_ = add("ffn_down_exps.weight", {n_experts, d_model, d_ff}, type == "mixed" ? "Q8_0" : type, draw);
        if (config_.expert_bias) {
            router_bias_ = add("ffn_gate_inp.bias", {n_experts}, "F32", draw);
            gate_bias_ = add("ffn_gate_exps.bias", {n_experts, d_ff}, "F32", draw);
            up_bias_ = add("ffn_up_exps.bias", {n_experts, d_ff}, "F32", draw);
            down_bias_ = add("ffn_down_exps.bias", {n_experts, d_model}, "F32", draw);
        }
        choice_bias_ = row.choice_bias ? add("exp_probs_b.bias", {n_experts}, "F32", draw) : nullptr;
        if (row.shared) {
            shared_gate_ = gated ? add("ffn_gate_shexp.weight", {shared_width, d_model}, "F32", draw) : nullptr;
            shared_up_ = add("ffn_up_shexp.weight", {shared_width, d_model}, "F32", draw);
            shared_down_ = add("ffn_down_shexp.weight", {d_model, shared_width}, "F32", draw);
        }
        if (config_.shared_mode == moe::SharedMode::gated) {
            gate_of_shared_ = add("ffn_gate_inp_shexp.weight", {d_model}, "F32", draw);
        }
        const auto value = [&](const std::string& key, moe::GgufMetadataValue what) {
            metadata_.push_back({row.name + "." + key, std::move(what)});
        };
        metadata_.push_back({"general.architecture", row.name});
        value("block_count", std::uint32_t{2});
        value("embedding_length", std::uint64_t{d_model});
        value("expert_count", std::int32_t{n_experts});
        const auto chosen = static_cast<std::uint32_t>(config_.routing.top_k);
        value("expert_used_count", std::vector<std::uint32_t>{1, chosen});
        if (row.name == "qwen3moe") {
            value("feed_forward_length", std::uint32_t{d_ff} * chosen);
        } else if (row.name == "llama" || row.name == "olmoe" || row.name == "grok" || row.name == "dbrx") {
            value("feed_forward_length", std::uint16_t{d_ff});
        } else {
            value("feed_forward_length", std::uint32_t{100});
            value("expert_feed_forward_length", std::vector<std::int32_t>{7, d_ff});
        }
        for (const moe::GgufValueToWrite& one : row.more) {
            value(one.key, one.value);
        }
        if (row.more.empty()) {
            value("leading_dense_block_count", std::uint32_t{1});
        }
    }

    [[nodiscard]] moe::AnyLayer<float> layer() const {
        moe::LayerWeights<float> weights;
        weights.router = moe::view(router_->data(), n_experts, d_model);
        const auto stack = [](const std::vector<float>* values, std::size_t n, std::size_t rows, std::size_t columns) {
            return values == nullptr ? moe::WeightStack<float>() : moe::stacked(values->data(), n, rows, columns);
        };
        weights.experts = {stack(gate_, n_experts, d_ff, d_model), stack(up_, n_experts, d_ff, d_model),
                           stack(down_, n_experts, d_model, d_ff), stack(gate_bias_, n_experts, d_ff, 1),
                           stack(up_bias_, n_experts, d_ff, 1),    stack(down_bias_, n_experts, d_model, 1)};
        weights.shared = {stack(shared_gate_, 1, shared_width, d_model),
                          stack(shared_up_, 1, shared_width, d_model),
                          stack(shared_down_, 1, d_model, shared_width),
                          {},
                          {},
                          {}};
        weights.shared_gate = stack(gate_of_shared_, 1, 1, d_model);
        if (router_bias_ != nullptr) {
            weights.router_bias = *router_bias_;
        }
        if (choice_bias_ != nullptr) {
            weights.selection_bias = *choice_bias_;
        }
        return moe::make_layer(config_, weights);
    }

    void write(const std::string& path) const { moe::write_gguf(path, tensors_, metadata_); }
    /// With the tensors of block 1 in block 0, too.
    void write_both(const std::string& path) const {
        Values metadata = metadata_;
        for (moe::GgufValueToWrite& one : metadata) {
            if (one.key == name_ + ".expert_feed_forward_length") {
                one.value = std::uint32_t{d_ff};
            }
        }
        std::vector<moe::GgufTensorToWrite> both = tensors_;
        for (moe::GgufTensorToWrite one : tensors_) {
            one.name.replace(0, 6, "blk.0.");
            both.push_back(std::move(one));
        }
        moe::write_gguf(path, both, metadata);
    }
    [[nodiscard]] std::size_t n_tensors() const { return tensors_.size(); }

private:
    const std::vector<float>* add(const std::string& name, std::vector<std::size_t> shape, const std::string& type,
                                  Draw& draw) {
        std::size_t count = 1;
        for (const std::size_t extent : shape) {
            count *= extent;
        }
        const std::vector<float>& kept = values_.emplace_back(values(draw, count));
        std::vector<std::byte>& bytes = bytes_.emplace_back();
        const auto put = [&](const auto& value) {
            bytes.resize(bytes.size() + sizeof value);
            std::memcpy(bytes.data() + bytes.size() - sizeof value, &value, sizeof value);
        };
        for (std::size_t i = 0; i < count; ++i) {
            if (type == "F32") {
                put(kept[i]);
            } else if (type == "F16") {
                put(moe::to_float16(kept[i]));
            } else if (type == "BF16") {
                put(moe::to_bfloat16(kept[i]));
            } else {
                if (i % 32 == 0) {
                    put(moe::to_float16(1.0F / 32));
                }
                put(static_cast<std::int8_t>(kept[i] * 32));
            }
        }
        tensors_.push_back({"blk.1." + name, moe::find_block_type(type), std::move(shape), bytes});
        return &kept;
    }

    std::string name_;
    MoEConfig config_;
    std::deque<std::vector<float>> values_;
    std::deque<std::vector<std::byte>> bytes_;
    std::vector<moe::GgufTensorToWrite> tensors_;
    Values metadata_;
    const std::vector<float>*router_, *gate_, *up_, *down_, *choice_bias_;
    const std::vector<float>*router_bias_ = nullptr, *gate_bias_ = nullptr, *up_bias_ = nullptr, *down_bias_ = nullptr;
    const std::vector<float>*shared_gate_ = nullptr, *shared_up_ = nullptr, *shared_down_ = nullptr;
    const std::vector<float>* gate_of_shared_ = nullptr;
};

}  // namespace moe_test::made_gguf
