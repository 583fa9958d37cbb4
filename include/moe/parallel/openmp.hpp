#pragma once

#include <cstddef>

#include "executor.hpp"

#if defined(_OPENMP)
#include <omp.h>

namespace moe::inline MOE_ABI {

/// Runs on the threads of OpenMP. Only there when the file is compiled with OpenMP.
class OpenMpExecutor {
public:
    /// As many threads as OpenMP would use by itself.
    OpenMpExecutor() : n_threads_(omp_get_max_threads()) {}

    /// `n_threads` threads; values below 1 count as 1.
    explicit OpenMpExecutor(int n_threads) : n_threads_(n_threads < 1 ? 1 : n_threads) {}

    [[nodiscard]] std::size_t concurrency() const noexcept { return static_cast<std::size_t>(n_threads_); }

    void run(ParallelWork work) const {
        if (n_threads_ == 1) {
            return work(0, 1);  // a team of one allocates, too
        }
#pragma omp parallel num_threads(n_threads_)
        work(static_cast<std::size_t>(omp_get_thread_num()), static_cast<std::size_t>(omp_get_num_threads()));
    }

private:
    int n_threads_;
};

}  // namespace moe::inline MOE_ABI

#endif
