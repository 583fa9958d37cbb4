#include "limits.hpp"

#include <algorithm>
#include <fstream>
#include <string>

#include "../memory.hpp"
#include "../probes/fma.hpp"
#include "../probes/int8.hpp"
#include "../probes/read.hpp"

namespace inspect {

namespace {

/// The number that a file holds, or `otherwise`.
double number_in(const char* path, double otherwise) {
    std::ifstream file(path);
    double value = 0;
    return file >> value ? value : otherwise;  // "max" is no number
}

}  // namespace

Limits measure_limits(std::size_t n_threads) {
    const bench::Threads threads(n_threads);
    bench::ReadProbe read(threads, bench::read_probe_bytes(usable_memory().free));
    Limits limits;
    limits.threads = threads.concurrency();
    for (int turn = 0; turn < 30; ++turn) {
        limits.bytes_per_second = std::max(limits.bytes_per_second, read({}));
        limits.float_flops = std::max(limits.float_flops, bench::fma_peak(threads));
        limits.integer_flops = std::max(limits.integer_flops, bench::int8_peak(threads));
    }
    limits.integer_flops = std::max(limits.integer_flops, limits.float_flops);
    return limits;
}

Memory usable_memory() {
    Memory memory{static_cast<double>(bench::total_memory()), static_cast<double>(bench::available_memory())};
    const double limit = number_in("/sys/fs/cgroup/memory.max", memory.total);
    if (limit < memory.total) {
        memory.total = limit;
        memory.free = std::min(memory.free, limit - number_in("/sys/fs/cgroup/memory.current", 0));
        memory.free = std::max(memory.free, 0.0);
    }
    return memory;
}

}  // namespace inspect
