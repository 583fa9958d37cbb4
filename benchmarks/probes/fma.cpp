#include "fma.hpp"

#include <array>

#include <moe/kernels/simd.hpp>

#include "clock.hpp"

namespace bench {

namespace {

using V = moe::Vector<float>;

/// Two units of four cycles latency each need 8 sums; more hide whatever else the core does. They and the two factors
/// must fit into the registers.
constexpr std::size_t n_sums = moe::vector_registers >= 32 ? 24 : 12;

void multiply_and_add(std::size_t turns) {
    float start = 0.5F;
    keep(start);
    const V a(0.999F * start * 2.0F);
    const V b(0.001F * start * 2.0F);
    std::array<V, n_sums> sum;
#pragma GCC unroll 24
    for (std::size_t i = 0; i < n_sums; ++i) {
        sum[i] = V(start * static_cast<float>(i));
    }
    for (std::size_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 24
        for (std::size_t i = 0; i < n_sums; ++i) {
            sum[i] = moe::multiply_add<float>(sum[i], a, b);
        }
    }
    V total = sum[0];
#pragma GCC unroll 24
    for (std::size_t i = 1; i < n_sums; ++i) {
        total = moe::multiply_add<float>(a, sum[i], total);
    }
    std::array<float, moe::lanes<float>> result;
    moe::store(result.data(), total);
    keep(result);
}

}  // namespace

double fma_peak(const Threads& threads) {
    constexpr std::size_t turns = 10'000;
    const std::size_t tasks = 60 * threads.concurrency();
    const double seconds = seconds_of([&] { threads.take_turns(tasks, [](std::size_t) { multiply_and_add(turns); }); });
    return static_cast<double>(2 * moe::lanes<float> * n_sums * turns * tasks) / seconds;
}

}  // namespace bench
