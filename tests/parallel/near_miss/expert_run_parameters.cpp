// expect: executor: add the member `void run(moe::ParallelWork work) const`.
#include <moe/experts/expert.hpp>

struct Pool {
    [[nodiscard]] std::size_t concurrency() const { return 1; }
#ifdef MOE_MISTAKE
    void run(int n_threads) const;
#else
    void run(moe::ParallelWork work) const { work(0, 1); }
#endif
};

using Network = moe::Expert<moe::ExpertBank<float, moe::Gated<moe::Silu>>>;

void use(const Network& expert, const float* x, float* y, moe::Workspace& workspace) {
    expert.forward(moe::view(x, 5, 8), moe::view(y, 5, 8), workspace, Pool{});
}
