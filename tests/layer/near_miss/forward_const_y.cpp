// expect: forward: y is written, make its view from a pointer to elements that are not const.
#include <moe/experts/expert_bank.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/moe_layer.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
void use(const Layer& layer, const float* x, const float* y, moe::Workspace& workspace) {
    layer.forward(moe::view(x, 5, 8), moe::view(y, 5, 8), workspace);
}
#else
void use(const Layer& layer, const float* x, float* y, moe::Workspace& workspace) {
    layer.forward(moe::view(x, 5, 8), moe::view(y, 5, 8), workspace);
}
#endif
