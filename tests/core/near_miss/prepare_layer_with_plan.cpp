// expect: temporary: give the layer a name
#include <moe/experts/expert_bank.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/moe_layer.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;
using View = moe::MatrixView<const float>;

#ifdef MOE_MISTAKE
void use(const Layer& layer, View x, const moe::RoutingPlan<float>& plan, moe::MatrixView<float> y,
         moe::Workspace& workspace) {
    auto pass = layer.with_gate(moe::TokenChoice<>{.top_k = 2}).prepare(x, plan, y, workspace, 1);
}
#else
void use(const Layer& layer, View x, const moe::RoutingPlan<float>& plan, moe::MatrixView<float> y,
         moe::Workspace& workspace) {
    const auto two = layer.with_gate(moe::TokenChoice<>{.top_k = 2});
    auto pass = two.prepare(x, plan, y, workspace, 1);
}
#endif
