// expect: executor: declare run const.
#include <moe/experts/expert_bank.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/layer/pack.hpp>

struct Pool {
    [[nodiscard]] std::size_t concurrency() const { return 1; }
#ifdef MOE_MISTAKE
    void run(moe::ParallelWork work) { work(0, 1); }
#else
    void run(moe::ParallelWork work) const { work(0, 1); }
#endif
};

using Bank = moe::ExpertBank<float, moe::Gated<moe::Silu>>;
using Layer = moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Bank>;

auto use(const Layer& layer) { return moe::pack<moe::Int8>(layer, Pool{}).n_experts(); }
