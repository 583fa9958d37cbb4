// No #pragma once: each file that includes it makes a function of its own, named by MOE_TEST_RUN.

#include <moe/moe.hpp>

#include "run.hpp"

const char* MOE_TEST_RUN(const Layer& shape, const float* x, float* y) {
    const auto [n_tokens, n_experts, d_model, d_ff, router, gate, up, down] = shape;
    const moe::MoELayer layer{
        moe::Router{moe::view(router, n_experts, d_model),
                    moe::TokenChoice<moe::Softmax>{.top_k = 2, .normalize = true}},
        moe::SwiGLU{moe::stacked(gate, n_experts, d_ff, d_model), moe::stacked(up, n_experts, d_ff, d_model),
                    moe::stacked(down, n_experts, d_model, d_ff)}};
    moe::Workspace workspace;
    layer.forward(moe::view(x, n_tokens, d_model), moe::view(y, n_tokens, d_model), workspace);
    return moe::isa_name();
}
