#pragma once

/// The instructions of the matrix unit (AMX) in plain code, as Intel's manual defines them, for processors that have
/// none: included before all else (-include) by a program compiled with -mamx-tile -mamx-bf16, it takes the place of
/// the intrinsics, so that the kernels of the unit are tested wherever AVX-512 is.

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>

namespace emulated_unit {

struct Tile {
    std::size_t rows = 0;
    std::size_t row_bytes = 0;
    unsigned char data[16][64] = {};
};

struct State {
    Tile tiles[8];
    bool configured = false;
};

inline State& state() {
    thread_local State of_thread;
    return of_thread;
}

/// Undefined on a processor: here it ends the program.
inline Tile& tile(int i) {
    if (!state().configured) {
        __builtin_trap();
    }
    return state().tiles[i];
}

inline void load_configuration(const void* from) {
    const auto* const bytes = static_cast<const unsigned char*>(from);
    if (bytes[0] != 1 || bytes[1] != 0) {
        __builtin_trap();
    }
    for (std::size_t i = 0; i < 8; ++i) {
        Tile& t = state().tiles[i];
        std::uint16_t row_bytes = 0;
        std::memcpy(&row_bytes, bytes + 16 + 2 * i, sizeof row_bytes);
        t = Tile{};
        t.rows = bytes[48 + i];
        t.row_bytes = row_bytes;
        if (t.rows > 16 || t.row_bytes > 64) {
            __builtin_trap();
        }
    }
    state().configured = true;
}

inline void release() { state() = State{}; }

inline void zero(int i) { std::memset(tile(i).data, 0, sizeof tile(i).data); }

inline void load(int i, const void* from, std::size_t stride) {
    zero(i);
    for (std::size_t r = 0; r < tile(i).rows; ++r) {
        std::memcpy(tile(i).data[r], static_cast<const unsigned char*>(from) + r * stride, tile(i).row_bytes);
    }
}

inline void store(int i, void* to, std::size_t stride) {
    for (std::size_t r = 0; r < tile(i).rows; ++r) {
        std::memcpy(static_cast<unsigned char*>(to) + r * stride, tile(i).data[r], tile(i).row_bytes);
    }
}

inline float flushed(float value) {
    return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0F, value) : value;
}

inline float element(const unsigned char* row, std::size_t i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, row + 2 * i, sizeof bits);
    return flushed(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U));
}

/// TDPBF16PS: of each output two chains of fused multiply-adds, over the even and the odd values of k, and their sum.
inline void multiply(int to, int a, int b) {
    for (std::size_t m = 0; m < tile(a).rows; ++m) {
        for (std::size_t n = 0; n < tile(b).row_bytes / 4; ++n) {
            float even = 0;
            float odd = 0;
            for (std::size_t k = 0; k < tile(a).row_bytes / 4; ++k) {
                const unsigned char* const x = tile(a).data[m];
                const unsigned char* const w = tile(b).data[k];
                even = flushed(std::fma(element(x, 2 * k), element(w, 2 * n), even));
                odd = flushed(std::fma(element(x, 2 * k + 1), element(w, 2 * n + 1), odd));
            }
            float sum = 0;
            std::memcpy(&sum, tile(to).data[m] + 4 * n, sizeof sum);
            sum = flushed(flushed(sum) + flushed(even + odd));
            std::memcpy(tile(to).data[m] + 4 * n, &sum, sizeof sum);
        }
    }
}

}  // namespace emulated_unit

/// In place of arch_prctl, which grants the unit.
inline long emulated_unit_grant(long /*number*/, long /*request*/, long /*feature*/) { return 0; }

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(from) emulated_unit::load_configuration(from)
#define _tile_release() emulated_unit::release()
#define _tile_zero(i) emulated_unit::zero(i)
#define _tile_loadd(i, from, stride) emulated_unit::load(i, from, stride)
#define _tile_stored(i, to, stride) emulated_unit::store(i, to, stride)
#define _tile_dpbf16ps(to, a, b) emulated_unit::multiply(to, a, b)
#define syscall(number, request, feature) emulated_unit_grant(number, request, feature)
