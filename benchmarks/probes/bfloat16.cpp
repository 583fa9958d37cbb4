#include "bfloat16.hpp"

#include <array>
#include <cstddef>

#include <moe/kernels/arch/bfloat16_lanes.hpp>

#include "clock.hpp"

namespace bench {

namespace {

/// Operations a second of turn(turns), each turn of which does `operations`.
template <class Turn>
[[maybe_unused]] double rate(const Threads& threads, double operations, Turn&& turn) {
    constexpr std::size_t turns = 15'000;
    const std::size_t tasks = 20 * threads.concurrency();
    const double seconds = seconds_of([&] { threads.take_turns(tasks, [&](std::size_t) { turn(turns); }); });
    return operations * static_cast<double>(turns * tasks) / seconds;
}

#if MOE_MATRIX_UNIT

/// Four products of tiles a turn, each with sums and an operand of its own, all in the unit.
constexpr std::size_t products = 4;

template <class Products>
void unit_products(std::size_t turns, Products&& multiply) {
    const moe::arch::MatrixUnit::Session session(moe::arch::MatrixUnit::rows);
    moe::arch::MatrixUnit::clear();
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (std::size_t turn = 0; turn < turns; ++turn) {
        multiply();
    }
    alignas(64) std::array<float, 16 * 64> result;
    moe::arch::MatrixUnit::store(result.data());
    keep(result);
}

#endif

#if MOE_BFLOAT16_PRODUCTS && !MOE_MATRIX_UNIT

constexpr std::size_t n_sums = 16;

void pair_products(std::size_t turns) {
    int start = 0x3F803F80;
    keep(start);
    const __m512i a = _mm512_set1_epi32(start);
    __m512 sum[n_sums];
#pragma GCC unroll 16
    for (std::size_t i = 0; i < n_sums; ++i) {
        sum[i] = _mm512_set1_ps(static_cast<float>(i));
    }
    for (std::size_t turn = 0; turn < turns; ++turn) {
#pragma GCC unroll 16
        for (std::size_t i = 0; i < n_sums; ++i) {
            asm("vdpbf16ps %1, %1, %0" : "+v"(sum[i]) : "v"(a));  // not the intrinsic, as in int8.cpp
        }
    }
    __m512 total = sum[0];
#pragma GCC unroll 16
    for (std::size_t i = 1; i < n_sums; ++i) {
        total = _mm512_add_ps(total, sum[i]);
    }
    std::array<float, 16> result;
    _mm512_storeu_ps(result.data(), total);
    keep(result);
}

#endif

}  // namespace

#if MOE_MATRIX_UNIT

double bfloat16_peak(const Threads& threads) {
    if (!moe::arch::MatrixUnit::request()) {
        return 0;
    }
    return rate(threads, products * 2.0 * 16 * 16 * 32, [](std::size_t turns) {
        unit_products(turns, [] {
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        });
    });
}

#elif MOE_BFLOAT16_PRODUCTS

double bfloat16_peak(const Threads& threads) { return rate(threads, n_sums * 2.0 * 32, pair_products); }

#else

double bfloat16_peak(const Threads&) { return 0; }

#endif

#if MOE_MATRIX_UNIT && defined(__AMX_INT8__)

double unit_int8_peak(const Threads& threads) {
    if (!moe::arch::MatrixUnit::request()) {
        return 0;
    }
    return rate(threads, products * 2.0 * 16 * 16 * 64, [](std::size_t turns) {
        unit_products(turns, [] {
            _tile_dpbusd(0, 4, 6);
            _tile_dpbusd(1, 4, 7);
            _tile_dpbusd(2, 5, 6);
            _tile_dpbusd(3, 5, 7);
        });
    });
}

#else

double unit_int8_peak(const Threads&) { return 0; }

#endif

}  // namespace bench
