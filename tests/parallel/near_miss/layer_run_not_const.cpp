// expect: executor.run(work)
#include <moe/moe.hpp>

struct Pool {
    [[nodiscard]] std::size_t concurrency() const { return 1; }
#ifdef MOE_MISTAKE
    void run(moe::ParallelWork work) { work(0, 1); }
#else
    void run(moe::ParallelWork work) const { work(0, 1); }
#endif
};

using Experts = moe::ExpertBank<float, moe::Gated<moe::Silu>>;

void use(const moe::MoELayer<moe::Router<float, moe::TokenChoice<>>, Experts>& layer, moe::Workspace& workspace) {
    layer.forward({}, moe::MatrixView<float>{}, workspace, Pool{});
}
