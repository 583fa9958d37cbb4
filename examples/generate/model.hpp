#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <moe/eigen.hpp>
#include <moe/instantiate.hpp>

#include "attention.hpp"
#include "checkpoint.hpp"
#include "config.hpp"
#include "threads.hpp"

namespace generate {

/// The block that stands where a dense model has its feed-forward network: the router takes the two best experts by
/// softmax and divides their weights by their sum; the experts are SwiGLU networks, packed as the file has them: in
/// bfloat16 from a folder, in any format of ggml from a GGUF file.
using MoEBlock = moe::AnyLayer<float>;

struct Layer {
    RowVector attention_norm;
    Attention attention;
    RowVector moe_norm;
    MoEBlock moe;
};

/// A Mixtral model (Jiang et al. 2024, 2401.04088). Immutable: any number of decoders may share one.
class Model {
public:
    /// Reads config.json and model.safetensors of a folder, or a GGUF file. Throws moe::Error when one is missing or
    /// damaged.
    explicit Model(const std::string& path);

    [[nodiscard]] const Config& config() const noexcept { return config_; }
    [[nodiscard]] const std::vector<Layer>& layers() const noexcept { return layers_; }

    /// Embeddings (n, d_model) of tokens that lie in the vocabulary.
    [[nodiscard]] Matrix embed(std::span<const std::int32_t> tokens) const;

    /// Logits (n, vocab_size) of what the last layer leaves (n, d_model).
    [[nodiscard]] Matrix logits(const Matrix& hidden) const;

    /// x / sqrt(mean of squares + eps) * weight for each row (Zhang and Sennrich 2019).
    [[nodiscard]] Matrix rms_norm(const Matrix& x, const RowVector& weight) const;

private:
    void read_folder(const std::string& directory);
    void read_gguf(const std::string& path);
    void read_dense(const Weights& weights);
    void add_layer(const Weights& weights, MoEBlock moe);

    Config config_;
    Matrix embedding_;
    RowVector final_norm_;
    Matrix head_;
    std::vector<Layer> layers_;
};

/// One text in the making: the keys and values of its tokens and the scratch memory of the forward pass.
class Decoder {
public:
    Decoder(const Model& model, const Threads& threads);

    /// Number of tokens so far, at most model.config().max_positions.
    [[nodiscard]] Eigen::Index position() const noexcept { return position_; }

    /// Appends `tokens` and returns the logits (n, vocab_size) of what follows each of them. Throws moe::Error when the
    /// text gets longer than the model's positions. Adds to `moe_inputs`, where given, what each MoE block reads.
    Matrix append(std::span<const std::int32_t> tokens, std::vector<Matrix>* moe_inputs = nullptr);

    /// Forgets the text. `number` is that of the next token for gates that draw lots, which is not its position.
    void restart(std::uint64_t number = 0) noexcept {
        position_ = 0;
        first_number_ = number;
    }

    /// Lets `observers`, one a layer, watch the MoE blocks from now on; they must outlive the decoder.
    void observe(std::span<moe::Observer<float>* const> observers) { observers_ = observers; }

    /// Lets `gates`, one a layer, read the routers from now on instead of the model's own; they must outlive the
    /// decoder.
    void route_with(std::span<const moe::AnyGate> gates) { gates_ = gates; }

private:
    void run_moe(std::size_t layer, const Matrix& input, std::span<const std::int32_t> tokens, Matrix& x);

    const Model* model_;
    Threads threads_;
    moe::Workspace workspace_;
    std::vector<KeyValueCache> caches_;
    std::span<moe::Observer<float>* const> observers_;
    std::span<const moe::AnyGate> gates_;
    Eigen::Index position_ = 0;
    std::uint64_t first_number_ = 0;
};

/// -log of the probability that the softmax of a row of logits gives to `token`, nats.
[[nodiscard]] double negative_log_likelihood(const Matrix& logits, Eigen::Index row, std::int32_t token);

}  // namespace generate
