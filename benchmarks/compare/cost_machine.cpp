#include <algorithm>
#include <cstddef>

#include "../formats.hpp"
#include "../memory.hpp"
#include "../probes/fma.hpp"
#include "../probes/read.hpp"
#include "cost.hpp"

namespace compare {

namespace {

/// Bytes the read probe goes through: beyond the last-level cache, but not what a small machine has left.
std::size_t probe_bytes() {
    constexpr std::size_t least = std::size_t{1} << 28U;
    const std::size_t wanted = std::max(least, 3 * bench::last_level_cache());
    return std::min(wanted, std::max(bench::available_memory() / 4, std::size_t{1} << 26U));
}

}  // namespace

CostMachine measure_machine(std::size_t n_threads, bool quick) {
    const bench::Threads threads(n_threads);
    bench::ReadProbe read(threads, probe_bytes());
    CostMachine machine;
    machine.threads = threads.concurrency();
    for (int turn = 0; turn < (quick ? 20 : 60); ++turn) {
        machine.bytes_per_second = std::max(machine.bytes_per_second, read({}));
        machine.flops_per_second = std::max(machine.flops_per_second, bench::fma_peak(threads));
    }
    machine.int8_flops_per_second = machine.flops_per_second * bench::info(bench::Compute::int8).peak;
    machine.memory_bytes = static_cast<double>(bench::total_memory());
    return machine;
}

}  // namespace compare
