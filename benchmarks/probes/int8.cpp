#include "int8.hpp"

#include <array>

#include <moe/kernels/arch/intrinsics.hpp>
#include <moe/kernels/simd.hpp>

#include "clock.hpp"

namespace bench {

#if defined(__AVX512VNNI__)

namespace {

constexpr std::size_t n_sums = 16;

void dot_products(std::size_t turns) {
    int start = 0x01020304;
    keep(start);
    const __m512i a = _mm512_set1_epi32(start);
    const __m512i b = _mm512_set1_epi32(start ^ 0x01010101);
    __m512i sum[n_sums];  // not std::array: g++ warns of the attributes of a vector type as its argument
#pragma GCC unroll 16
    for (std::size_t i = 0; i < n_sums; ++i) {
        sum[i] = _mm512_set1_epi32(start + static_cast<int>(i));
    }
    for (std::size_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 16
        for (std::size_t i = 0; i < n_sums; ++i) {
            // not the intrinsic: g++ 12 spills sums of it that would fit, and the probe becomes one of the stack
            asm("vpdpbusd %2, %1, %0" : "+v"(sum[i]) : "v"(a), "v"(b));
        }
    }
    __m512i total = sum[0];
#pragma GCC unroll 16
    for (std::size_t i = 1; i < n_sums; ++i) {
        total = _mm512_xor_si512(total, sum[i]);
    }
    std::array<int, 16> result;
    _mm512_storeu_si512(result.data(), total);
    keep(result);
}

}  // namespace

double int8_peak(const Threads& threads) {
    constexpr std::size_t turns = 15'000;
    const std::size_t tasks = 60 * threads.concurrency();
    const double seconds = seconds_of([&] { threads.take_turns(tasks, [](std::size_t) { dot_products(turns); }); });
    return 2.0 * 64 * static_cast<double>(n_sums * turns * tasks) / seconds;
}

#else

double int8_peak(const Threads&) { return 0; }

#endif

}  // namespace bench
