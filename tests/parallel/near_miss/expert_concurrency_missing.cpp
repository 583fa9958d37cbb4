// expect: executor: add the member `std::size_t concurrency() const`.
#include <moe/experts/expert.hpp>

struct Pool {
#ifndef MOE_MISTAKE
    [[nodiscard]] std::size_t concurrency() const { return 1; }
#endif
    void run(moe::ParallelWork work) const { work(0, 1); }
};

using Network = moe::Expert<moe::ExpertBank<float, moe::Gated<moe::Silu>>>;

void use(const Network& expert, const float* x, float* y, moe::Workspace& workspace) {
    expert.forward(moe::view(x, 5, 8), moe::view(y, 5, 8), workspace, Pool{});
}
