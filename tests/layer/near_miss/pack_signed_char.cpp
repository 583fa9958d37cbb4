// expect: pack: the format is one of float, double, moe::bfloat16, moe::float16, moe::Int8 and moe::Int4.
#include <moe/experts/expert_bank.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/pack.hpp>

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

#ifdef MOE_MISTAKE
auto use(const Layer& layer) { return moe::pack<signed char>(layer).n_experts(); }
#else
auto use(const Layer& layer) { return moe::pack<moe::Int8>(layer).n_experts(); }
#endif
