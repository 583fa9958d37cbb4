#pragma once

/// What main.cpp and each level of layer.cpp share: types of this program, and the one function that every level has.

#include <cstddef>
#include <memory>
#include <string>

#include <moe/dispatched.hpp>

struct Weights {
    std::size_t n_experts;
    std::size_t d_model;
    std::size_t d_ff;
    const float* router;  ///< (n_experts, d_model)
    const float* gate;    ///< (n_experts, d_ff, d_model)
    const float* up;      ///< (n_experts, d_ff, d_model)
    const float* down;    ///< (n_experts, d_model, d_ff)
};

/// A layer, whose type differs from level to level.
class Layer {
public:
    virtual ~Layer() = default;
    /// y = layer(x), both (n_tokens, d_model).
    virtual void forward(const float* x, float* y, std::size_t n_tokens) = 0;
    /// The kernels it uses.
    [[nodiscard]] virtual std::string description() const = 0;
};

/// The layer, packed. Choosing a level once, here, is enough: what is returned stays in it.
MOE_DISPATCHED(make_layer, std::unique_ptr<Layer>(const Weights& weights));
