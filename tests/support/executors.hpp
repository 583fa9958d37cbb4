#pragma once

#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

#include "moe/parallel/executor.hpp"

/// Executors of the tests: all the ways a host may run the work of a region.
namespace moe_test {

/// New threads for every region, of which only `used` are given work; no pool, no state.
class ThreadExecutor {
public:
    explicit ThreadExecutor(std::size_t concurrency) : ThreadExecutor(concurrency, concurrency) {}
    ThreadExecutor(std::size_t concurrency, std::size_t used) : concurrency_(concurrency), used_(used) {}

    [[nodiscard]] std::size_t concurrency() const noexcept { return concurrency_; }
    void run(moe::ParallelWork work) const {
        std::vector<std::thread> threads;
        threads.reserve(used_ - 1);
        for (std::size_t ith = 1; ith < used_; ++ith) {
            threads.emplace_back([=, used = used_] { work(ith, used); });
        }
        work(0, used_);
        for (std::thread& thread : threads) {
            thread.join();
        }
    }

private:
    std::size_t concurrency_;
    std::size_t used_;
};

/// Plays `used` workers one after the other in the calling thread, last first. The first to come takes every task of a
/// queue, so worker numbers and the work they do part company.
class ReversedExecutor {
public:
    explicit ReversedExecutor(std::size_t used) : used_(used) {}

    [[nodiscard]] std::size_t concurrency() const noexcept { return used_; }
    void run(moe::ParallelWork work) const {
        for (std::size_t ith = used_; ith-- > 0;) {
            work(ith, used_);
        }
    }

private:
    std::size_t used_;
};

/// 2n, for tests that run on 1..2n threads; at most 8, so that a large machine does not take for ever.
inline std::size_t twice_the_threads() {
    return std::min<std::size_t>(8, 2 * std::max(1U, std::thread::hardware_concurrency()));
}

}  // namespace moe_test
