// expect: executor.concurrency()
#include <moe/moe.hpp>

struct Pool {
#ifdef MOE_MISTAKE
#else
    [[nodiscard]] std::size_t concurrency() const { return 1; }
#endif
    void run(moe::ParallelWork work) const { work(0, 1); }
};

using Network = moe::Expert<moe::ExpertBank<float, moe::Gated<moe::Silu>>>;

void use(const Network& expert, moe::Workspace& workspace) { expert.forward({}, {}, workspace, Pool{}); }
