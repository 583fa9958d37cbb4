// expect: pack: experts in double are packed as double, moe::pack(layer), and others not.
#include <moe/experts/expert_bank.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/pack.hpp>

using Bank = moe::ExpertBank<double, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<double, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
auto use(const Layer& layer) { return moe::pack<moe::Int8>(layer).n_experts(); }
#else
auto use(const Layer& layer) { return moe::pack(layer).n_experts(); }
#endif
