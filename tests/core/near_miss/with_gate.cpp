// expect: temporary: give the layer a name
#include <moe/experts/expert_bank.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/moe_layer.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;
using View = moe::MatrixView<const float>;
Layer make();

#ifdef MOE_MISTAKE
auto use() { return make().with_gate(moe::TokenChoice<>{.top_k = 2}).n_experts(); }
#else
auto use() {
    const Layer layer = make();
    return layer.with_gate(moe::TokenChoice<>{.top_k = 2}).n_experts();
}
#endif
