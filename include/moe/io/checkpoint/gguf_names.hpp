#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "../../model/moe_config.hpp"
#include "stored_tensors.hpp"

namespace moe::inline MOE_ABI::detail {

/// Finds the tensors of block `layer`. Throws Error(not_found) naming one that is missing, Error(unknown_type) for
/// scales of experts, which are not read.
[[nodiscard]] inline StoredLayer find_gguf_layer(const StoredTensors& tensors, const MoEConfig& config,
                                                 std::size_t layer) {
    const std::string begin = std::string("blk.").append(std::to_string(layer)).append(".");
    const auto find = [&](std::string_view name) { return tensors.find(std::string(begin).append(name)); };
    const auto needed = [&](std::string_view name) {
        const StoredTensor* const tensor = find(name);
        ensure(tensor != nullptr, ErrorCode::not_found, "checkpoint: layer ", layer, " has no tensor '", begin, name,
               "'");
        return tensor;
    };
    StoredLayer found;
    found.router = needed("ffn_gate_inp.weight");
    found.router_bias = find("ffn_gate_inp.bias");
    found.selection_bias = find("exp_probs_b.bias");
    found.hash_table = config.gate == GateKind::hash ? needed("ffn_gate_tid2eid.weight") : nullptr;
    StoredExperts& experts = found.experts;
    const auto add = [&](Projection& projection, std::string_view name) { projection.tensors.push_back(needed(name)); };
    for (const std::string_view name : {"gate", "up", "down", "gate_up"}) {
        for (const std::string_view suffix : {"_exps.scale", "_exps.weight.scale", "_shexp.scale"}) {
            const std::string scale = std::string("ffn_").append(name).append(suffix);
            ensure(find(scale) == nullptr, ErrorCode::unknown_type, "checkpoint: layer ", layer, " has a tensor '",
                   begin, scale, "': scales of whole experts are not read");
        }
    }
    const bool gated = config.form.gated();
    if (find("ffn_gate_up_exps.weight") != nullptr) {
        experts.storage.gate_up = JoinedAs::concatenated;
        add(experts.gate_up, "ffn_gate_up_exps.weight");
        add(experts.down, "ffn_down_exps.weight");
        if (config.expert_bias) {
            add(experts.gate_up_bias, "ffn_gate_up_exps.bias");
        }
    } else if (find("ffn_down.0.weight") != nullptr) {  // files before llama.cpp#6387
        for (std::size_t e = 0; e < config.n_experts; ++e) {
            const std::string end = std::string(".").append(std::to_string(e)).append(".weight");
            add(experts.gate, std::string("ffn_gate").append(end));
            add(experts.up, std::string("ffn_up").append(end));
            add(experts.down, std::string("ffn_down").append(end));
        }
    } else {
        if (gated) {
            add(experts.gate, "ffn_gate_exps.weight");
        }
        add(experts.up, "ffn_up_exps.weight");
        add(experts.down, "ffn_down_exps.weight");
        if (config.expert_bias) {
            if (gated) {
                add(experts.gate_bias, "ffn_gate_exps.bias");
            }
            add(experts.up_bias, "ffn_up_exps.bias");
        }
    }
    if (config.expert_bias) {
        add(experts.down_bias, "ffn_down_exps.bias");
    }
    if (config.shared_d_ff > 0) {
        if (config.form_of_shared().gated()) {
            add(found.shared.gate, "ffn_gate_shexp.weight");
        }
        add(found.shared.up, "ffn_up_shexp.weight");
        add(found.shared.down, "ffn_down_shexp.weight");
    }
    found.shared_gate = find("ffn_gate_inp_shexp.weight");
    return found;
}

}  // namespace moe::inline MOE_ABI::detail
