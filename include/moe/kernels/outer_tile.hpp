#pragma once

#include <array>
#include <cstddef>

#include "simd.hpp"
#include "tile.hpp"

namespace moe::inline MOE_ABI {

/// The tile of the gradients of weights: C (m, n) += sum over tokens of a[t] (m) times b[t] (n), for a few rows and
/// columns of C.
///
/// Order of summation: an element of C is one chain of fused multiply-adds, which begins at the value that is stored
/// and takes the tokens one by one in ascending order. Nothing is summed apart and added afterwards, so that bits
/// depend neither on how C is cut into tiles and tasks nor on how tokens are cut into blocks, calls or micro-batches.
/// The price in float32 is a normalised mean squared error that grows with the tokens of a chain, 3.3e-16 for each:
/// below 1e-12 up to 3,000 tokens of one expert.
template <class T>
struct OuterTile {
    /// As in the forward tile, 6 by 4 vectors with 32 registers and 6 by 2 with 16: a token costs a row fewer loads
    /// than it has sums, 2 + 6 for 12 with 16 registers.
    static constexpr std::size_t rows = Panel<T>::tile_rows;
    static constexpr std::size_t vectors = tile_vectors<T>(rows);
    static constexpr std::size_t columns = vectors * lanes<T>;

    /// Tokens up to which a tile is over so soon that the hardware's own prefetching keeps up with what it adds to:
    /// requests cost up to 3 % there, and gain 1 to 4 % with 128 tokens and more.
    static constexpr std::size_t few_tokens = 32;
};

/// c (Rows, OuterTile<T>::columns), with rows `stride` elements apart, += sum over `count` tokens of
/// a[t * Rows + row] * b[t * OuterTile<T>::columns + column]; `c` is aligned as a T is. Asks for the tile at `next`, of
/// the same stride, for the one that follows.
template <std::size_t Rows, class T>
MOE_NOINLINE void add_outer_tile(const T* MOE_RESTRICT a, const T* MOE_RESTRICT b, std::size_t count, T* c,
                                 std::size_t stride, [[maybe_unused]] const T* next) noexcept {
    constexpr std::size_t vectors = OuterTile<T>::vectors;
    std::array<std::array<Vector<T>, vectors>, Rows> sum;
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; ++v) {
            sum[r][v] = load(c + r * stride + v * lanes<T>);
        }
    }
#if defined(__GNUC__)
    if (count > OuterTile<T>::few_tokens) {
        MOE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
            MOE_UNROLL
            for (std::size_t i = 0; i < OuterTile<T>::columns; i += Prefetch::line / sizeof(T)) {
                __builtin_prefetch(next + r * stride + i, 1, 3);
            }
        }
    }
#endif
    // Four tokens a turn: 4 to 7 % faster than one, whose loop is fast only where it happens to begin at a cache line.
    // Two are 2 % slower.
    _Pragma("GCC unroll 4") for (std::size_t t = 0; t < count; ++t) {
        std::array<Vector<T>, vectors> column;
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; ++v) {
            column[v] = load(b + t * OuterTile<T>::columns + v * lanes<T>);
        }
        MOE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
            const Vector<T> row(a[t * Rows + r]);
            MOE_UNROLL
            for (std::size_t v = 0; v < vectors; ++v) {
                sum[r][v] = multiply_add<T>(row, column[v], sum[r][v]);
            }
        }
    }
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; ++v) {
            store(c + r * stride + v * lanes<T>, sum[r][v]);
        }
    }
}

}  // namespace moe::inline MOE_ABI
