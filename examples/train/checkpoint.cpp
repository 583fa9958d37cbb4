#include "checkpoint.hpp"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "../command_line/values.hpp"
#include "folder.hpp"

namespace trainer {

namespace {

constexpr const char* steps_key = "steps_done";

std::string training_path(const std::string& directory) { return directory + "/training.safetensors"; }

std::vector<std::size_t> shape_of(const moe::ParameterInfo& info) {
    if (info.n_matrices > 1) {
        return {info.n_matrices, info.rows, info.cols};
    }
    return {info.rows, info.cols};
}

/// Each of the arrays that a parameter is made of, with its name in the file.
template <class T>
std::vector<std::pair<std::string, std::span<T>>> arrays_of(const moe::Parameter<T>& parameter) {
    const std::string& name = parameter.info().name;
    return {{name, parameter.value()},
            {name + ".mean", parameter.state().mean},
            {name + ".square", parameter.state().square}};
}

std::uint64_t steps_of(const moe::SafetensorsMetadata& metadata, const std::string& path) {
    const auto found = metadata.find(steps_key);
    moe::ensure(found != metadata.end(), moe::ErrorCode::missing, path, ": no \"", steps_key, "\" in its metadata");
    return command_line::parse_number<std::uint64_t>(path + ": " + steps_key, found->second, 0, UINT64_MAX);
}

std::string config_text(const Config& config) {
    const nlohmann::ordered_json json{
        {"architectures", {"MixtralForCausalLM"}},
        {"model_type", "mixtral"},
        {"dtype", "bfloat16"},
        {"vocab_size", config.vocab_size},
        {"hidden_size", config.d_model},
        {"intermediate_size", config.d_ff},
        {"num_hidden_layers", config.n_layers},
        {"num_attention_heads", config.n_heads},
        {"num_key_value_heads", config.n_kv_heads},
        {"head_dim", config.head_dim},
        {"num_local_experts", config.n_experts},
        {"num_experts_per_tok", config.top_k},
        {"max_position_embeddings", config.max_positions},
        {"rms_norm_eps", config.norm_eps},
        {"rope_parameters", {{"rope_theta", config.rope_theta}, {"rope_type", "default"}}},
        {"hidden_act", "silu"},
        {"sliding_window", nullptr},
        {"tie_word_embeddings", false},
        {"moe_rounded_frequencies", config.rounded_frequencies}};
    return json.dump(2) + "\n";
}

/// The tensors of model.safetensors, whose experts stand one by one, and their values in bfloat16.
class PublishedTensors {
public:
    explicit PublishedTensors(std::size_t n_values) { values_.reserve(n_values); }

    void add(std::string name, std::vector<std::size_t> shape, std::span<const float> values) {
        const std::size_t first = values_.size();
        std::ranges::transform(values, std::back_inserter(values_), moe::to_bfloat16);
        tensors_.push_back(moe::tensor_to_write<moe::bfloat16>(std::move(name), std::move(shape),
                                                               std::span<const moe::bfloat16>(values_).subspan(first)));
    }
    void add(const moe::Parameter<float>& parameter) {
        const moe::ParameterInfo& info = parameter.info();
        const bool vector = info.rows == 1 && info.name.ends_with("norm.weight");
        add(info.name, vector ? std::vector<std::size_t>{info.cols} : shape_of(info), parameter.value());
    }
    void add_moe(const Layer<float>& layer, const std::string& prefix) {
        const moe::ParameterInfo& down = layer.down.info();
        const std::size_t size = down.rows * down.cols;
        add(prefix + "gate.weight", {layer.router.info().rows, layer.router.info().cols}, layer.router.value());
        for (std::size_t e = 0; e < down.n_matrices; ++e) {
            const std::string expert = prefix + "experts." + std::to_string(e) + ".";
            const std::span<const float> gate_up = layer.gate_up.value().subspan(2 * e * size, 2 * size);
            add(expert + "w1.weight", {down.cols, down.rows}, gate_up.first(size));
            add(expert + "w2.weight", {down.rows, down.cols}, layer.down.value().subspan(e * size, size));
            add(expert + "w3.weight", {down.cols, down.rows}, gate_up.last(size));
        }
    }
    void write(const std::string& path) const { moe::write_safetensors(path, tensors_); }

private:
    std::vector<moe::bfloat16> values_;  // never moves: there is room for all
    std::vector<moe::TensorToWrite> tensors_;
};

}  // namespace

bool has_training(const std::string& directory) { return std::filesystem::exists(training_path(directory)); }

template <class T>
void save_training(const std::string& directory, const Model<T>& model, const Run& run, std::uint64_t steps_done) {
    create_folder(directory);
    std::vector<moe::TensorToWrite> tensors;
    for (const moe::Parameter<T>& parameter : model.parameters().all()) {
        for (const auto& [name, values] : arrays_of(parameter)) {
            tensors.push_back(moe::tensor_to_write<T>(name, shape_of(parameter.info()), std::span<const T>(values)));
        }
    }
    moe::SafetensorsMetadata metadata = to_metadata(run);
    metadata[steps_key] = std::to_string(steps_done);
    moe::write_safetensors(training_path(directory), tensors, metadata);
}

Run read_run(const std::string& directory) {
    const moe::SafetensorsFile file = moe::SafetensorsFile::open(training_path(directory));
    return from_metadata(file.metadata(), training_path(directory));
}

template <class T>
std::uint64_t load_training(const std::string& directory, Model<T>& model) {
    const std::string path = training_path(directory);
    const moe::SafetensorsFile file = moe::SafetensorsFile::open(path);
    const std::uint64_t steps_done = steps_of(file.metadata(), path);
    for (const bool copy : {false, true}) {
        for (const moe::Parameter<T>& parameter : model.parameters().all()) {
            for (const auto& [name, values] : arrays_of(parameter)) {
                const moe::TensorView& tensor = file.at(name);
                moe::ensure(tensor.shape == shape_of(parameter.info()), moe::ErrorCode::shape, path, ": tensor ", name,
                            " has not the sizes of the model");
                (void)tensor.data_as<T>();  // throws where the elements are not T
                if (copy) {
                    tensor.copy_to(values);
                }
            }
        }
    }
    return steps_done;
}

void save_model(const std::string& directory, const Model<float>& model) {
    create_folder(directory);
    PublishedTensors tensors(model.n_weights());
    tensors.add(model.embedding());
    for (std::size_t i = 0; i < model.layers().size(); ++i) {
        const Layer<float>& layer = model.layers()[i];
        for (const moe::Parameter<float>* parameter :
             {&layer.attention_norm, &layer.query, &layer.key, &layer.value, &layer.output, &layer.moe_norm}) {
            tensors.add(*parameter);
        }
        tensors.add_moe(layer, "model.layers." + std::to_string(i) + ".block_sparse_moe.");
    }
    tensors.add(model.final_norm());
    tensors.add(model.head());
    tensors.write(directory + "/model.safetensors");
    write_text_file(directory + "/config.json", config_text(model.config()));
}

#define TRAINER_CHECKPOINT(T)                                                                                          \
    template void save_training<T>(const std::string&, const Model<T>&, const Run&, std::uint64_t);                    \
    template std::uint64_t load_training<T>(const std::string&, Model<T>&)
TRAINER_CHECKPOINT(float);
TRAINER_CHECKPOINT(double);
#undef TRAINER_CHECKPOINT

}  // namespace trainer
