#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../model/moe_config.hpp"
#include "encoded_tensors.hpp"
#include "stored_tensors.hpp"

namespace moe::inline MOE_ABI {

/// A tensor of a checkpoint, by what its file says.
struct CheckpointTensor {
    std::string name;
    std::string type;  ///< "BF16", "Q4_K"
    std::vector<std::size_t> shape;
    std::size_t bytes = 0;
    std::size_t weights = 0;  ///< numbers that it stands for: codes of four bits are several in each element, scales,
                              ///< zero points and orders beside codes none
};

/// The weights of one kind of a layer, in one tensor or in one for each expert.
struct StoredPart {
    std::string name;  ///< "router", "gate", "gate and up", "shared down", "biases"
    std::string type;  ///< that of its tensors, of an encoding of several its name: "Q4_K", "BF16", "GPTQ"
    std::size_t tensors = 0;
    std::size_t bytes = 0;    ///< with scales and zero points beside codes
    std::size_t weights = 0;  ///< see CheckpointTensor
    bool routed = false;      ///< matrices of experts that are chosen
    bool shared = false;      ///< matrices of those that every token goes through

    friend bool operator==(const StoredPart&, const StoredPart&) = default;
};

namespace detail {

/// What a tensor of codes in a folder is called: see EncodedTensors. Its type where it is no code.
[[nodiscard]] inline std::string_view encoding_name(const StoredTensor& front, std::size_t inputs) noexcept {
    const std::string_view suffix = EncodedTensors::base_of(front.name).second;
    const bool bytes = front.type_name == "U8";
    return suffix == "_blocks"                                            ? "MXFP4"
           : front.type_name == "F8_E4M3" || front.type_name == "F8_E5M2" ? "FP8"
           : suffix == ".qweight"       ? (front.from_end(1) == inputs ? "AWQ" : "GPTQ")
           : bytes && !suffix.empty()   ? "NVFP4"
           : suffix == ".weight_packed" ? "INT4"
                                        : front.type_name;
}

/// Weights in an element of a tensor of a folder: several where it has codes of four bits, none where it has ids.
[[nodiscard]] inline std::size_t weights_in_element(const StoredTensor& tensor) noexcept {
    const bool codes = !EncodedTensors::base_of(tensor.name).second.empty();
    const bool wide = tensor.type_name == "I32" || tensor.type_name == "I64";
    return wide ? (codes ? 8 : 0) : codes && tensor.type_name == "U8" ? 2 : 1;
}

[[nodiscard]] inline std::size_t weights_in(const StoredTensor& tensor, bool in_folder) {
    std::size_t weights = in_folder ? weights_in_element(tensor) : 1;
    for (const std::size_t extent : tensor.shape) {
        weights = checked_multiply(weights, extent);
    }
    return weights;
}

/// All tensors of all files, by name.
[[nodiscard]] inline std::vector<CheckpointTensor> describe_tensors(const StoredTensors& files) {
    const bool in_folder = !files.shards();
    std::vector<CheckpointTensor> tensors;
    std::vector<const StoredTensor*> beside_codes;
    for (const StoredTensor& tensor : files.all()) {
        tensors.push_back({std::string(tensor.name),
                           std::string(tensor.type_name),
                           {tensor.shape.begin(), tensor.shape.end()},
                           tensor.bytes.size(),
                           weights_in(tensor, in_folder)});
        const bool codes = in_folder && (tensor.type == nullptr || tensor.type_name == "I32");
        if (codes && !EncodedTensors::base_of(tensor.name).second.empty()) {
            for (const StoredTensor* const one : EncodedTensors::beside(files, tensor)) {
                beside_codes.push_back(one);
            }
        }
    }
    for (const StoredTensor* const one : beside_codes) {
        tensors[static_cast<std::size_t>(one - files.all().data())].weights = 0;
    }
    return tensors;
}

/// The parts of a layer, in the order in which a token meets them.
class PartList {
public:
    PartList(const StoredTensors& files, const StoredLayer& stored, const MoEConfig& config) : files_(files) {
        add("router", {stored.router}, config.d_model);
        experts("", stored.experts, config.d_ff, config.d_model);
        experts("shared ", stored.shared, config.shared_d_ff, config.d_model);
        add("shared expert's gate", {stored.shared_gate}, config.d_model);
        add("table of experts", {stored.hash_table}, 0);
        add("scale of each expert", {stored.per_expert_scale}, 0);
        StoredPart biases;
        for (const StoredTensor* const one : {stored.router_bias, stored.selection_bias, stored.output_bias}) {
            add_to(biases, {one}, 0);
        }
        for (const StoredExperts* const part : {&stored.experts, &stored.shared}) {
            for (const StoredProjection* const projection :
                 {&part->gate_bias, &part->up_bias, &part->gate_up_bias, &part->down_bias}) {
                add_to(biases, projection->tensors, 0);
            }
        }
        keep("biases", std::move(biases));
    }

    [[nodiscard]] std::vector<StoredPart> take() && { return std::move(parts_); }

private:
    using Tensors = std::vector<const StoredTensor*>;

    void experts(const std::string& prefix, const StoredExperts& stored, std::size_t d_ff, std::size_t d_model) {
        const std::size_t before = parts_.size();
        add(prefix + "gate", stored.gate.tensors, d_model);
        add(prefix + "up", stored.up.tensors, d_model);
        add(prefix + "gate and up", stored.gate_up.tensors, d_model);
        add(prefix + "down", stored.down.tensors, d_ff);
        for (std::size_t i = before; i < parts_.size(); ++i) {
            (prefix.empty() ? parts_[i].routed : parts_[i].shared) = true;
        }
    }

    void add(const std::string& name, const Tensors& tensors, std::size_t inputs) {
        StoredPart part;
        add_to(part, tensors, inputs);
        keep(name, std::move(part));
    }

    void add_to(StoredPart& part, const Tensors& tensors, std::size_t inputs) const {
        for (const StoredTensor* const tensor : tensors) {
            if (tensor == nullptr) {
                continue;
            }
            const std::string_view type = files_.shards() ? tensor->type_name : encoding_name(*tensor, inputs);
            const std::string known = std::string(", ").append(part.type).append(",");
            if (known.find(std::string(", ").append(type).append(",")) == std::string::npos) {
                part.type.append(part.type.empty() ? "" : ", ").append(type);
            }
            ++part.tensors;
            part.bytes += tensor->bytes.size();
            part.weights += weights_in(*tensor, !files_.shards());
            if (type != tensor->type_name) {
                for (const StoredTensor* const one : EncodedTensors::beside(files_, *tensor)) {
                    part.bytes += one->bytes.size();
                }
            }
        }
    }

    void keep(const std::string& name, StoredPart part) {
        if (part.tensors > 0) {
            part.name = name;
            parts_.push_back(std::move(part));
        }
    }

    const StoredTensors& files_;
    std::vector<StoredPart> parts_;
};

}  // namespace detail

}  // namespace moe::inline MOE_ABI
