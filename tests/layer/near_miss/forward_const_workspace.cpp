// expect: forward: behind y comes the workspace, a moe::Workspace with a name that is not const.
#include <moe/experts/expert_bank.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/moe_layer.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
void use(const Layer& layer, const float* x, float* y) {
    layer.forward(moe::view(x, 5, 8), moe::view(y, 5, 8), moe::Workspace{});
}
#else
void use(const Layer& layer, const float* x, float* y) {
    moe::Workspace workspace;
    layer.forward(moe::view(x, 5, 8), moe::view(y, 5, 8), workspace);
}
#endif
