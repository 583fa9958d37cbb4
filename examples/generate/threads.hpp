#pragma once

#include <moe/core/error.hpp>
#include <moe/parallel/executor.hpp>
#include <moe/parallel/openmp.hpp>

namespace generate {

#if defined(_OPENMP)
using Threads = moe::OpenMpExecutor;
#else
using Threads = moe::SerialExecutor;
#endif

/// 0: one for each processor. Throws moe::Error(range) for several without OpenMP.
[[nodiscard]] inline Threads make_threads(int n_threads) {
#if defined(_OPENMP)
    return n_threads == 0 ? Threads() : Threads(n_threads);
#else
    moe::ensure(n_threads <= 1, moe::ErrorCode::range, "built without OpenMP, so --threads must be 1");
    return {};
#endif
}

}  // namespace generate
