// expect: temporary: give the plan a name
#include <moe/experts/expert_bank.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/moe_layer.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;
using View = moe::MatrixView<const float>;
moe::RoutingPlan<float> make();

#ifdef MOE_MISTAKE
void use(const Layer& layer, View x, moe::MatrixView<float> y, moe::Workspace& workspace) {
    auto pass = layer.prepare(x, make(), y, workspace, 1);
}
#else
void use(const Layer& layer, View x, moe::MatrixView<float> y, moe::Workspace& workspace) {
    const moe::RoutingPlan<float> plan = make();
    auto pass = layer.prepare(x, plan, y, workspace, 1);
    layer.forward(x, make(), y, workspace);  // which is done with it when it returns
}
#endif
