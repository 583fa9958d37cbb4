#include "model.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace trainer {

namespace {

std::string layer_prefix(std::size_t index) { return "model.layers." + std::to_string(index) + "."; }

std::vector<moe::ParameterInfo> describe(const Config& config, const std::vector<moe::ParameterInfo>& more) {
    const std::size_t d = unsigned_size(config.d_model);
    const std::size_t d_ff = unsigned_size(config.d_ff);
    const std::size_t n_experts = unsigned_size(config.n_experts);
    const std::size_t n_queries = unsigned_size(config.n_heads * config.head_dim);
    const std::size_t n_keys = unsigned_size(config.n_kv_heads * config.head_dim);
    const std::size_t n_tokens = unsigned_size(config.vocab_size);
    constexpr double scale = 0.02;
    const double into_residual = scale / std::sqrt(2.0 * static_cast<double>(config.n_layers));
    std::vector<moe::ParameterInfo> infos{
        {.name = "model.embed_tokens.weight", .rows = n_tokens, .cols = d, .scale = scale}};
    for (std::size_t i = 0; i < unsigned_size(config.n_layers); ++i) {
        const std::string prefix = layer_prefix(i);
        const auto add = [&](const char* name, std::size_t n_matrices, std::size_t rows, std::size_t cols,
                             double deviation) {
            infos.push_back({.name = prefix + name,
                             .n_matrices = n_matrices,
                             .rows = rows,
                             .cols = cols,
                             .scale = deviation,
                             .decay = deviation > 0});
        };
        add("input_layernorm.weight", 1, 1, d, 0);
        add("self_attn.q_proj.weight", 1, n_queries, d, scale);
        add("self_attn.k_proj.weight", 1, n_keys, d, scale);
        add("self_attn.v_proj.weight", 1, n_keys, d, scale);
        add("self_attn.o_proj.weight", 1, d, n_queries, into_residual);
        add("post_attention_layernorm.weight", 1, 1, d, 0);
        add("mlp.gate.weight", 1, n_experts, d, scale);
        add("mlp.experts.gate_up_proj", n_experts, 2 * d_ff, d, scale);
        add("mlp.experts.down_proj", n_experts, d, d_ff, into_residual);
    }
    infos.push_back({.name = "model.norm.weight", .cols = d, .decay = false});
    infos.push_back({.name = "lm_head.weight", .rows = n_tokens, .cols = d, .scale = scale});
    infos.insert(infos.end(), more.begin(), more.end());
    return infos;
}

}  // namespace

template <class T>
Model<T>::Model(const Config& config, std::uint64_t seed, const std::vector<moe::ParameterInfo>& more)
    : config_(config), parameters_(describe(config, more), seed) {
    for (const moe::Parameter<T>& parameter : parameters_.all()) {
        if (parameter.info().name.ends_with("norm.weight")) {
            std::fill(parameter.value().begin(), parameter.value().end(), T(1));
        }
    }
    for (std::size_t i = 0; i < unsigned_size(config.n_layers); ++i) {
        layers_.push_back(make_layer(i));
    }
}

template <class T>
Layer<T> Model<T>::make_layer(std::size_t index) const {
    const auto named = [&](const char* name) -> const moe::Parameter<T>& {
        return parameters_[layer_prefix(index) + name];
    };
    const moe::Parameter<T>& router = named("mlp.gate.weight");
    const moe::Parameter<T>& gate_up = named("mlp.experts.gate_up_proj");
    const moe::Parameter<T>& down = named("mlp.experts.down_proj");
    const auto [gate, up] = moe::concatenated(gate_up.stack());
    const auto [d_gate, d_up] = moe::concatenated(gate_up.gradient_stack());
    moe::LayerGradients<T> gradients;
    gradients.router = router.gradient_stack();
    gradients.experts = {.gate = d_gate, .up = d_up, .down = down.gradient_stack()};
    return {.attention_norm = named("input_layernorm.weight"),
            .query = named("self_attn.q_proj.weight"),
            .key = named("self_attn.k_proj.weight"),
            .value = named("self_attn.v_proj.weight"),
            .output = named("self_attn.o_proj.weight"),
            .moe_norm = named("post_attention_layernorm.weight"),
            .router = router,
            .gate_up = gate_up,
            .down = down,
            .moe = {moe::Router{router.stack(), moe::TokenChoice<moe::Softmax>{.top_k = static_cast<int>(config_.top_k),
                                                                               .normalize = true}},
                    moe::SwiGLU{gate, up, down.stack()}},
            .gradients = gradients};
}

template <class T>
std::size_t Model<T>::n_weights() const {
    return parameters_.gradients().size();
}

template <class T>
std::size_t Model<T>::n_active_weights() const {
    const std::size_t of_expert = unsigned_size(3 * config_.d_ff * config_.d_model);
    const std::size_t idle = unsigned_size((config_.n_experts - config_.top_k) * config_.n_layers) * of_expert;
    return n_weights() - idle - embedding().value().size();
}

template class Model<float>;
template class Model<double>;

}  // namespace trainer
