#pragma once

#include <cstddef>

#include "../../layer/neuron_layer.hpp"
#include "../gate/product_keys.hpp"
#include "../linear.hpp"

namespace moe::inline MOE_ABI::reference {

/// Of the sizes of NeuronLayer's members.
struct NeuronGradients {
    Vector queries{};
    Vector keys{};
    Vector down{};
    Vector up{};
};

[[nodiscard]] inline NeuronGradients zero_gradients(const NeuronLayer& layer) {
    return {Vector(layer.queries.size(), 0.0), Vector(layer.keys.size(), 0.0), Vector(layer.down.size(), 0.0),
            Vector(layer.up.size(), 0.0)};
}

/// Of logits(layer, router_input): gives the gradient of the router input, adds those of queries and keys.
[[nodiscard]] inline Vector logits_backward(const NeuronLayer& layer, const Vector& router_input,
                                            const Vector& d_logits, NeuronGradients& sum) {
    Vector no_bias;
    if (layer.queries.empty()) {
        return linear_backward(layer.keys, router_input, d_logits, sum.keys, no_bias);
    }
    const std::size_t halves = 2 * layer.n_heads;
    const std::size_t d_key = layer.queries.size() / (halves * router_input.size());
    const Vector query = linear(layer.queries, {}, router_input, halves * d_key);
    Vector d_query(query.size(), 0.0);
    for (std::size_t i = 0; i < d_logits.size(); ++i) {
        for (std::size_t c = 0; c < d_key; ++c) {
            const std::size_t q = i / layer.n_keys * d_key + c;
            d_query[q] += d_logits[i] * layer.keys[i * d_key + c];
            sum.keys[i * d_key + c] += d_logits[i] * query[q];
        }
    }
    return linear_backward(layer.queries, router_input, d_query, sum.queries, no_bias);
}

struct NeuronTokenGradient {
    Vector x{};
    Vector router_input{};
};

/// Of combine(layer, logits(layer, router_input), x), one token: an expert is y += w A(z) up, z = down . x.
[[nodiscard]] inline NeuronTokenGradient backward(const NeuronLayer& layer, const Vector& x, const Vector& router_input,
                                                  const Vector& dy, NeuronGradients& sum) {
    const Vector token_logits = logits(layer, router_input);
    NeuronTokenGradient result{Vector(layer.d_model, 0.0), Vector()};
    Vector d_logits;
    for (std::size_t h = 0; h < layer.n_heads; ++h) {
        const Vector of_head = row_of(token_logits, h, 2 * layer.n_keys);
        const Choice choice = product_keys(of_head, layer.top_k, layer.relu);
        Vector d_weights;
        for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
            const auto e = static_cast<std::size_t>(choice.experts[slot]);
            const double w = choice.weights[slot];
            const double z = dot(row_of(layer.down, e, layer.d_model), x);
            const double along = dot(row_of(layer.up, e, layer.d_model), dy);
            const double dz = w * layer.activation_slope(z) * along;
            d_weights.push_back(layer.activation(z) * along);
            for (std::size_t i = 0; i < layer.d_model; ++i) {
                result.x[i] += dz * layer.down[e * layer.d_model + i];
                sum.down[e * layer.d_model + i] += dz * x[i];
                sum.up[e * layer.d_model + i] += w * layer.activation(z) * dy[i];
            }
        }
        const Vector d_head = product_keys_backward(of_head, choice, layer.relu, d_weights);
        d_logits.insert(d_logits.end(), d_head.begin(), d_head.end());
    }
    result.router_input = logits_backward(layer, router_input, d_logits, sum);
    return result;
}

}  // namespace moe::inline MOE_ABI::reference
