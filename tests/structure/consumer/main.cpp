#include <moe/moe.hpp>

int main() {
    // one expert that doubles: silu(100) * 0.02 * x, as silu(100) is 100 in float
    const float router = 1.0F;
    const float gate = 100.0F;
    const float up = 0.02F;
    const float down = 1.0F;
    const float x = 1.0F;
    float y = 0.0F;
    const moe::MoELayer layer{
        moe::Router{moe::view(&router, 1, 1), moe::TokenChoice<moe::Softmax>{.top_k = 1}},
        moe::SwiGLU{moe::stacked(&gate, 1, 1, 1), moe::stacked(&up, 1, 1, 1), moe::stacked(&down, 1, 1, 1)}};
    moe::Workspace workspace;
    layer.forward(moe::view(&x, 1, 1), moe::view(&y, 1, 1), workspace);
    return y > 1.999F && y < 2.001F ? 0 : 1;
}
