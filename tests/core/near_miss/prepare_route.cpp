// expect: temporary: give the layer a name
#include <moe/experts/expert_bank.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/moe_layer.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;
using View = moe::MatrixView<const float>;
Layer make();

#ifdef MOE_MISTAKE
void use(View x, moe::Workspace& workspace) { auto pass = make().prepare_route(x, workspace, 1); }
#else
void use(View x, moe::Workspace& workspace) {
    const Layer layer = make();
    auto pass = layer.prepare_route(x, workspace, 1);
}
#endif
