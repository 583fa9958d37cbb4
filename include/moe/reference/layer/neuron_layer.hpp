#pragma once

#include <cstddef>
#include <functional>

#include "../strategies/product_keys.hpp"
#include "layer.hpp"

namespace moe::inline MOE_ABI::reference {

/// Experts of one neuron chosen by product keys (He 2024, 2407.04153, algorithm 1).
struct NeuronLayer {
    std::size_t d_model = 0;
    std::size_t n_heads = 1;
    std::size_t n_keys = 0;  // of a half; n_keys^2 experts
    Vector queries{};        // (n_heads, 2, d_key, d_router), or empty: the keys are compared with the input itself
    Vector keys{};           // (n_heads, 2, n_keys, d_key), or (n_heads, 2, n_keys, d_router)
    std::size_t top_k = 1;
    bool relu = false;  // of the chosen logits; else their softmax
    Vector down{};      // (n_keys^2, d_model)
    Vector up{};        // (n_keys^2, d_model)
    std::function<double(double)> activation{};
    std::function<double(double)> activation_slope{};  // its derivative
};

/// The logits (n_heads, 2, n_keys) of one token.
[[nodiscard]] inline Vector logits(const NeuronLayer& layer, const Vector& router_input) {
    const std::size_t halves = 2 * layer.n_heads;
    if (layer.queries.empty()) {
        return linear(layer.keys, {}, router_input, halves * layer.n_keys);
    }
    const std::size_t d_key = layer.queries.size() / (halves * router_input.size());
    const Vector query = linear(layer.queries, {}, router_input, halves * d_key);
    Vector result;
    for (std::size_t i = 0; i < halves * layer.n_keys; ++i) {
        double sum = 0;
        for (std::size_t c = 0; c < d_key; ++c) {
            sum += layer.keys[i * d_key + c] * query[i / layer.n_keys * d_key + c];
        }
        result.push_back(sum);
    }
    return result;
}

/// What the layer makes of token x (d_model) with these logits.
[[nodiscard]] inline Vector combine(const NeuronLayer& layer, const Vector& token_logits, const Vector& x) {
    Vector y(layer.d_model, 0.0);
    const auto head_size = static_cast<std::ptrdiff_t>(2 * layer.n_keys);
    for (std::size_t h = 0; h < layer.n_heads; ++h) {
        const auto first = token_logits.begin() + static_cast<std::ptrdiff_t>(h) * head_size;
        const Choice choice = product_keys(Vector(first, first + head_size), layer.top_k, layer.relu);
        for (std::size_t slot = 0; slot < layer.top_k; ++slot) {
            const auto e = static_cast<std::size_t>(choice.experts[slot]);
            double sum = 0;
            for (std::size_t i = 0; i < layer.d_model; ++i) {
                sum += layer.down[e * layer.d_model + i] * x[i];
            }
            for (std::size_t i = 0; i < layer.d_model; ++i) {
                y[i] += choice.weights[slot] * layer.activation(sum) * layer.up[e * layer.d_model + i];
            }
        }
    }
    return y;
}

}  // namespace moe::inline MOE_ABI::reference
