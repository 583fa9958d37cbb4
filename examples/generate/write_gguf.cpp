#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include <moe/io/gguf_writer.hpp>

#include "gguf_model.hpp"
#include "rope.hpp"

namespace generate {

namespace {

/// Tensors of a GGUF file and their bytes.
class Tensors {
public:
    explicit Tensors(const Checkpoint& from) : from_(from) {}

    /// A matrix in bfloat16, as it is; rows of queries and keys where llama.cpp wants them.
    void matrix(std::string name, const std::string& stored, Eigen::Index rows, Eigen::Index cols,
                Eigen::Index head_dim = 0) {
        const moe::bfloat16* const values = from_.elements(stored, rows, cols);
        std::vector<moe::bfloat16>& kept = halves_.emplace_back(static_cast<std::size_t>(rows * cols));
        for (Eigen::Index row = 0; row < rows; ++row) {
            const Eigen::Index to = head_dim > 0 ? gguf_row(row, head_dim) : row;
            std::memcpy(kept.data() + to * cols, values + row * cols, static_cast<std::size_t>(cols) * sizeof *values);
        }
        add(std::move(name), {rows, cols}, kept);
    }

    /// The matrices of all experts, one behind the other.
    void experts(std::string name, const std::string& prefix, const std::string& suffix, Eigen::Index n_experts,
                 Eigen::Index rows, Eigen::Index cols) {
        std::vector<moe::bfloat16>& kept = halves_.emplace_back();
        for (Eigen::Index e = 0; e < n_experts; ++e) {
            const moe::bfloat16* const values = from_.elements(prefix + std::to_string(e) + suffix, rows, cols);
            kept.insert(kept.end(), values, values + rows * cols);
        }
        add(std::move(name), {n_experts, rows, cols}, kept);
    }

    void floats(std::string name, std::vector<Eigen::Index> shape, std::vector<float> values) {
        add(std::move(name), std::move(shape), floats_.emplace_back(std::move(values)));
    }
    void vector(std::string name, const std::string& stored, Eigen::Index size) {
        const RowVector values = from_.vector(stored, size);
        floats(std::move(name), {size}, {values.begin(), values.end()});
    }
    void float_matrix(std::string name, const std::string& stored, Eigen::Index rows, Eigen::Index cols) {
        const Matrix values = from_.matrix(stored, rows, cols);
        floats(std::move(name), {rows, cols}, {values.data(), values.data() + values.size()});
    }

    [[nodiscard]] const std::vector<moe::GgufTensorToWrite>& all() const noexcept { return all_; }

private:
    template <class T>
    void add(std::string name, std::vector<Eigen::Index> shape, const std::vector<T>& values) {
        all_.push_back(moe::gguf_tensor_to_write<T>(std::move(name), {shape.begin(), shape.end()}, values));
    }

    const Checkpoint& from_;
    std::deque<std::vector<moe::bfloat16>> halves_;
    std::deque<std::vector<float>> floats_;
    std::vector<moe::GgufTensorToWrite> all_;
};

void add_layer(Tensors& tensors, const Config& config, std::ptrdiff_t i) {
    const std::string from = "model.layers." + std::to_string(i) + ".";
    const std::string to = "blk." + std::to_string(i) + ".";
    const Eigen::Index queries = config.n_heads * config.head_dim;
    const Eigen::Index keys = config.n_kv_heads * config.head_dim;
    tensors.vector(to + "attn_norm.weight", from + "input_layernorm.weight", config.d_model);
    tensors.matrix(to + "attn_q.weight", from + "self_attn.q_proj.weight", queries, config.d_model, config.head_dim);
    tensors.matrix(to + "attn_k.weight", from + "self_attn.k_proj.weight", keys, config.d_model, config.head_dim);
    tensors.matrix(to + "attn_v.weight", from + "self_attn.v_proj.weight", keys, config.d_model);
    tensors.matrix(to + "attn_output.weight", from + "self_attn.o_proj.weight", config.d_model, queries);
    tensors.vector(to + "ffn_norm.weight", from + "post_attention_layernorm.weight", config.d_model);
    const std::string sparse = from + "block_sparse_moe.";
    tensors.float_matrix(to + "ffn_gate_inp.weight", sparse + "gate.weight", config.n_experts, config.d_model);
    const auto experts = [&](const char* name, const char* stored, Eigen::Index rows, Eigen::Index cols) {
        tensors.experts(to + name, sparse + "experts.", stored, config.n_experts, rows, cols);
    };
    experts("ffn_gate_exps.weight", ".w1.weight", config.d_ff, config.d_model);
    experts("ffn_up_exps.weight", ".w3.weight", config.d_ff, config.d_model);
    experts("ffn_down_exps.weight", ".w2.weight", config.d_model, config.d_ff);
}

std::vector<moe::GgufValueToWrite> metadata_of(const Config& config) {
    const auto number = [](std::ptrdiff_t value) { return static_cast<std::uint32_t>(value); };
    constexpr std::uint32_t mostly_bfloat16 = 32;
    return {
        {"general.architecture", "llama"},
        {"general.file_type", mostly_bfloat16},
        {"llama.block_count", number(config.n_layers)},
        {"llama.context_length", number(config.max_positions)},
        {"llama.embedding_length", number(config.d_model)},
        {"llama.feed_forward_length", number(config.d_ff)},
        {"llama.attention.head_count", number(config.n_heads)},
        {"llama.attention.head_count_kv", number(config.n_kv_heads)},
        {"llama.attention.key_length", number(config.head_dim)},
        {"llama.attention.value_length", number(config.head_dim)},
        {"llama.attention.layer_norm_rms_epsilon", static_cast<float>(config.norm_eps)},
        {"llama.rope.dimension_count", number(config.head_dim)},
        {"llama.rope.freq_base", static_cast<float>(config.rope_theta)},
        {"llama.expert_count", number(config.n_experts)},
        {"llama.expert_used_count", number(config.top_k)},
        {"llama.vocab_size", number(config.vocab_size)},
        {"tokenizer.ggml.model", "none"},
        {"moe.rounded_frequencies", config.rounded_frequencies},
    };
}

}  // namespace

void write_gguf_model(const std::string& directory, const std::string& path) {
    const Config config = read_config(directory + "/config.json");
    const Checkpoint from(directory + "/model.safetensors");
    Tensors tensors(from);
    tensors.matrix("token_embd.weight", "model.embed_tokens.weight", config.vocab_size, config.d_model);
    tensors.vector("output_norm.weight", "model.norm.weight", config.d_model);
    tensors.matrix("output.weight", "lm_head.weight", config.vocab_size, config.d_model);
    if (config.rounded_frequencies) {  // what llama.cpp divides its frequencies by
        Config exact = config;
        exact.rounded_frequencies = false;
        std::vector<float> factors;
        for (Eigen::Index i = 0; i < config.head_dim / 2; ++i) {
            factors.push_back(static_cast<float>(rope_frequency(exact, i) / rope_frequency(config, i)));
        }
        tensors.floats("rope_freqs.weight", {config.head_dim / 2}, std::move(factors));
    }
    for (std::ptrdiff_t i = 0; i < config.n_layers; ++i) {
        add_layer(tensors, config, i);
    }
    const std::vector<moe::GgufValueToWrite> metadata = metadata_of(config);
    moe::write_gguf(path, tensors.all(), metadata);
}

}  // namespace generate
