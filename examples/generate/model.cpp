#include "model.hpp"

#include <cmath>
#include <memory>
#include <utility>

#include "gguf_model.hpp"

namespace generate {

namespace {

std::size_t unsigned_size(std::ptrdiff_t size) { return static_cast<std::size_t>(size); }

/// Expert matrices `name` of one block, where they lie in the file.
moe::WeightStack<moe::bfloat16> expert_stack(const Checkpoint& weights, const std::string& prefix,
                                             const std::string& name, const Config& config, Eigen::Index rows,
                                             Eigen::Index cols) {
    std::vector<const moe::bfloat16*> experts;
    for (std::ptrdiff_t e = 0; e < config.n_experts; ++e) {
        experts.push_back(
            weights.elements(prefix + "experts." + std::to_string(e) + "." + name + ".weight", rows, cols));
    }
    return moe::separate(experts, unsigned_size(rows), unsigned_size(cols));
}

MoEBlock make_moe_block(const Checkpoint& weights, const std::string& prefix, const Config& config) {
    const auto stack = [&](const char* name, Eigen::Index rows, Eigen::Index cols) {
        return expert_stack(weights, prefix, name, config, rows, cols);
    };
    const moe::bfloat16* const router = weights.elements(prefix + "gate.weight", config.n_experts, config.d_model);
    return moe::MoELayer{
        moe::Router{moe::view(router, unsigned_size(config.n_experts), unsigned_size(config.d_model)),
                    moe::TokenChoice<moe::Softmax>{.top_k = static_cast<int>(config.top_k), .normalize = true}},
        moe::PackedExperts{moe::SwiGLU{stack("w1", config.d_ff, config.d_model),
                                       stack("w3", config.d_ff, config.d_model),
                                       stack("w2", config.d_model, config.d_ff)}}};
}

}  // namespace

Model::Model(const std::string& path) {
    if (is_gguf(path)) {
        read_gguf(path);
    } else {
        read_folder(path);
    }
}

void Model::read_folder(const std::string& directory) {
    config_ = read_config(directory + "/config.json");
    const auto weights = std::make_shared<const Checkpoint>(directory + "/model.safetensors");
    read_dense(*weights);
    for (std::ptrdiff_t index = 0; index < config_.n_layers; ++index) {
        const std::string prefix = "model.layers." + std::to_string(index) + ".block_sparse_moe.";
        // the routers read their weights in place
        add_layer(*weights, make_moe_block(*weights, prefix, config_).keeping(weights));
    }
}

void Model::read_gguf(const std::string& path) {
    const GgufModel weights(path);
    config_ = weights.config();
    read_dense(weights);
    for (MoEBlock& experts : gguf_experts(path)) {
        add_layer(weights, std::move(experts));
    }
}

void Model::read_dense(const Weights& weights) {
    embedding_ = weights.matrix("model.embed_tokens.weight", config_.vocab_size, config_.d_model);
    final_norm_ = weights.vector("model.norm.weight", config_.d_model);
    head_ = weights.matrix("lm_head.weight", config_.vocab_size, config_.d_model);
}

void Model::add_layer(const Weights& weights, MoEBlock moe) {
    const std::string prefix = "model.layers." + std::to_string(layers_.size()) + ".";
    layers_.push_back({weights.vector(prefix + "input_layernorm.weight", config_.d_model),
                       Attention(weights, prefix + "self_attn.", config_),
                       weights.vector(prefix + "post_attention_layernorm.weight", config_.d_model), std::move(moe)});
}

Matrix Model::embed(std::span<const std::int32_t> tokens) const {
    Matrix rows(static_cast<Eigen::Index>(tokens.size()), config_.d_model);
    for (std::size_t t = 0; t < tokens.size(); ++t) {
        rows.row(static_cast<Eigen::Index>(t)) = embedding_.row(tokens[t]);
    }
    return rows;
}

Matrix Model::logits(const Matrix& hidden) const { return rms_norm(hidden, final_norm_) * head_.transpose(); }

Matrix Model::rms_norm(const Matrix& x, const RowVector& weight) const {
    Matrix result(x.rows(), x.cols());
    const auto eps = static_cast<float>(config_.norm_eps);
    for (Eigen::Index t = 0; t < x.rows(); ++t) {
        const float mean = x.row(t).squaredNorm() / static_cast<float>(x.cols());
        result.row(t) = (x.row(t) / std::sqrt(mean + eps)).cwiseProduct(weight);
    }
    return result;
}

Decoder::Decoder(const Model& model, const Threads& threads) : model_(&model), threads_(threads) {
    for (const Layer& layer : model.layers()) {
        caches_.push_back(layer.attention.make_cache());
    }
}

/// x += the MoE block of a layer, applied to `input`.
void Decoder::run_moe(std::size_t layer, const Matrix& input, std::span<const std::int32_t> tokens, Matrix& x) {
    const MoEBlock& block = model_->layers()[layer].moe;
    moe::ForwardOptions<float> options;
    options.accumulate = true;
    options.token_ids = tokens;
    options.first_position = first_number_ + static_cast<std::uint64_t>(position_);
    options.observer = observers_.empty() ? nullptr : observers_[layer];
    if (gates_.empty()) {
        block.forward(moe::view(input), moe::view(x), workspace_, threads_, options);
    } else {
        block.with_gate(gates_[layer]).forward(moe::view(input), moe::view(x), workspace_, threads_, options);
    }
}

Matrix Decoder::append(std::span<const std::int32_t> tokens, std::vector<Matrix>* moe_inputs) {
    const Eigen::Index limit = model_->config().max_positions;
    moe::ensure(std::cmp_less_equal(tokens.size(), limit - position_), moe::ErrorCode::capacity, "a text of ",
                unsigned_size(position_) + tokens.size(), " tokens is longer than the ", limit,
                " positions of the model");
    Matrix x = model_->embed(tokens);
    for (std::size_t i = 0; i < caches_.size(); ++i) {
        const Layer& layer = model_->layers()[i];
        x += layer.attention.forward(model_->rms_norm(x, layer.attention_norm), position_, caches_[i]);
        const Matrix input = model_->rms_norm(x, layer.moe_norm);
        run_moe(i, input, tokens, x);
        if (moe_inputs != nullptr) {
            moe_inputs->push_back(input);
        }
    }
    position_ += x.rows();
    return model_->logits(x);
}

double negative_log_likelihood(const Matrix& logits, Eigen::Index row, std::int32_t token) {
    const Eigen::ArrayXd values = logits.row(row).cast<double>().array();
    const double max = values.maxCoeff();
    return max + std::log((values - max).exp().sum()) - values[token];
}

}  // namespace generate
