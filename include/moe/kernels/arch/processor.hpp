#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>
#include <string_view>

#include "../../config.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace moe::inline MOE_ABI {

/// What a function of moe/dispatched.hpp can be compiled for, from the least to the most. `cmake/moe_dispatched.cmake`
/// has the compiler flags of each; a level has all that those below it have.
enum class Level : unsigned char {
    generic,  ///< whatever the flags of the program say: the only level where there are no others
    sse2,     ///< x86-64 as it began
    avx2,     ///< x86-64-v3: AVX2, FMA, F16C, BMI
    avx512,   ///< x86-64-v4 and VNNI
    amx,      ///< and bfloat16, in vectors and on the matrix unit
};

inline constexpr std::size_t n_levels = 5;

/// "generic", "sse2", ..., as moe_add_dispatched takes it.
[[nodiscard]] constexpr std::string_view level_name(Level level) noexcept {
    constexpr std::array<std::string_view, n_levels> names{"generic", "sse2", "avx2", "avx512", "amx"};
    return names[static_cast<std::size_t>(level)];
}

namespace arch {

#if defined(__x86_64__) && defined(__GNUC__)
/// The highest level that the processor has and the operating system saves the registers of. Asks it for the matrix
/// unit, which Linux keeps for processes that ask (see MatrixUnit::request); nothing else changes.
[[nodiscard]] inline Level ask_processor() noexcept {
    struct Registers {
        unsigned a = 0;
        unsigned b = 0;
        unsigned c = 0;
        unsigned d = 0;
    };
    const auto ask = [](unsigned leaf, unsigned part = 0) {
        Registers r;  // remains 0 where there is no such leaf
        __get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d);
        return r;
    };
    const auto has = [](unsigned bits, std::initializer_list<unsigned> wanted) {
        for (const unsigned bit : wanted) {
            if ((bits >> bit & 1U) == 0) {
                return false;
            }
        }
        return true;
    };
    const Registers basic = ask(1);
    const Registers extended = ask(7);
    // SSE3, SSSE3, FMA, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LAHF, LZCNT
    if (!has(basic.c, {0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29}) || !has(extended.b, {3, 5, 8}) ||
        !has(ask(0x80000001U).c, {0, 5})) {
        return Level::sse2;
    }
    unsigned saved = 0;  // which registers the system saves
    unsigned upper = 0;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(upper) : "c"(0));
    if (!has(saved, {1, 2})) {
        return Level::sse2;
    }
    // AVX512F, DQ, CD, BW, VL; VNNI; masks, upper halves and upper registers are saved
    if (!has(extended.b, {16, 17, 28, 30, 31}) || !has(extended.c, {11}) || !has(saved, {5, 6, 7})) {
        return Level::avx2;
    }
#if defined(__linux__)
    // AMX-BF16, AMX-TILE; AVX512-BF16; tiles and their configuration are saved
    if (has(extended.d, {22, 24}) && has(ask(7, 1).a, {5}) && has(saved, {17, 18})) {
        constexpr long request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
        constexpr long tile_data = 18;               // XFEATURE_XTILE_DATA
        if (::syscall(SYS_arch_prctl, request_permission, tile_data) == 0) {
            return Level::amx;
        }
    }
#endif
    return Level::avx512;
}
#else
[[nodiscard]] inline Level ask_processor() noexcept { return Level::generic; }
#endif

}  // namespace arch

/// The highest level this machine can run. The processor is asked once (in a virtual machine that takes microseconds).
[[nodiscard]] inline Level machine_level() noexcept {
    static const Level level = arch::ask_processor();
    return level;
}

/// Whether this machine can run what was compiled for `level`.
[[nodiscard]] inline bool runs_here(Level level) noexcept { return level <= machine_level(); }

}  // namespace moe::inline MOE_ABI
