#pragma once

#include <array>
#include <cstddef>

#include "simd.hpp"

namespace moe::inline MOE_ABI {

/// The one product everything is made of: a few rows of activations times a panel of weight columns.
///
/// A *panel* is `Panel<T>::width` output columns of a weight matrix, stored so that a vector lane is one output:
/// element (k, column) at `panel[k * width + column]`. A *tile* is up to `Panel<T>::tile_rows` rows of activations.
///
/// Order of summation, the same in every kernel whatever the number of rows, so that a token's bits do not depend on
/// its batch: within a block of `Panel<T>::depth` values of k one fused multiply-add after the other, from zero; the
/// sums of the blocks are added in order of k. Block sums also keep the float32 error of long rows down: one chain over
/// 14,336 terms alone would have a normalised mean squared error near 1e-11.
template <class T>
struct Panel {
    /// 6 rows by 4 vectors: 24 accumulators, 4 weights and 1 activation fill 29 of 32 registers. With 16 registers, 6
    /// by 2 fills 15. Six row pointers fit in general registers, so rows need not be copied together.
    static constexpr std::size_t tile_rows = 6;
    static constexpr std::size_t vectors = vector_registers >= 32 ? 4 : 2;
    static constexpr std::size_t width = vectors * lanes<T>;

    /// 128 * 64 floats are 32 KB: a panel block stays in a 48 KB first-level cache beside the rows that stream past it.
    static constexpr std::size_t depth = 128;
};

/// c (Rows, width) = or += a (Rows, depth) * panel (depth, width), with `a` one pointer a row; depth <=
/// Panel<T>::depth. float: each output carries at most depth roundings of 2^-24 relative to the running sum.
template <std::size_t Rows, class T>
inline void multiply_tile(const T* const* a, const T* MOE_RESTRICT panel, std::size_t depth, T* MOE_RESTRICT c,
                          bool add) noexcept {
    constexpr std::size_t n = Panel<T>::vectors;
    constexpr std::size_t width = Panel<T>::width;
    std::array<const T*, Rows> row;
    std::array<std::array<Vector<T>, n>, Rows> sum;
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        row[r] = a[r];
        MOE_UNROLL
        for (std::size_t v = 0; v < n; ++v) {
            sum[r][v] = Vector<T>(T(0));
        }
    }
    for (std::size_t k = 0; k < depth; ++k) {
        std::array<Vector<T>, n> weight;
        MOE_UNROLL
        for (std::size_t v = 0; v < n; ++v) {
            weight[v] = load(panel + k * width + v * lanes<T>);
        }
        MOE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
            const Vector<T> x(row[r][k]);
            MOE_UNROLL
            for (std::size_t v = 0; v < n; ++v) {
                sum[r][v] = multiply_add<T>(x, weight[v], sum[r][v]);
            }
        }
    }
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        MOE_UNROLL
        for (std::size_t v = 0; v < n; ++v) {
            T* const target = c + r * width + v * lanes<T>;
            store(target, add ? Vector<T>(load(target) + sum[r][v]) : sum[r][v]);
        }
    }
}

/// multiply_tile for a number of rows known at run time, 1 to tile_rows.
template <class T>
inline void multiply_tile(std::size_t rows, const T* const* a, const T* panel, std::size_t depth, T* c,
                          bool add) noexcept {
    static_assert(Panel<T>::tile_rows == 6);
    switch (rows) {
        case 1: return multiply_tile<1>(a, panel, depth, c, add);
        case 2: return multiply_tile<2>(a, panel, depth, c, add);
        case 3: return multiply_tile<3>(a, panel, depth, c, add);
        case 4: return multiply_tile<4>(a, panel, depth, c, add);
        case 5: return multiply_tile<5>(a, panel, depth, c, add);
        default: return multiply_tile<6>(a, panel, depth, c, add);
    }
}

}  // namespace moe::inline MOE_ABI
