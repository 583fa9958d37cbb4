#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../formats/format.hpp"
#include "../expert_ranges.hpp"
#include "compose.hpp"
#include "gguf_config.hpp"
#include "gguf_names.hpp"
#include "hugging_face_config.hpp"
#include "hugging_face_names.hpp"
#include "packed_size.hpp"
#include "stored_parts.hpp"
#include "weight_map.hpp"

namespace moe::inline MOE_ABI {

/// A model as it is published, a folder of Hugging Face (config.json and safetensors, in one file or in those of
/// model.safetensors.index.json) or a GGUF file (or one shard of several), as layers:
///
///     const auto checkpoint = moe::Checkpoint::open("Mixtral-8x7B-v0.1");
///     const moe::AnyLayer<float> layer = checkpoint.layer(0);
///
/// What the architecture is, how its tensors are called, in which order and in how many files they are stored, is found
/// out: the architectures of `presets`, and those of llama.cpp in io/checkpoint/gguf_config.hpp. A GGUF file is
/// computed as llama.cpp does it. Weights in F32, BF16, F16 and all types of ggml that are decoded here are used where
/// they lie.
///
/// | ErrorCode    | the checkpoint                                                                                 |
/// |--------------|------------------------------------------------------------------------------------------------|
/// | missing      | has no config.json, or no safetensors; does not say a size; a GGUF shard alone                 |
/// | range        | is of an architecture that is not known (with the nearest); a value that cannot be; an index   |
/// |              | that names a file outside of the folder                                                        |
/// | header       | a value of the wrong JSON type; no object where one must be                                    |
/// | not_found    | lacks a tensor, or has it elsewhere than the index says                                        |
/// | shape        | a tensor of another shape than the configuration says; more experts than it says               |
/// | layout       | experts of one projection in two types; tensors that the index does not name; short lists      |
/// | unknown_type | weights in an encoding that is not read                                                        |
/// | duplicate    | a key or a tensor twice                                                                        |
///
/// and what JSON, SafetensorsFile, GgufShards and MoEConfig::validate say. Opening maps all files and reads their
/// headers; weights are read where they are first used. Copies share the files.
class Checkpoint {
public:
    /// Throws Error as above. `strictness` is that of the files; lenient also lets pass what the index does not name.
    [[nodiscard]] static Checkpoint open(const std::string& path, Strictness strictness = Strictness::strict) {
        Checkpoint result;
        if (detail::is_folder(path)) {
            result.open_folder(path, strictness);
        } else {
            result.tensors_ =
                std::make_shared<const detail::StoredTensors>(GgufShards::open(path, ReadMode::map, strictness));
            result.model_ = detail::GgufConfig(*result.tensors_).describe();
        }
        return result;
    }

    /// What the file calls the architecture: "mixtral", of a GGUF file "llama".
    [[nodiscard]] const std::string& architecture() const noexcept { return model_.architecture; }
    /// All layers, with experts and without. Of an encoder and a decoder the encoder's come first.
    [[nodiscard]] std::size_t n_layers() const noexcept { return model_.layers.size(); }
    /// Whether the layer has experts. Throws Error(range) for one that is not there.
    [[nodiscard]] bool is_sparse(std::size_t layer) const { return described(layer).has_value(); }

    /// The configuration of a sparse layer, stored as the file has it. Throws Error(range) for a dense layer, and for
    /// tensors that are missing, Error(not_found).
    [[nodiscard]] MoEConfig config(std::size_t layer) const { return find(layer).second; }

    /// The names of all tensors that the layer is made of.
    [[nodiscard]] std::vector<std::string> tensors(std::size_t layer) const {
        std::vector<std::string> names = find(layer).first.names();
        for (std::size_t i = 0, n = tensors_->shards() ? 0 : names.size(); i < n; ++i) {
            for (const detail::StoredTensor* const one :
                 detail::EncodedTensors::beside(*tensors_, *tensors_->find(names[i]))) {
                names.emplace_back(one->name);
            }
        }
        return names;
    }

    /// What the layer is made of, a part for each projection: for each its type and its bytes.
    [[nodiscard]] std::vector<StoredPart> parts(std::size_t layer) const {
        const auto [stored, config] = find(layer);
        return detail::PartList(*tensors_, stored, config).take();
    }

    /// All tensors of all files, by name: those of attention, norms and embeddings, too.
    [[nodiscard]] std::vector<CheckpointTensor> all_tensors() const { return detail::describe_tensors(*tensors_); }

    /// Bytes that the experts of pack(layer, format) take, shared ones included; nothing is packed. Throws as pack does
    /// for a format and for sizes that do not fit.
    template <class = void>
    [[nodiscard]] std::size_t packed_bytes(std::size_t layer, Format format = Format::as_stored) const {
        const auto [stored, config] = find(layer);
        return detail::packed_size(*tensors_, stored, config, format);
    }

    /// The layer over the memory of the files, which it keeps mapped; what is small (router, biases) is copied to
    /// floats. It does not need this object. Bits: those of the same weights as floats.
    template <class = void>
    [[nodiscard]] AnyLayer<float> layer(std::size_t layer) const {
        const auto [stored, config] = find(layer);
        auto kept = std::make_shared<Kept>(Kept{tensors_, detail::small_tensors(stored, config)});
        return detail::layer_of(*tensors_, stored, config, kept->small).keeping(kept);
    }

    /// Where the matrices of each routed expert lie in the files, with what codes have beside them, for an
    /// ExpertResidency of layer(layer). They are mapped for as long as this object or such a layer lives.
    [[nodiscard]] ExpertRanges expert_ranges(std::size_t layer) const {
        const auto [stored, config] = find(layer);
        ExpertRanges ranges(config.n_experts);
        const auto add = [&](std::size_t e, std::size_t n_tensors, std::span<const std::byte> bytes) {
            if (n_tensors > 1 || ranges.n_experts() == 1) {
                ranges.add(e, bytes);
            } else if (bytes.size() % ranges.n_experts() == 0) {  // else one value for all
                ranges.add_stacked(bytes);
            }
        };
        const detail::StoredExperts& experts = stored.experts;
        for (const detail::StoredProjection* const projection :
             {&experts.gate, &experts.up, &experts.gate_up, &experts.down}) {
            const std::size_t n = projection->tensors.size();
            for (std::size_t e = 0; e < n; ++e) {
                const detail::StoredTensor& tensor = *projection->tensors[e];
                add(e, n, tensor.bytes);
                if (!tensors_->shards()) {
                    for (const detail::StoredTensor* const one : detail::EncodedTensors::beside(*tensors_, tensor)) {
                        add(e, n, one->bytes);
                    }
                }
            }
        }
        return ranges;
    }

    /// The layer packed: it does not need the files. Blocks of a GGUF file, and MXFP4 of a folder, are packed as they
    /// are stored, number for number (see PackedBlocks), unless another format is named, which rounds them anew; all
    /// else see moe::pack(layer, format).
    template <Executor E = SerialExecutor>
    [[nodiscard]] AnyLayer<float> pack(std::size_t layer, Format format = Format::as_stored, const E& executor = {},
                                       Compute compute = Compute::by_format) const {
        const auto [stored, config] = find(layer);
        auto small = std::make_shared<detail::SmallTensors>(detail::small_tensors(stored, config));
        if (format == Format::as_stored) {
            const auto packed =
                detail::packed_as_blocks(*tensors_, stored, config, *small, ExecutorRef(executor), compute);
            if (packed) {
                return packed->keeping(small);
            }
        }
        return moe::pack(detail::layer_of(*tensors_, stored, config, *small), format, executor, compute).keeping(small);
    }

private:
    struct Kept {
        std::shared_ptr<const detail::StoredTensors> files;
        detail::SmallTensors small;
    };

    Checkpoint() = default;

    void open_folder(const std::string& path, Strictness strictness) {
        const std::string file = path + "/config.json";
        ensure(detail::path_exists(file), ErrorCode::missing, "checkpoint ", detail::path_in_quotes(path),
               ": the folder has no config.json");
        const std::string context = "config " + detail::path_in_quotes(file);
        const detail::JsonTree tree(detail::text_of_file(file), context);
        const detail::ConfigKeys keys(tree, context);
        std::vector<std::string_view> names = keys.all_texts("model_type");
        for (const std::string_view name : keys.all_texts("architectures")) {
            names.push_back(name);
        }
        model_ = detail::HuggingFaceConfig(keys, detail::find_architecture(names, context)).describe();
        tensors_ = std::make_shared<const detail::StoredTensors>(detail::WeightMap(path, strictness).open(),
                                                                 gptq_zeros_as_they_are(tree));
    }

    [[nodiscard]] static bool gptq_zeros_as_they_are(const detail::JsonTree& tree) {
        const detail::JsonNode* const quantized = tree.find(tree.root(), "quantization_config");
        const detail::JsonNode* const format =
            quantized == nullptr ? nullptr : tree.find(*quantized, "checkpoint_format");
        return format != nullptr && tree.text_of(*format) == "gptq_v2";
    }

    [[nodiscard]] const std::optional<MoEConfig>& described(std::size_t layer) const {
        ensure(layer < model_.layers.size(), ErrorCode::range, "checkpoint: there is no layer ", layer, " of ",
               model_.layers.size());
        return model_.layers[layer];
    }

    [[nodiscard]] std::pair<detail::StoredLayer, MoEConfig> find(std::size_t layer) const {
        const std::optional<MoEConfig>& known = described(layer);
        ensure(known.has_value(), ErrorCode::range, "checkpoint: layer ", layer, " has no experts, it is dense");
        MoEConfig config = *known;
        detail::StoredLayer stored = tensors_->shards()
                                         ? detail::find_gguf_layer(*tensors_, config, layer)
                                         : detail::HuggingFaceNames(*tensors_, config, model_, layer).find();
        if (!tensors_->shards()) {
            stored.experts.storage = detail::storage_of(stored.experts, config);
        }
        stored.shared.storage.gate_up = stored.shared.gate_up.empty() ? JoinedAs::separate : JoinedAs::concatenated;
        config.storage = stored.experts.storage;
        config.shared_storage = stored.shared.storage;
        return {std::move(stored), std::move(config)};
    }

    std::shared_ptr<const detail::StoredTensors> tensors_;
    detail::DescribedModel model_;
};

}  // namespace moe::inline MOE_ABI
