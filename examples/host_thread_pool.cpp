// A host with a thread pool of its own: the last struct is all it takes to make an executor of it.

#include <barrier>
#include <cstdio>
#include <thread>
#include <vector>

#include <moe/moe.hpp>

/// The host's pool: threads that wait for work and then all do the same.
class Pool {
public:
    explicit Pool(std::size_t n_threads)
        : begin_(static_cast<std::ptrdiff_t>(n_threads)),
          end_(static_cast<std::ptrdiff_t>(n_threads)),
          size_(n_threads) {
        for (std::size_t i = 1; i < n_threads; ++i) {
            threads_.emplace_back([this, i] { serve(i); });
        }
    }
    ~Pool() {
        work_ = nullptr;
        begin_.arrive_and_wait();
    }

    [[nodiscard]] std::size_t size() const { return size_; }

    /// Calls work(i, size()) on thread i, for every i; thread 0 is the caller's.
    void run(const moe::ParallelWork& work) {
        work_ = &work;
        begin_.arrive_and_wait();
        work(0, size_);
        end_.arrive_and_wait();
    }

private:
    void serve(std::size_t i) {
        for (begin_.arrive_and_wait(); work_ != nullptr; begin_.arrive_and_wait()) {
            (*work_)(i, size_);
            end_.arrive_and_wait();
        }
    }

    std::barrier<> begin_;
    std::barrier<> end_;
    std::size_t size_;
    const moe::ParallelWork* work_ = nullptr;
    std::vector<std::jthread> threads_;  // last, so that they end before what they use
};

/// What the library asks of an executor. It is passed as const and copied, so it points to the pool.
struct PoolExecutor {
    Pool* pool;
    [[nodiscard]] std::size_t concurrency() const { return pool->size(); }
    void run(moe::ParallelWork work) const { pool->run(work); }
};
static_assert(moe::Executor<PoolExecutor>);

int main() {
    const std::size_t n_experts = 8;
    const std::size_t d = 64;
    const std::size_t n_tokens = 300;
    std::vector<float> values(n_experts * d * d);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = moe::random_uniform(1, i) - 0.5F;
    }
    const auto weights = moe::stacked(values.data(), n_experts, d, d);
    const moe::MoELayer layer{moe::Router{moe::view(values.data(), n_experts, d), moe::TokenChoice<>{.top_k = 2}},
                              moe::SwiGLU{weights, weights, weights}};
    const auto x = moe::view(static_cast<const float*>(values.data()), n_tokens, d);
    std::vector<float> alone(n_tokens * d);
    std::vector<float> pooled(n_tokens * d);
    moe::Workspace workspace;
    layer.forward(x, moe::view(alone.data(), n_tokens, d), workspace);
    Pool pool(4);
    layer.forward(x, moe::view(pooled.data(), n_tokens, d), workspace, PoolExecutor{&pool});
    std::printf("%zu tokens on a pool of %zu threads: %s\n", n_tokens, pool.size(), alone == pooled ? "ok" : "WRONG");
    return alone == pooled ? 0 : 1;
}
