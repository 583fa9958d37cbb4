#include "read.hpp"

#include <algorithm>
#include <array>

#include <moe/kernels/simd.hpp>

#include "clock.hpp"

namespace bench {

namespace {

using V = moe::Vector<float>;

constexpr std::size_t line = 16;                          // floats in a cache line
constexpr std::size_t n_parts = 8;                        // parts of the buffer, one a sample
constexpr std::size_t task_size = std::size_t{1} << 21U;  // floats, 8 MB

/// Adds up `count` floats as `Streams` streams side by side, prefetching `ahead` floats before they are needed.
template <std::size_t Streams>
void read_streams(const float* data, std::size_t count, std::size_t ahead) {
    constexpr std::size_t vectors = line / moe::lanes<float>;
    const std::size_t length = count / Streams / line * line;
    std::array<V, Streams * vectors> sum;
    sum.fill(V(0.0F));
    for (std::size_t i = 0; i < length; i += line) {
        MOE_UNROLL
        for (std::size_t s = 0; s < Streams; ++s) {
            const float* const at = data + s * length + i;
            __builtin_prefetch(at + ahead, 0, 3);
            MOE_UNROLL
            for (std::size_t v = 0; v < vectors; ++v) {
                V& mine = sum[s * vectors + v];
                mine = mine + moe::load(at + v * moe::lanes<float>);
            }
        }
    }
    V total = sum[0];
    for (std::size_t i = 1; i < sum.size(); ++i) {
        total = total + sum[i];
    }
    std::array<float, moe::lanes<float>> result;
    moe::store(result.data(), total);
    keep(result);
}

}  // namespace

ReadProbe::ReadProbe(const Threads& threads, std::size_t bytes) : threads_(threads), buffer_(bytes) {
    const std::span<float> values = buffer_.as<float>();
    threads_.split(values.size(), task_size, [&](std::size_t begin, std::size_t end) {
        std::fill(values.begin() + static_cast<std::ptrdiff_t>(begin),
                  values.begin() + static_cast<std::ptrdiff_t>(end), 1.0F);
    });
    double best = 0;
    for (const Loop loop : {Loop(read_streams<1>), Loop(read_streams<4>), Loop(read_streams<8>)}) {
        for (const std::size_t ahead : {8 * line, 16 * line, 64 * line, 256 * line}) {
            std::array<double, 3> found;
            for (double& value : found) {
                value = run(loop, ahead);
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

double ReadProbe::operator()() { return run(loop_, ahead_); }

double ReadProbe::run(Loop loop, std::size_t ahead) {
    const std::span<const float> values = buffer_.as<const float>();
    const std::size_t size = values.size() / n_parts;
    const std::span<const float> part = values.subspan(next_ * size, size);
    next_ = (next_ + 1) % n_parts;
    const std::size_t tasks = (part.size() + task_size - 1) / task_size;
    const double seconds = seconds_of([&] {
        threads_.take_turns(tasks, [&](std::size_t i) {
            const std::size_t first = i * task_size;
            loop(part.data() + first, std::min(task_size, part.size() - first), ahead);
        });
    });
    return static_cast<double>(part.size_bytes()) / seconds;
}

}  // namespace bench
