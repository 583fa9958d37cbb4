#pragma once

#include <array>
#include <atomic>
#include <cstddef>

#include "convert.hpp"
#include "simd.hpp"

namespace moe::inline MOE_ABI {

/// The one product everything is made of: a few rows of activations times a panel of weight columns.
///
/// A *panel* is `Panel<T>::width` output columns of a weight matrix, stored so that a vector lane is one output:
/// element (k, column) at `panel[k * width + column]`, the same on every processor. A *tile* is up to
/// `Panel<T>::tile_rows` rows of activations.
///
/// Order of summation, the same in every kernel whatever the number of rows, so that a token's bits do not depend on
/// its batch: within a block of `Panel<T>::depth` values of k one fused multiply-add after the other, from zero; the
/// sums of the blocks are added in order of k. Block sums also keep the float32 error of long rows down: one chain over
/// 14,336 terms alone would have a normalised mean squared error near 1e-11.
template <class T>
struct Panel {
    /// 256 bytes: 64 floats, four cache lines a value of k.
    static constexpr std::size_t width = 256 / sizeof(T);
    static constexpr std::size_t vectors = width / lanes<T>;

    /// With 32 registers of 512 bits 6 rows by 4 vectors: 24 accumulators, 4 weights and 1 activation fill 29. With 16
    /// registers 6 by 2 fill 15, and a panel is several such strips. Six row pointers fit in general registers, so rows
    /// need not be copied together.
    static constexpr std::size_t tile_rows = 6;

    /// 128 * 64 floats are 32 KB: a block of a panel stays in the 48 KB first-level cache of processors with AVX-512
    /// beside the rows that stream past it; half of that in the 32 KB of older ones.
    static constexpr std::size_t depth = vector_registers >= 32 ? 128 : 64;
};

/// Vectors of a row that a tile of `rows` rows sums at once: as many as the registers hold, with their weights and one
/// activation. A single row uses each weight once, out of memory, so that one register is enough for them: with 16
/// registers its panel is read in one piece, 5 % faster than in two.
template <class T>
[[nodiscard]] constexpr std::size_t tile_vectors(std::size_t rows) {
    std::size_t vectors = Panel<T>::vectors;
    const auto registers = [rows](std::size_t n) { return rows == 1 ? n + 2 : (rows + 1) * n + 1; };
    while (vectors > 1 && registers(vectors) > vector_registers) {
        vectors /= 2;
    }
    return vectors;
}

/// Memory a kernel asks for while it computes: `lines` cache lines in every step, in turn from each row of a block. Of
/// packed panels a row is a page of 4 KB: the hardware continues a stream on its own, but only to the end of its page,
/// and continues several at once.
struct Prefetch {
    static constexpr std::size_t line = 64;
    static constexpr std::size_t page = 4096;
    static constexpr std::size_t interval = 4;  ///< values of k in a step of a float tile

    const std::byte* next = nullptr;
    std::size_t lines = 0;
    std::size_t rows = 1;
    std::size_t in_row = 0;  ///< which of them `next` is in
    std::size_t stride = page;

    MOE_ALWAYS_INLINE void step() noexcept {
        for (std::size_t i = 0; i < lines; ++i) {
            prefetch_line(next);
            next += stride;
            if (++in_row == rows) {
                in_row = 0;
                next += line - rows * stride;
            }
        }
    }

    static MOE_ALWAYS_INLINE void prefetch_line([[maybe_unused]] const std::byte* address) noexcept {
#if defined(__GNUC__)
        __builtin_prefetch(address, 0, 2);  // to the second level: the first is full of the block at work
#endif
    }
};

namespace detail {

/// Asks for part `part` of `Parts` of a row of `Bytes` bytes: a line each, or a line in every second call.
template <std::size_t Bytes, std::size_t Parts>
MOE_ALWAYS_INLINE void prefetch_part([[maybe_unused]] const std::byte* row,
                                     [[maybe_unused]] std::size_t part) noexcept {
#if defined(__GNUC__)
    constexpr std::size_t step = Bytes / Parts;
    if (part * step % Prefetch::line == 0) {
        MOE_UNROLL
        for (std::size_t i = 0; i < step; i += Prefetch::line) {
            __builtin_prefetch(row + part * step + i, 0, 3);
        }
    }
    // or the compiler gathers the requests of all streams behind their loads, which costs a tenth
    std::atomic_signal_fence(std::memory_order_acq_rel);
#endif
}

/// Vectors [first, first + Vectors) of a tile.
template <std::size_t Rows, std::size_t Vectors, class W>
MOE_ALWAYS_INLINE void multiply_strip(const std::array<const ComputeType<W>*, Rows>& row, const W* MOE_RESTRICT panel,
                                      std::size_t depth, ComputeType<W>* MOE_RESTRICT c, bool add,
                                      Prefetch ahead) noexcept {
    using T = ComputeType<W>;
    std::array<std::array<Vector<T>, Vectors>, Rows> sum;
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        MOE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            sum[r][v] = Vector<T>(T(0));
        }
    }
    for (std::size_t k = 0; k < depth; ++k) {
        if (k % Prefetch::interval == 0) {
            ahead.step();
        }
        std::array<Vector<T>, Vectors> weight;
        MOE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            weight[v] = load_converted(panel + k * Panel<T>::width + v * lanes<T>);
        }
        MOE_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
            const Vector<T> x(row[r][k]);
            MOE_UNROLL
            for (std::size_t v = 0; v < Vectors; ++v) {
                sum[r][v] = multiply_add<T>(x, weight[v], sum[r][v]);
            }
        }
    }
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        MOE_UNROLL
        for (std::size_t v = 0; v < Vectors; ++v) {
            T* const target = c + r * Panel<T>::width + v * lanes<T>;
            store(target, add ? Vector<T>(load(target) + sum[r][v]) : sum[r][v]);
        }
    }
}

}  // namespace detail

/// c (Rows, width) = or += a (Rows, depth) * panel (depth, width), with `a` one pointer a row; depth <=
/// Panel<T>::depth. Panels of 16-bit weights are converted as they are loaded, which is exact. float: each output
/// carries at most depth roundings of 2^-24 relative to the running sum.
template <std::size_t Rows, class W>
MOE_NOINLINE void multiply_tile(const ComputeType<W>* const* a, const W* panel, std::size_t depth, ComputeType<W>* c,
                                bool add, Prefetch ahead) noexcept {
    using T = ComputeType<W>;
    constexpr std::size_t vectors = tile_vectors<T>(Rows);
    std::array<const T*, Rows> row;
    MOE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
        row[r] = a[r];
    }
    for (std::size_t v = 0; v < Panel<T>::vectors; v += vectors) {
        detail::multiply_strip<Rows, vectors>(row, panel + v * lanes<T>, depth, c + v * lanes<T>, add, ahead);
        ahead.lines = 0;  // the first strip has asked for all
    }
}

/// Panels that `rows` rows multiply side by side: 4, 2 or 1, as many as leave registers for their sums.
template <class T>
[[nodiscard]] constexpr std::size_t side_panels(std::size_t rows) {
    constexpr std::size_t most = 4;
    std::size_t panels = most;
    const std::size_t vectors = tile_vectors<T>(rows);
    while (panels > 1 && (rows * panels + 1) * vectors + 1 > vector_registers) {
        panels /= 2;
    }
    return panels;
}

/// multiply_tile for `Panels` panels at once, whose sums stand `stride` values apart. For few rows, which wait for
/// memory: a core reads several streams faster than one, if each is asked for just before it is needed, and not by the
/// loads that wait for it. One row on 4 cores, as a share of what reading alone reaches: one stream 0.88, two or four
/// 1.05. Requests of floats 1 KB ahead cost 3 %, 2 KB 5 %, 4 KB 8 %; of 16-bit weights 512 bytes 5 %, 1 KB 2 %, 4 KB 5
/// %.
template <std::size_t Rows, std::size_t Panels, class W>
MOE_NOINLINE void multiply_tiles(const ComputeType<W>* const* a, const W* const* panels, std::size_t depth,
                                 ComputeType<W>* c, std::size_t stride, bool add) noexcept {
    using T = ComputeType<W>;
    constexpr std::size_t vectors = tile_vectors<T>(Rows);
    constexpr std::size_t row_bytes = Panel<T>::width * sizeof(W);
    constexpr std::size_t ahead = sizeof(W) >= sizeof(float) ? 512 : 2048;
    for (std::size_t first = 0; first < Panel<T>::width; first += vectors * lanes<T>) {
        std::array<std::array<std::array<Vector<T>, vectors>, Rows>, Panels> sum;
        MOE_UNROLL
        for (std::size_t i = 0; i < Panels * Rows * vectors; ++i) {
            sum[i / (Rows * vectors)][i / vectors % Rows][i % vectors] = Vector<T>(T(0));
        }
        for (std::size_t k = 0; k < depth; ++k) {
            MOE_UNROLL
            for (std::size_t p = 0; p < Panels; ++p) {
                const W* const row = panels[p] + k * Panel<T>::width;
                const W* const other = panels[(p + Panels / 2) % Panels] + k * Panel<T>::width;
                std::array<Vector<T>, vectors> weight;
                MOE_UNROLL
                for (std::size_t v = 0; v < vectors; ++v) {
                    if (first == 0) {
                        detail::prefetch_part<row_bytes, vectors>(reinterpret_cast<const std::byte*>(other) + ahead, v);
                    }
                    weight[v] = load_converted(row + first + v * lanes<T>);
                }
                MOE_UNROLL
                for (std::size_t r = 0; r < Rows; ++r) {
                    const Vector<T> x(a[r][k]);
                    MOE_UNROLL
                    for (std::size_t v = 0; v < vectors; ++v) {
                        sum[p][r][v] = multiply_add<T>(x, weight[v], sum[p][r][v]);
                    }
                }
            }
        }
        MOE_UNROLL
        for (std::size_t p = 0; p < Panels; ++p) {
            MOE_UNROLL
            for (std::size_t r = 0; r < Rows; ++r) {
                MOE_UNROLL
                for (std::size_t v = 0; v < vectors; ++v) {
                    T* const target = c + p * stride + r * Panel<T>::width + first + v * lanes<T>;
                    store(target, add ? Vector<T>(load(target) + sum[p][r][v]) : sum[p][r][v]);
                }
            }
        }
    }
}

/// sums (width) = or += x (n) * weights (n, width), one fused multiply-add after the other, with requests for what
/// stands 512 bytes behind `other`: a few steps of one row, for processors whose registers hold the sums of one panel
/// only.
template <class W>
MOE_NOINLINE void multiply_row_step(const ComputeType<W>* x, const W* weights, const W* other, std::size_t n,
                                    ComputeType<W>* sums, bool add) noexcept {
    using T = ComputeType<W>;
    constexpr std::size_t vectors = Panel<T>::vectors;
    constexpr std::size_t row_bytes = Panel<T>::width * sizeof(W);
    constexpr std::size_t ahead = 512;
    std::array<Vector<T>, vectors> sum;
    MOE_UNROLL
    for (std::size_t v = 0; v < vectors; ++v) {
        sum[v] = add ? load(sums + v * lanes<T>) : Vector<T>(T(0));
    }
    for (std::size_t k = 0; k < n; ++k) {
        const auto* const next = reinterpret_cast<const std::byte*>(other + k * Panel<T>::width) + ahead;
        const Vector<T> value(x[k]);
        MOE_UNROLL
        for (std::size_t v = 0; v < vectors; ++v) {
            detail::prefetch_part<row_bytes, vectors>(next, v);
            const Vector<T> weight = load_converted(weights + k * Panel<T>::width + v * lanes<T>);
            sum[v] = multiply_add<T>(value, weight, sum[v]);
        }
    }
    MOE_UNROLL
    for (std::size_t v = 0; v < vectors; ++v) {
        store(sums + v * lanes<T>, sum[v]);
    }
}

/// Calls tile.operator()<Rows>() for a number of rows known at run time, 1 to tile_rows.
template <class Tile>
inline void with_rows(std::size_t rows, Tile&& tile) {
    static_assert(Panel<float>::tile_rows == 6);
    switch (rows) {
        case 1: return tile.template operator()<1>();
        case 2: return tile.template operator()<2>();
        case 3: return tile.template operator()<3>();
        case 4: return tile.template operator()<4>();
        case 5: return tile.template operator()<5>();
        default: return tile.template operator()<6>();
    }
}

/// multiply_tile for a number of rows known at run time.
template <class W>
inline void multiply_tile(std::size_t rows, const ComputeType<W>* const* a, const W* panel, std::size_t depth,
                          ComputeType<W>* c, bool add, Prefetch ahead = {}) noexcept {
    with_rows(rows, [&]<std::size_t Rows>() { multiply_tile<Rows>(a, panel, depth, c, add, ahead); });
}

}  // namespace moe::inline MOE_ABI
