#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "../core/function_ref.hpp"
#include "../core/index.hpp"
#include "arch/turned_lines.hpp"
#include "gathered_product.hpp"
#include "pack.hpp"

namespace moe::inline MOE_ABI {

/// Rows up to which weights whose inputs are neighbours are turned over in registers and used there. For more, a block
/// of a panel is turned over into scratch once, and tiles reuse it. On one core of a Zen 5 with rows of 2048 floats in
/// memory, 64 tokens of 128 experts (4 rows an expert) reached 0.77 of what reading does, gathered 0.46, in one run
/// with a limit of 12. Weights in the third-level cache are as fast gathered at 4 rows, and a fifth faster at 12; of 16
/// bits they are so at any number of rows, so that a limit for each type would be better.
template <class W>
inline constexpr std::size_t max_in_place_rows = 8;

/// A panel that stays in the user's memory: what fills its first and its second half, or a block that fills all of it
/// and one without outputs.
template <class W>
using PanelView = std::array<WeightBlock<W>, 2>;

namespace detail {

/// Vectors of outputs turned over side by side for a single row. Where the multiply-adds of one line and output take
/// longer than memory needs for the line, as each waits for the one before, two such chains run at once.
template <class W>
inline constexpr std::size_t turned_vectors = vector_registers >= 32 && arch::TurnedLines<W>::parts == 1 ? 1 : 2;

/// Weights whose inputs are neighbours, as bytes: output o at first + o * stride.
struct WeightRows {
    const std::byte* first;
    std::size_t stride;
};

/// Asks for rows of weights from front to back, a few lines in each step: of the outputs that follow, while those
/// before them are multiplied. Tried: requests 256 bytes to 2 KB ahead in all 16 or 32 rows side by side; on a machine
/// that others used no order was better by more than its runs differed.
class RowPrefetch {
public:
    RowPrefetch(const WeightRows& rows, std::size_t row_bytes) noexcept
        : at_(rows.first),
          row_lines_(divide_up(row_bytes, Prefetch::line)),
          left_(row_lines_),
          gap_(rows.stride - row_lines_ * Prefetch::line) {}

    template <std::size_t Lines>
    MOE_ALWAYS_INLINE void step() noexcept {
        if (left_ > Lines) {
            MOE_UNROLL
            for (std::size_t i = 0; i < Lines; ++i) {
                Prefetch::prefetch_line(at_ + i * Prefetch::line);
            }
            at_ += Lines * Prefetch::line;
            left_ -= Lines;
            return;
        }
        for (std::size_t i = 0; i < Lines; ++i) {
            Prefetch::prefetch_line(at_);
            at_ += Prefetch::line;
            if (--left_ == 0) {
                at_ += gap_;
                left_ = row_lines_;
            }
        }
    }

private:
    const std::byte* at_;
    std::size_t row_lines_;
    std::size_t left_;  ///< lines of the row
    std::size_t gap_;   ///< from behind the last line of a row to the next; rows may be closer than whole lines
};

/// Asks for a line of each of a few rows, a little ahead of where they are read: nobody has asked for them before.
template <std::size_t Rows>
MOE_ALWAYS_INLINE void prefetch_across(const WeightRows& rows, std::size_t at) noexcept {
    constexpr std::size_t ahead = 512;
    MOE_UNROLL
    for (std::size_t o = 0; o < Rows; ++o) {
        Prefetch::prefetch_line(rows.first + o * rows.stride + at + ahead);
    }
}

/// block (n_rows, outputs) += inputs from `at` on of all rows times a part of the turned weights.
template <std::size_t Part, class W>
MOE_ALWAYS_INLINE void add_part(const arch::TurnedLines<W>& lines, RowPointers rows, std::size_t at,
                                ComputeType<W>* block) noexcept {
    using T = ComputeType<W>;
    using Lines = arch::TurnedLines<W>;
    const auto weight = lines.template part<Part>();
    // Tried and slower: two rows at a time, whose broadcasts then take registers.
    for (std::size_t r = 0; r < rows.size(); ++r, block += Lines::outputs) {
        const T* const x = reinterpret_cast<const T*>(rows[r]) + at + Part * Lines::part_inputs;
        Vector<T> sum = load(block);
        MOE_UNROLL
        for (std::size_t i = 0; i < Lines::part_inputs; ++i) {
            sum = multiply_add<T>(Vector<T>(x[i]), weight[i], sum);
        }
        store(block, sum);
    }
}

/// The same of a single row and two vectors of outputs: block (2, outputs).
template <std::size_t Part, class W>
MOE_ALWAYS_INLINE void add_part_of_two(const arch::TurnedLines<W>& a, const arch::TurnedLines<W>& b,
                                       const ComputeType<W>* x, ComputeType<W>* block) noexcept {
    using T = ComputeType<W>;
    using Lines = arch::TurnedLines<W>;
    const auto weight_a = a.template part<Part>();
    const auto weight_b = b.template part<Part>();
    Vector<T> sum_a = load(block);
    Vector<T> sum_b = load(block + Lines::outputs);
    MOE_UNROLL
    for (std::size_t i = 0; i < Lines::part_inputs; ++i) {
        const Vector<T> value(x[Part * Lines::part_inputs + i]);
        sum_a = multiply_add<T>(value, weight_a[i], sum_a);
        sum_b = multiply_add<T>(value, weight_b[i], sum_b);
    }
    store(block, sum_a);
    store(block + Lines::outputs, sum_b);
}

/// Fewer outputs or inputs than are turned over at once: copied, so that nothing behind them is read.
template <class W>
MOE_NOINLINE void add_rest(const WeightRows& weights, std::size_t outputs, std::size_t inputs, RowPointers rows,
                           std::size_t at, ComputeType<W>* block) noexcept {
    using T = ComputeType<W>;
    using Lines = arch::TurnedLines<W>;
    constexpr std::size_t row_bytes = Lines::inputs * sizeof(W);
    alignas(Prefetch::line) std::array<std::byte, Lines::outputs * row_bytes> copy{};
    for (std::size_t o = 0; o < outputs; ++o) {
        std::memcpy(copy.data() + o * row_bytes, weights.first + o * weights.stride + at * sizeof(W),
                    inputs * sizeof(W));
    }
    const Lines lines(copy.data(), row_bytes);
    std::array<Vector<T>, Lines::inputs> weight;
    const auto first = lines.template part<0>();
    std::copy(first.begin(), first.end(), weight.begin());
    if constexpr (Lines::parts > 1) {
        const auto second = lines.template part<1>();
        std::copy(second.begin(), second.end(), weight.begin() + Lines::part_inputs);
    }
    for (std::size_t r = 0; r < rows.size(); ++r, block += Lines::outputs) {
        const T* const x = reinterpret_cast<const T*>(rows[r]) + at;
        Vector<T> sum = load(block);
        for (std::size_t i = 0; i < inputs; ++i) {
            sum = multiply_add<T>(Vector<T>(x[i]), weight[i], sum);
        }
        store(block, sum);
    }
}

/// Inputs [at, end) of up to turned_vectors vectors of outputs, at most those that are turned over at once: block
/// (vectors, n_rows, outputs) += rows * weights.
template <class W>
MOE_ALWAYS_INLINE void add_step(RowPointers rows, std::size_t at, std::size_t end, const WeightRows& weights,
                                std::size_t outputs, bool cold, RowPrefetch& prefetch, ComputeType<W>* block) noexcept {
    using T = ComputeType<W>;
    using Lines = arch::TurnedLines<W>;
    constexpr std::size_t lines_of_row = divide_up(Lines::inputs * sizeof(W), Prefetch::line);
    const bool whole = at + Lines::inputs <= end;
    const std::size_t byte = at * sizeof(W);
    if constexpr (turned_vectors<W> == 2) {
        if (rows.size() == 1 && outputs == 2 * Lines::outputs && whole) {
            prefetch.step<2 * Lines::outputs * lines_of_row>();
            if (cold) {
                prefetch_across<2 * Lines::outputs>(weights, byte);
            }
            const Lines a(weights.first + byte, weights.stride);
            const Lines b(weights.first + Lines::outputs * weights.stride + byte, weights.stride);
            const T* const x = reinterpret_cast<const T*>(rows[0]) + at;
            add_part_of_two<0>(a, b, x, block);
            if constexpr (Lines::parts > 1) {
                add_part_of_two<1>(a, b, x, block);
            }
            return;
        }
    }
    for (std::size_t o = 0; o < outputs; o += Lines::outputs, block += rows.size() * Lines::outputs) {
        const WeightRows mine{weights.first + o * weights.stride, weights.stride};
        if (!whole || o + Lines::outputs > outputs) {
            add_rest<W>(mine, (std::min)(Lines::outputs, outputs - o), (std::min)(Lines::inputs, end - at), rows, at,
                        block);
            continue;
        }
        prefetch.step<Lines::outputs * lines_of_row>();
        if (cold) {
            prefetch_across<Lines::outputs>(mine, byte);
        }
        const Lines lines(mine.first + byte, mine.stride);
        add_part<0>(lines, rows, at, block);
        if constexpr (Lines::parts > 1) {
            add_part<1>(lines, rows, at, block);
        }
    }
}

/// Up to turned_vectors vectors of outputs from the first input to the last: sums (n_rows, Panel<T>::width), of which
/// `outputs` columns are written, rounded up to whole vectors. Asks for the rows `next` meanwhile. `cold`: its own were
/// not asked for.
template <class W>
MOE_NOINLINE void multiply_turned(RowPointers rows, std::size_t k, const WeightRows& weights, std::size_t outputs,
                                  const WeightRows& next, bool cold, ComputeType<W>* sums) noexcept {
    using T = ComputeType<W>;
    using Lines = arch::TurnedLines<W>;
    alignas(Prefetch::line) std::array<T, turned_vectors<W> * max_in_place_rows<W> * Lines::outputs> block;
    RowPrefetch prefetch(next, k * sizeof(W));
    for (std::size_t first = 0; first < k; first += Panel<T>::depth) {
        const std::size_t end = (std::min)(k, first + Panel<T>::depth);
        std::fill_n(block.data(), turned_vectors<W> * rows.size() * Lines::outputs, T(0));
        for (std::size_t at = first; at < end; at += Lines::inputs) {
            add_step<W>(rows, at, end, weights, outputs, cold, prefetch, block.data());
        }
        for (std::size_t o = 0; o < outputs; o += Lines::outputs) {
            for (std::size_t r = 0; r < rows.size(); ++r) {
                T* const target = sums + r * Panel<T>::width + o;
                const Vector<T> sum = load(block.data() + o * rows.size() + r * Lines::outputs);
                store(target, first != 0 ? Vector<T>(load(target) + sum) : sum);
            }
        }
    }
}

/// Panels whose inputs are neighbours, a few outputs from front to back, then the next: columns without an output are
/// zero.
template <class W>
void multiply_turned_panels(RowPointers rows, std::size_t k, std::size_t n_panels,
                            const PanelScratch<ComputeType<W>>& scratch,
                            const FunctionRef<PanelView<W>(std::size_t)>& panel) {
    using T = ComputeType<W>;
    constexpr std::size_t vector = arch::TurnedLines<W>::outputs;
    constexpr std::size_t step = turned_vectors<W> * vector;
    const auto rows_of = [](const WeightBlock<W>& block, std::size_t output) {
        return WeightRows{reinterpret_cast<const std::byte*>(block.data + output * block.output_stride),
                          block.output_stride * sizeof(W)};
    };
    for (std::size_t i = 0; i < n_panels; ++i) {
        const PanelView<W> halves = panel(i);
        const std::size_t n_halves = halves[1].outputs == 0 ? 1 : 2;
        const std::size_t columns = Panel<T>::width / n_halves;
        // behind the last there is nothing that is known: its own first rows, which are in the cache, do no harm
        const WeightBlock<W> after = i + 1 < n_panels ? panel(i + 1)[0] : halves[0];
        for (std::size_t h = 0; h < n_halves; ++h) {
            const WeightBlock<W>& half = halves[h];
            for (std::size_t o = 0; o < columns; o += step) {
                T* const sums = scratch.sums_of(i, rows.size()) + h * columns + o;
                const std::size_t outputs = o < half.outputs ? (std::min)(step, half.outputs - o) : 0;
                const std::size_t written = round_up(outputs, vector);
                for (std::size_t r = 0; r < rows.size(); ++r) {
                    std::fill_n(sums + r * Panel<T>::width + written, step - written, T(0));
                }
                if (outputs > 0) {
                    const WeightRows next = o + step < half.outputs ? rows_of(half, o + step)
                                            : h + 1 < n_halves      ? rows_of(halves[h + 1], 0)
                                                                    : rows_of(after, 0);
                    multiply_turned<W>(rows, k, rows_of(half, o), outputs, next, i + h + o == 0, sums);
                }
            }
        }
    }
}

}  // namespace detail

/// multiply_packed with weights that stay in the user's memory, in any storage order: equal bits in all columns that
/// have an output. Nothing behind the last input of an output is read. panel(i) is called for i < n_panels.
template <class W>
void multiply_views(RowPointers rows, std::size_t k, std::size_t n_panels, const PanelScratch<ComputeType<W>>& scratch,
                    FunctionRef<PanelView<W>(std::size_t)> panel) {
    using T = ComputeType<W>;
    constexpr std::size_t width = Panel<T>::width;
    if constexpr (arch::TurnedLines<W>::present) {
        const auto by_rows = [](const WeightBlock<W>& block) { return block.outputs == 0 || block.input_stride == 1; };
        if (n_panels > 0 && rows.size() <= max_in_place_rows<W> && std::ranges::all_of(panel(0), by_rows)) {
            return detail::multiply_turned_panels<W>(rows, k, n_panels, scratch, panel);
        }
    }
    const auto gather = [&](std::size_t i, std::size_t first, std::size_t depth, T* block) {
        const PanelView<W> halves = panel(i);
        const std::size_t columns = halves[1].outputs == 0 ? width : width / 2;
        pack_block(halves[0], first, depth, columns, block, width);
        if (columns < width) {
            pack_block(halves[1], first, depth, columns, block + columns, width);
        }
    };
    const auto locate = [&](std::size_t i, std::size_t first, std::size_t depth) {
        const PanelView<W> halves = panel(i);
        return FarBlock{far_rows(halves[0], first, depth),
                        halves[1].outputs == 0 ? FarRows{} : far_rows(halves[1], first, depth)};
    };
    multiply_gathered<T>(rows, k, n_panels, scratch, {gather, locate});
}

}  // namespace moe::inline MOE_ABI
