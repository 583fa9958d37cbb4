#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>

#include "../core/index.hpp"
#include "../core/workspace.hpp"
#include "outer_tile.hpp"

namespace moe::inline MOE_ABI {

/// One operand of a sum of outer products: a row of `columns` values for each token, `first_column` values behind where
/// its pointer points. Rows may lie anywhere, aligned as a T is.
template <class T>
struct OuterRows {
    std::span<const T* const> rows;
    std::size_t first_column = 0;
    std::size_t columns = 0;
    std::span<const T> scale = {};  ///< a factor for each token, rounded into its row; empty: none
};

/// What outer products are added to: element (i, j) at data[i * row_stride + j * column_stride]. Fastest where one of
/// the strides is 1.
template <class T>
struct OuterTarget {
    T* data;
    std::size_t row_stride;
    std::size_t column_stride = 1;

    [[nodiscard]] OuterTarget at(std::size_t i, std::size_t j) const noexcept {
        return {data + i * row_stride + j * column_stride, row_stride, column_stride};
    }
};

/// How operands are copied before they meet: rows of tokens are far apart, often by a power of two, and would share a
/// few sets of the first-level cache. Measured with 768 x 2048 floats on AVX2, 32 KB of first and 512 KB of second
/// level.
template <class T>
struct OuterBlock {
    /// Tokens between a load and a store of C. 64 are 3 to 5 % slower.
    static constexpr std::size_t tokens = 128;

    /// Columns of b copied at once, 32 KB with 128 tokens, where the second level is small. A half or a quarter, which
    /// would leave room in the first level, is 10 % slower: it is read from the second without loss, but the rows of C
    /// are touched in shorter pieces. Copying 128 to 512 columns and working on 64 of them at a time was no faster.
    static constexpr std::size_t columns = Panel<T>::width;

    /// Bytes of b copied at once with few tokens, so that C is read and written along its rows: as many columns as
    /// these hold. 32 KB are 8 % slower with 8 tokens, 128 KB no faster. Processors with AVX-512 have 1 MB of second
    /// level and more, and take so much with any number of tokens: 64 columns are 15 % slower there, 64 KB 5 %, 512 KB
    /// no faster, with C in memory (768 x 2048 floats, 128 to 512 tokens).
    static constexpr bool wide = vector_registers >= 32;
    static constexpr std::size_t run_bytes = (wide ? 256 : 64) * 1024;

    /// Columns of a, the rows of C, copied at once: b is copied anew for each block of them. 192 are 2 to 4 % slower,
    /// 96, as a task of 96 rows has, 5 to 10 %; 768, all of this L2, are no faster than 384.
    static constexpr std::size_t rows = 1536 / sizeof(T);

    static_assert(columns % OuterTile<T>::columns == 0 && rows % OuterTile<T>::rows == 0);
    static_assert(tokens * columns * sizeof(T) <= run_bytes);

    /// Columns of b copied at once with `count` tokens.
    [[nodiscard]] static constexpr std::size_t columns_of(std::size_t count) noexcept {
        return wide || count <= OuterTile<T>::few_tokens ? run_bytes / sizeof(T) / count / columns * columns : columns;
    }
};

/// Scratch of one worker, 256 KB, with AVX-512 448 KB.
template <class T>
struct OuterScratch {
    std::span<T> left;   ///< strips of OuterTile<T>::rows columns of a, each (tokens, rows)
    std::span<T> right;  ///< strips of OuterTile<T>::columns columns of b, each (tokens, columns)

    [[nodiscard]] static OuterScratch take(Arena& arena) {
        return {arena.take<T>(OuterBlock<T>::tokens * OuterBlock<T>::rows),
                arena.take<T>(OuterBlock<T>::run_bytes / sizeof(T))};
    }
};

namespace detail {

/// Neighbouring numbers of tokens, rows or columns.
struct OuterRange {
    std::size_t first;
    std::size_t count;
};

/// target[0, count) = source[0, count), times `factor` unless that is null.
template <class T>
MOE_ALWAYS_INLINE void copy_scaled(const T* source, const T* factor, std::size_t count, T* target) noexcept {
    if (factor == nullptr) {
        std::memcpy(target, source, count * sizeof(T));
        return;
    }
    for (std::size_t i = 0; i < count; ++i) {
        target[i] = *factor * source[i];
    }
}

/// Copies `columns` of the rows of `tokens` into strips of `Width` columns: token t, column c of strip s at
/// target[(s * tokens.count + t) * Width + c]. What a last strip lacks to `rest_width` columns is zero; it has
/// `rest_width` values a token.
template <std::size_t Width, class T>
void pack_outer(const OuterRows<T>& operand, OuterRange tokens, OuterRange columns, std::size_t rest_width,
                T* MOE_RESTRICT target) noexcept {
    const std::size_t whole = columns.count / Width;
    const std::size_t rest = columns.count % Width;
    for (std::size_t t = 0; t < tokens.count; ++t) {
        const T* const row = operand.rows[tokens.first + t] + operand.first_column + columns.first;
        const T* const factor = operand.scale.empty() ? nullptr : &operand.scale[tokens.first + t];
        for (std::size_t s = 0; s < whole; ++s) {
            copy_scaled(row + s * Width, factor, Width, target + (s * tokens.count + t) * Width);
        }
        if (rest > 0) {
            T* const last = target + whole * tokens.count * Width + t * rest_width;
            copy_scaled(row + whole * Width, factor, rest, last);
            std::fill(last + rest, last + rest_width, T(0));
        }
    }
}

/// A tile of which only `columns` are there, or whose columns are apart: through a copy, by the same tile as all
/// others. Writes to nothing but its elements.
template <std::size_t Rows, class T>
MOE_NOINLINE void add_outer_part(const T* a, const T* b, std::size_t count, const OuterTarget<T>& c,
                                 std::size_t columns) noexcept {
    constexpr std::size_t width = OuterTile<T>::columns;
    std::array<T, Rows * width> copy{};
    for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t j = 0; j < columns; ++j) {
            copy[r * width + j] = *c.at(r, j).data;
        }
    }
    add_outer_tile<Rows>(a, b, count, copy.data(), width, copy.data());
    for (std::size_t r = 0; r < Rows; ++r) {
        for (std::size_t j = 0; j < columns; ++j) {
            *c.at(r, j).data = copy[r * width + j];
        }
    }
}

/// `Rows` rows of C: a strip of a times all strips of b. `next` is where the next strip of a will begin.
template <std::size_t Rows, class T>
void add_outer_strip(const T* a, const T* b, std::size_t count, const OuterTarget<T>& c, std::size_t columns,
                     const T* next) noexcept {
    constexpr std::size_t width = OuterTile<T>::columns;
    const std::size_t whole = c.column_stride == 1 ? columns / width * width : 0;
    for (std::size_t j = 0; j < whole; j += width) {
        T* const at = c.data + j;
        add_outer_tile<Rows>(a, b + j * count, count, at, c.row_stride, j + 2 * width <= columns ? at + width : next);
    }
    for (std::size_t j = whole; j < columns; j += width) {
        add_outer_part<Rows>(a, b + j * count, count, c.at(0, j), (std::min)(width, columns - j));
    }
}

/// Asks for the columns that are copied next, of the tokens whose turn it is in strip `strip` of `n_strips`: in one
/// burst, at the copy, they cost 5 % with 1,024 tokens, and as much where C has 96 rows.
template <class T>
void prefetch_outer(const OuterRows<T>& operand, OuterRange tokens, OuterRange columns, std::size_t strip,
                    std::size_t n_strips) noexcept {
    const std::size_t end = (strip + 1) * tokens.count / n_strips;
    for (std::size_t t = strip * tokens.count / n_strips; t < end; ++t) {
        const T* const row = operand.rows[tokens.first + t] + operand.first_column + columns.first;
        for (std::size_t j = 0; j < columns.count; j += Prefetch::line / sizeof(T)) {
            Prefetch::prefetch_line(reinterpret_cast<const std::byte*>(row + j));
        }
    }
}

/// The columns that follow `columns` where they are `all` and at most `most` are copied at once.
[[nodiscard]] constexpr OuterRange next_columns(OuterRange columns, std::size_t most, std::size_t all) noexcept {
    const std::size_t end = columns.first + columns.count;
    return {end, (std::min)(most, all - end)};
}

/// Rows `rows` of C and the tokens `tokens`, which scratch holds of a.
template <class T>
void add_outer_block(const OuterRows<T>& b, OuterRange tokens, OuterRange rows, const OuterTarget<T>& c,
                     const OuterScratch<T>& scratch) noexcept {
    constexpr std::size_t height = OuterTile<T>::rows;
    constexpr std::size_t width = OuterTile<T>::columns;
    const std::size_t most = OuterBlock<T>::columns_of(tokens.count);
    const std::size_t n_strips = divide_up(rows.count, height);
    OuterRange columns{0, (std::min)(most, b.columns)};
    while (columns.count > 0) {
        const OuterRange next = next_columns(columns, most, b.columns);
        pack_outer<width>(b, tokens, columns, width, scratch.right.data());
        for (std::size_t s = 0; s < n_strips; ++s) {
            if (!OuterBlock<T>::wide && tokens.count > OuterTile<T>::few_tokens) {
                prefetch_outer(b, tokens, next, s, n_strips);
            }
            const OuterTarget<T> at = c.at(rows.first + s * height, columns.first);
            const std::size_t here = (std::min)(height, rows.count - s * height);
            // what follows the last strip is not asked for, nor what a tile of fewer rows would overshoot
            const T* const below = (s + 2) * height <= rows.count ? at.data + height * c.row_stride : at.data;
            with_rows(here, [&]<std::size_t Rows>() {
                add_outer_strip<Rows>(scratch.left.data() + s * height * tokens.count, scratch.right.data(),
                                      tokens.count, at, columns.count, below);
            });
        }
        columns = next;
    }
}

}  // namespace detail

/// c (a.columns, b.columns) += sum over tokens t, ascending, of (a.scale[t] a[t]) times (b.scale[t] b[t]), with as many
/// rows in `a` as in `b`: see OuterTile for the order of summation, from which follows that any rectangle of C and any
/// run of tokens can be a call of its own with the same bits. NaN and infinity stay in the row and the column of C
/// whose operand they are in. Without tokens C stays as it is. C shares no memory with the rows; what lies between its
/// elements is neither read nor written. One thread, no allocation; 2 * tokens * rows * columns operations.
///
/// Single-threaded parts of the FMA peak at 768 x 2048 floats, C out of memory (medians beside a probe, on busy
/// machines). AVX2: 0.48 with 8 tokens, where reading and writing C sets the speed, 0.66 with 32, 0.75 with 128 and
/// with 1,024. AVX-512, whose peak is twice as high: 0.25, 0.65, 0.79 and, with 512, 0.81.
template <class T>
void add_outer(const OuterRows<T>& a, const OuterRows<T>& b, const OuterTarget<T>& c,
               const OuterScratch<T>& scratch) noexcept {
    using Block = OuterBlock<T>;
    if (c.row_stride == 1 && c.column_stride != 1) {  // stored transposed
        return add_outer(b, a, OuterTarget<T>{c.data, c.column_stride, 1}, scratch);
    }
    const std::size_t n_tokens = a.rows.size();
    if (n_tokens == 0 || a.columns == 0) {
        return;
    }
    // blocks of almost equal size: 129 tokens are 65 and 64, not 128 and 1
    const std::size_t most_tokens = divide_up(n_tokens, divide_up(n_tokens, Block::tokens));
    const std::size_t most_rows = round_up(divide_up(a.columns, divide_up(a.columns, Block::rows)), OuterTile<T>::rows);
    for (std::size_t i = 0; i < a.columns; i += most_rows) {
        const detail::OuterRange rows{i, (std::min)(most_rows, a.columns - i)};
        for (std::size_t t = 0; t < n_tokens; t += most_tokens) {
            const detail::OuterRange tokens{t, (std::min)(most_tokens, n_tokens - t)};
            detail::pack_outer<OuterTile<T>::rows>(a, tokens, rows, rows.count % OuterTile<T>::rows,
                                                   scratch.left.data());
            detail::add_outer_block(b, tokens, rows, c, scratch);
        }
    }
}

}  // namespace moe::inline MOE_ABI
