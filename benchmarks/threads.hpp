#pragma once

#include <cstddef>

#include <moe/parallel/openmp.hpp>

namespace bench {

/// The threads everything here runs on: OpenMP's, as oneDNN and Eigen, so that no two pools compete for the processors.
/// Without OpenMP the calling thread alone.
class Threads {
public:
    explicit Threads(std::size_t n) : n_(n) {
#if defined(_OPENMP)
        omp_set_num_threads(static_cast<int>(n));
#endif
    }

    [[nodiscard]] std::size_t concurrency() const noexcept { return n_; }

    /// Fewer of the same threads.
    [[nodiscard]] Threads only(std::size_t n) const {
        Threads fewer = *this;
        fewer.n_ = n;
        return fewer;
    }

    void run(moe::ParallelWork work) const {
#if defined(_OPENMP)
        moe::OpenMpExecutor(static_cast<int>(n_)).run(work);
#else
        work(0, 1);
#endif
    }

    /// body(begin, end) on a part of [0, count) each; parts start at multiples of `grain`.
    template <class Body>
    void split(std::size_t count, std::size_t grain, Body&& body) const {
        const std::size_t grains = (count + grain - 1) / grain;
        auto part = [&](std::size_t ith, std::size_t nth) {
            const std::size_t begin = grains * ith / nth * grain;
            const std::size_t end = ith + 1 == nth ? count : grains * (ith + 1) / nth * grain;
            if (begin < end) {
                body(begin, end);
            }
        };
        run(part);
    }

    /// task(i) for each i below `count`, taken by whoever is free: what a disturbed thread leaves, the others do.
    template <class Task>
    void take_turns(std::size_t count, Task&& task) const {
        moe::TaskQueue queue;
        auto work = [&](std::size_t, std::size_t) {
            for (std::size_t i = queue.take(); i < count; i = queue.take()) {
                task(i);
            }
        };
        run(work);
    }

private:
    std::size_t n_;
};

/// Most threads that can be asked for.
[[nodiscard]] inline std::size_t most_threads() noexcept {
#if defined(_OPENMP)
    return 1024;
#else
    return 1;
#endif
}

/// As many as there are processors.
[[nodiscard]] inline std::size_t default_threads() noexcept {
#if defined(_OPENMP)
    return static_cast<std::size_t>(omp_get_num_procs());
#else
    return 1;
#endif
}

}  // namespace bench
