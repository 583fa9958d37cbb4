#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../model/moe_config.hpp"
#include "hugging_face_config.hpp"
#include "stored_tensors.hpp"

namespace moe::inline MOE_ABI::detail {

/// Finds the tensors of a layer in a checkpoint of Hugging Face. Architectures name the same things in different ways,
/// and programs that convert checkpoints put other words in front; since no two things of one layer share a name, all
/// names are tried, and the configuration says which things there are. ("gate.bias" moves the logits in one model, the
/// choice in another: which, says the configuration.)
class HuggingFaceNames {
public:
    HuggingFaceNames(const StoredTensors& tensors, const MoEConfig& config, const DescribedModel& model,
                     std::size_t layer)
        : tensors_(tensors), config_(config), layer_(layer) {
        place(model);
    }

    /// Throws Error(not_found) naming a tensor that is missing, Error(shape) for more experts than there should be.
    [[nodiscard]] StoredLayer find() const {
        StoredLayer found;
        found.router = tensors_.find(router_);
        if (config_.router_bias) {
            found.router_bias = first("the router's bias", {"router.bias", "gate.bias", "gate.wg.bias"});
        }
        if (config_.selection_bias) {
            found.selection_bias =
                first("the selection bias",
                      {"gate.e_score_correction_bias", "e_score_correction_bias", "gate.expert_bias", "expert_bias",
                       "moe_statics.e_score_correction_bias", "router.e_score_correction_bias", "gate.bias",
                       "router_bias", "router.expert_bias"});
        }
        if (config_.per_expert_scale) {
            found.per_expert_scale = first("per_expert_scale", {"router.per_expert_scale"});
        }
        if (config_.output_bias) {
            found.output_bias = first("the output bias", {"bias"});
        }
        if (config_.gate == GateKind::hash) {
            found.hash_table = first("the hash table", {"gate.tid2eid", "tid2eid"});
        }
        found.experts = experts();
        if (config_.shared_d_ff > 0) {
            found.shared = shared();
        }
        if (config_.shared_mode == SharedMode::gated) {
            found.shared_gate = first("the gate of the shared expert", {"shared_expert_gate.weight"});
        }
        return found;
    }

private:
    /// Finds the router, and with it where the names of the layer begin.
    void place(const DescribedModel& model) {
        std::string number = std::to_string(layer_);
        std::vector<std::string> prefixes;
        if (config_.name == "switch_transformer") {
            const bool encoder = layer_ < model.n_encoder_layers;
            number = std::to_string(encoder ? layer_ : layer_ - model.n_encoder_layers);
            prefixes.push_back(std::string(encoder ? "encoder" : "decoder").append(".block.").append(number) +
                               (encoder ? ".layer.1." : ".layer.2."));
        }
        for (const char* const begin : {"model.layers.", "model.language_model.layers.", "language_model.model.layers.",
                                        "thinker.model.layers.", "layers.", "backbone.layers.",
                                        "model.backbone.layers.", "transformer.blocks.", "model.decoder.layers."}) {
            prefixes.push_back(std::string(begin).append(number).append("."));
        }
        for (const std::string& prefix : prefixes) {
            for (const char* const room :
                 {"mlp.", "block_sparse_moe.", "feed_forward.", "mixer.", "ffn.", "moe.", "moe_block.", ""}) {
                for (const char* const router :
                     {"gate.weight", "router.weight", "gate.wg.weight", "router.layer.weight", "router.gate.weight",
                      "router.classifier.weight", "router.proj.weight"}) {
                    std::string name = std::string(prefix).append(room).append(router);
                    if (tensors_.find(name) != nullptr) {
                        router_ = std::move(name);
                        prefix_ = prefix;
                        room_ = std::string(prefix).append(room);
                        return;
                    }
                }
            }
        }
        raise_error(ErrorCode::not_found, "checkpoint: the router of layer ", layer_, " of ", config_.name,
                    " is not there: no tensor ", prefixes.front(), "mlp.gate.weight or the like");
    }

    [[nodiscard]] const StoredTensor* at(const std::string& begin, std::string_view name) const {
        return tensors_.find(std::string(begin).append(name));
    }

    [[nodiscard]] const StoredTensor* first(const char* what, std::initializer_list<std::string_view> names) const {
        for (const std::string_view name : names) {
            if (const StoredTensor* const tensor = at(room_, name)) {
                return tensor;
            }
        }
        raise_error(ErrorCode::not_found, "checkpoint: ", what, " of layer ", layer_, " is not there: no tensor ",
                    room_, *names.begin(), names.size() > 1 ? " or the like" : "");
    }

    using Three = std::array<std::string_view, 3>;  // gate, up, down; gate is empty for experts without

    /// Of each expert its own tensors.
    [[nodiscard]] bool separate(StoredExperts& found) const {
        for (const auto& begin_and_names : std::initializer_list<std::pair<std::string_view, Three>>{
                 {"experts.", {"gate_proj", "up_proj", "down_proj"}},
                 {"experts.", {"w1", "w3", "w2"}},
                 {"experts.", {"linear", "linear_v", "linear_1"}},
                 {"experts.expert_", {"", "wi", "wo"}}}) {
            const std::string_view begin = begin_and_names.first;
            const Three& names = begin_and_names.second;  // (clang 14 captures no structured bindings)
            const std::string start = std::string(room_).append(begin);
            const auto any_of = [&](std::size_t e) {
                const std::string expert = std::string(start).append(std::to_string(e)).append(".");
                return tensors_.any_with(std::string(expert).append(names[1]).append(".")) ||
                       tensors_.any_with(std::string(expert).append(names[2]).append("."));
            };
            if (!any_of(0)) {
                continue;
            }
            for (std::size_t e = 0; e < config_.n_experts; ++e) {
                const std::string expert = std::string(start).append(std::to_string(e)).append(".");
                three(found, expert, names, config_.form.gated(), config_.expert_bias);
            }
            ensure(!any_of(config_.n_experts), ErrorCode::shape, "checkpoint: layer ", layer_, " has an expert ",
                   config_.n_experts, ", but the configuration says ", config_.n_experts, " experts");
            return true;
        }
        return false;
    }

    void three(StoredExperts& found, const std::string& begin, const Three& names, bool gated, bool bias) const {
        const auto take = [&](Projection& projection, Projection& its_bias, std::string_view name) {
            const std::string start = std::string(begin).append(name);
            const StoredTensor* tensor = nullptr;
            for (const char* const suffix : {".weight_packed", ".qweight"}) {
                tensor = tensor == nullptr ? at(start, suffix) : tensor;
            }
            projection.tensors.push_back(tensor == nullptr ? needed(std::string(start).append(".weight")) : tensor);
            if (bias) {
                its_bias.tensors.push_back(needed(std::string(begin).append(name).append(".bias")));
            }
        };
        if (gated) {
            take(found.gate, found.gate_bias, names[0]);
        }
        take(found.up, found.up_bias, names[1]);
        take(found.down, found.down_bias, names[2]);
    }

    [[nodiscard]] const StoredTensor* needed(const std::string& name) const {
        const StoredTensor* const tensor = tensors_.find(name);
        ensure(tensor != nullptr, ErrorCode::not_found, "checkpoint: layer ", layer_, " has no tensor ",
               in_quotes(name, name.size()));
        return tensor;
    }

    /// One tensor of all experts for each projection.
    [[nodiscard]] StoredExperts experts() const {
        StoredExperts found;
        if (separate(found)) {
            return found;
        }
        const bool gated = config_.form.gated();
        if (const StoredTensor* const blocks = at(room_, "experts.gate_up_proj_blocks")) {  // GPT-OSS in MXFP4
            found.gate_up.tensors = {blocks};
            found.down.tensors = {needed(std::string(room_).append("experts.down_proj_blocks"))};
            if (config_.expert_bias) {
                found.gate_up_bias.tensors = {needed(std::string(room_).append("experts.gate_up_proj_bias"))};
                found.down_bias.tensors = {needed(std::string(room_).append("experts.down_proj_bias"))};
            }
            return found;
        }
        for (const auto& [gate_up, down, bias] :
             std::initializer_list<Three>{{"experts.gate_up_proj", "experts.down_proj", "_bias"},
                                          {"experts.gate_up_proj.weight", "experts.down_proj.weight", ""},
                                          {"input_linear.weight", "output_linear.weight", ""},
                                          {"experts.fc1.weight", "experts.fc2.weight", ""}}) {
            const StoredTensor* const tensor = at(room_, gate_up);
            if (tensor != nullptr && gated) {
                found.gate_up.tensors = {tensor};
                found.down.tensors = {needed(std::string(room_).append(down))};
                if (config_.expert_bias) {
                    found.gate_up_bias.tensors = {needed(std::string(room_).append(gate_up).append(bias))};
                    found.down_bias.tensors = {needed(std::string(room_).append(down).append(bias))};
                }
                return found;
            }
        }
        for (const auto& [gate, up, down] :
             std::initializer_list<Three>{{"gate_proj.weight", "up_proj.weight", "down_proj.weight"},
                                          {"experts.gate_proj", "experts.up_proj", "experts.down_proj"},
                                          {"experts.mlp.w1", "experts.mlp.v1", "experts.mlp.w2"}}) {
            if (const StoredTensor* const tensor = at(room_, up)) {
                if (gated) {
                    found.gate.tensors = {needed(std::string(room_).append(gate))};
                }
                found.up.tensors = {tensor};
                found.down.tensors = {needed(std::string(room_).append(down))};
                found.gate.flat = found.up.flat = found.down.flat = tensor->shape.size() == 2;
                return found;
            }
        }
        raise_error(ErrorCode::not_found, "checkpoint: the experts of layer ", layer_, " of ", config_.name,
                    " are not there, or in an encoding that is not read: no tensor ", room_,
                    "experts.0.up_proj.weight, ", room_, "experts.gate_up_proj or the like");
    }

    [[nodiscard]] StoredExperts shared() const {
        StoredExperts found;
        const bool gated = config_.form_of_shared().gated();
        for (const std::string& begin : {room_, prefix_}) {
            for (const char* const room : {"shared_expert.", "shared_experts.", "shared_mlp.", "share_expert."}) {
                const std::string start = begin + room;
                for (const Three& names : {Three{"gate_proj", "up_proj", "down_proj"}, Three{"w1", "w3", "w2"}}) {
                    if (tensors_.any_with(std::string(start).append(names[1]).append("."))) {
                        three(found, start, names, gated, config_.shared_bias);
                        return found;
                    }
                }
                for (const auto& [gate_up, down] : std::initializer_list<std::pair<std::string_view, std::string_view>>{
                         {"input_linear.weight", "output_linear.weight"},
                         {"gate_up_proj.weight", "down_proj.weight"}}) {
                    if (const StoredTensor* const tensor = at(start, gate_up)) {
                        found.gate_up.tensors = {tensor};
                        found.down.tensors = {needed(std::string(start).append(down))};
                        return found;
                    }
                }
            }
        }
        raise_error(ErrorCode::not_found, "checkpoint: the shared expert of layer ", layer_, " of ", config_.name,
                    " is not there: no tensor ", room_, "shared_expert.up_proj.weight or the like");
    }

    const StoredTensors& tensors_;
    const MoEConfig& config_;
    std::size_t layer_;
    std::string router_;
    std::string prefix_;  // of the layer
    std::string room_;    // of its experts
};

}  // namespace moe::inline MOE_ABI::detail
