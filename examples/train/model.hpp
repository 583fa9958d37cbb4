#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <moe/instantiate.hpp>
#include <moe/train.hpp>

#include "attention.hpp"

namespace trainer {

/// The parameters of one layer, and the sparse block over them.
template <class T>
struct Layer {
    using MoEBlock =
        moe::MoELayer<moe::Router<T, moe::TokenChoice<moe::Softmax>>, moe::ExpertBank<T, moe::Gated<moe::Silu>>>;

    moe::Parameter<T> attention_norm;  ///< (d_model)
    moe::Parameter<T> query;           ///< (n_heads * head_dim, d_model)
    moe::Parameter<T> key;             ///< (n_kv_heads * head_dim, d_model)
    moe::Parameter<T> value;           ///< (n_kv_heads * head_dim, d_model)
    moe::Parameter<T> output;          ///< (d_model, n_heads * head_dim)
    moe::Parameter<T> moe_norm;        ///< (d_model)
    moe::Parameter<T> router;          ///< (n_experts, d_model)
    moe::Parameter<T> gate_up;         ///< (n_experts, 2 * d_ff, d_model)
    moe::Parameter<T> down;            ///< (n_experts, d_model, d_ff)
    MoEBlock moe;                      ///< reads the parameters where they are
    moe::LayerGradients<T> gradients;  ///< where its gradients go: the parameters' own
};

/// The weights of a Mixtral model (Jiang et al. 2024, 2401.04088) that is being trained: the same that generate::Model
/// runs, named as Hugging Face transformers names them in memory. Norms do not decay.
template <class T>
class Model {
public:
    /// Normal first weights of the standard deviation 0.02, those that end in the residual stream divided by
    /// sqrt(2 n_layers) (Radford et al. 2019); norms are 1. `more` parameters are for blocks that have some of their
    /// own.
    Model(const Config& config, std::uint64_t seed, const std::vector<moe::ParameterInfo>& more = {});
    Model(const Model&) = delete;
    Model& operator=(const Model&) = delete;

    [[nodiscard]] const Config& config() const noexcept { return config_; }
    [[nodiscard]] moe::Parameters<T>& parameters() noexcept { return parameters_; }
    [[nodiscard]] const moe::Parameters<T>& parameters() const noexcept { return parameters_; }

    [[nodiscard]] const moe::Parameter<T>& embedding() const { return parameters_["model.embed_tokens.weight"]; }
    [[nodiscard]] const moe::Parameter<T>& final_norm() const { return parameters_["model.norm.weight"]; }
    [[nodiscard]] const moe::Parameter<T>& head() const { return parameters_["lm_head.weight"]; }
    [[nodiscard]] const std::vector<Layer<T>>& layers() const noexcept { return layers_; }

    /// Weights in all, and those that a token is multiplied with.
    [[nodiscard]] std::size_t n_weights() const;
    [[nodiscard]] std::size_t n_active_weights() const;

private:
    [[nodiscard]] Layer<T> make_layer(std::size_t index) const;

    Config config_;
    moe::Parameters<T> parameters_;
    std::vector<Layer<T>> layers_;
};

/// A parameter as a matrix, (n_matrices * rows, cols).
template <class T>
[[nodiscard]] Weight<T> weight(const moe::Parameter<T>& parameter) {
    return {parameter.value().data(), signed_size(parameter.info().n_matrices * parameter.info().rows),
            signed_size(parameter.info().cols)};
}
template <class T>
[[nodiscard]] Gradient<T> gradient(const moe::Parameter<T>& parameter) {
    return {parameter.gradient().data(), signed_size(parameter.info().n_matrices * parameter.info().rows),
            signed_size(parameter.info().cols)};
}

}  // namespace trainer
