// expect: forward: y is written, make its view from a pointer to elements that are not const.
#include <moe/experts/expert_bank.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/moe_layer.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;
using Plan = moe::PlanView<float>;

#ifdef MOE_MISTAKE
void use(const Layer& layer, const float* x, const Plan& plan, const float* y, moe::Workspace& workspace) {
    layer.forward(moe::view(x, 5, 8), plan, moe::view(y, 5, 8), workspace, moe::SerialExecutor{}, {.accumulate = true});
}
#else
void use(const Layer& layer, const float* x, const Plan& plan, float* y, moe::Workspace& workspace) {
    layer.forward(moe::view(x, 5, 8), plan, moe::view(y, 5, 8), workspace, moe::SerialExecutor{}, {.accumulate = true});
}
#endif
