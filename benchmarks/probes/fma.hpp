#pragma once

#include "../threads.hpp"

namespace bench {

/// float32 operations a second (a fused multiply-add is two) of all threads together, some 5 ms of them: the widest
/// vectors, enough independent sums to cover the latency, nothing but registers.
[[nodiscard]] double fma_peak(const Threads& threads);

}  // namespace bench
