#pragma once

/// One and the same layer, compiled once per instruction set. Only plain pointers cross between the files.

#include <cstddef>

struct Layer {
    std::size_t n_tokens;
    std::size_t n_experts;
    std::size_t d_model;
    std::size_t d_ff;
    const float* router;  ///< (n_experts, d_model)
    const float* gate;    ///< (n_experts, d_ff, d_model)
    const float* up;      ///< (n_experts, d_ff, d_model)
    const float* down;    ///< (n_experts, d_model, d_ff)
};

/// y (n_tokens, d_model) = the layer applied to x (n_tokens, d_model); returns the name of the instruction set it was
/// compiled for.
using Run = const char* (*)(const Layer& layer, const float* x, float* y);

const char* run_baseline(const Layer& layer, const float* x, float* y);
const char* run_v3(const Layer& layer, const float* x, float* y);
const char* run_v4(const Layer& layer, const float* x, float* y);
