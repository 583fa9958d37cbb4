// expect: forward: x and y are matrices: moe::view(x, n_tokens, d_model), with a pointer x.
#include <vector>

#include <moe/experts/expert_bank.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/moe_layer.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;
using Vector = std::vector<float>;

#ifdef MOE_MISTAKE
void use(const Layer& layer, const Vector& x, Vector& y, moe::Workspace& workspace) { layer.forward(x, y, workspace); }
#else
void use(const Layer& layer, const Vector& x, Vector& y, moe::Workspace& workspace) {
    layer.forward(moe::view(x.data(), 5, 8), moe::view(y.data(), 5, 8), workspace);
}
#endif
