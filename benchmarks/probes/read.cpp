#include "read.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

#include <moe/kernels/simd.hpp>

#include "clock.hpp"

namespace bench {

namespace {

using V = moe::Vector<std::int32_t>;  // of any bits: sums of floats are slow where they are denormal

constexpr std::size_t line = 16;                          // numbers in a cache line
constexpr std::size_t n_parts = 8;                        // parts of the buffer, one a sample
constexpr std::size_t task_size = std::size_t{1} << 21U;  // numbers, 8 MB

/// Adds up `count` numbers as `Streams` streams side by side, prefetching `ahead` numbers before they are needed.
template <std::size_t Streams>
void read_streams(const std::int32_t* data, std::size_t count, std::size_t ahead) {
    constexpr std::size_t vectors = line / V::size;
    const std::size_t length = count / Streams / line * line;
    std::array<V, Streams * vectors> sum;
    sum.fill(V(0));
    for (std::size_t i = 0; i < length; i += line) {
        MOE_UNROLL
        for (std::size_t s = 0; s < Streams; ++s) {
            const std::int32_t* const at = data + s * length + i;
            __builtin_prefetch(at + ahead, 0, 3);
            MOE_UNROLL
            for (std::size_t v = 0; v < vectors; ++v) {
                V& mine = sum[s * vectors + v];
                mine = mine + V::load_unaligned(at + v * V::size);
            }
        }
    }
    V total = sum[0];
    for (std::size_t i = 1; i < sum.size(); ++i) {
        total = total + sum[i];
    }
    std::array<std::int32_t, V::size> result;
    total.store_unaligned(result.data());
    keep(result);
}

}  // namespace

ReadProbe::ReadProbe(const Threads& threads, std::size_t bytes) : threads_(threads), buffer_(bytes) {
    const std::span<std::int32_t> values = buffer_.as<std::int32_t>();
    threads_.split(values.size(), task_size, [&](std::size_t begin, std::size_t end) {
        std::fill(values.begin() + static_cast<std::ptrdiff_t>(begin),
                  values.begin() + static_cast<std::ptrdiff_t>(end), 1);
    });
    double best = 0;
    for (const Loop loop : {Loop(read_streams<1>), Loop(read_streams<4>), Loop(read_streams<8>)}) {
        for (const std::size_t ahead : {8 * line, 16 * line, 64 * line, 256 * line}) {
            std::array<double, 3> found;
            for (double& value : found) {
                value = run(values, loop, ahead);
            }
            std::ranges::sort(found);
            if (found[1] > best) {
                best = found[1];
                loop_ = loop;
                ahead_ = ahead;
            }
        }
    }
}

double ReadProbe::operator()(std::span<const std::byte> memory) {
    if (memory.size() < buffer_.bytes() / n_parts) {
        memory = buffer_.as<const std::byte>();
    }
    return run({reinterpret_cast<const std::int32_t*>(memory.data()), memory.size() / sizeof(std::int32_t)}, loop_,
               ahead_);
}

double ReadProbe::run(std::span<const std::int32_t> memory, Loop loop, std::size_t ahead) {
    const std::size_t size = buffer_.bytes() / n_parts / sizeof(std::int32_t);
    const std::size_t parts = memory.size() / size;
    const std::span<const std::int32_t> part = memory.subspan(next_++ % parts * size, size);
    const std::size_t tasks = (part.size() + task_size - 1) / task_size;
    const double seconds = seconds_of([&] {
        threads_.take_turns(tasks, [&](std::size_t i) {
            const std::size_t first = i * task_size;
            loop(part.data() + first, std::min(task_size, part.size() - first), ahead);
        });
    });
    return static_cast<double>(part.size_bytes()) / seconds;
}

std::size_t read_probe_bytes(double budget) {
    const std::size_t wanted = std::max<std::size_t>(3 * last_level_cache(), std::size_t{256} << 20U);
    return std::min(wanted, std::max(static_cast<std::size_t>(budget / 4), std::size_t{64} << 20U));
}

}  // namespace bench
