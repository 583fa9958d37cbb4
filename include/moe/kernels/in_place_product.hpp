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

#ifndef P_ROWS
#define P_ROWS 16
#endif
#ifndef P_AHEAD
#define P_AHEAD 512
#endif
#ifndef P_HINT
#define P_HINT 3
#endif
/// Rows up to which weights are used where they lie.
inline constexpr std::size_t max_in_place_rows = P_ROWS;
#ifndef P_SIDES
#define P_SIDES (vector_registers >= 32 && arch::TurnedLines<W>::parts == 1 ? 1 : 2)
#endif
template <class W>
inline constexpr std::size_t side_by_side = P_SIDES;

/// A panel that stays in the user's memory: what fills its first and its second half, or one block without outputs
/// behind that which fills all of it.
template <class W>
using PanelView = std::array<WeightBlock<W>, 2>;

namespace detail {

/// Rows of weights of a few outputs, one after the other as the product walks through them.
struct WeightRows {
    const std::byte* first;
    std::size_t stride;  ///< bytes
};

/// sums[c] += the product of inputs of a row or two with part `Part` of one or two turned vectors of outputs, one chain
/// of multiply-adds each, step by step side by side: alone a chain waits for itself.
template <std::size_t Part, class W, std::size_t Chains>
MOE_ALWAYS_INLINE void add_chains(const std::array<const arch::TurnedLines<W>*, Chains>& lines,
                                  const std::array<const ComputeType<W>*, Chains>& x,
                                  const std::array<ComputeType<W>*, Chains>& sums) noexcept {
    using T = ComputeType<W>;
    using Lines = arch::TurnedLines<W>;
    std::array<std::array<Vector<T>, Lines::part_inputs>, Chains> weight;
    std::array<Vector<T>, Chains> sum;
    MOE_UNROLL
    for (std::size_t c = 0; c < Chains; ++c) {
        weight[c] = lines[c]->template part<Part>();
        sum[c] = load(sums[c]);
    }
    MOE_UNROLL
    for (std::size_t i = 0; i < Lines::part_inputs; ++i) {
        MOE_UNROLL
        for (std::size_t c = 0; c < Chains; ++c) {
            sum[c] = multiply_add<T>(Vector<T>(x[c][Part * Lines::part_inputs + i]), weight[c][i], sum[c]);
        }
    }
    MOE_UNROLL
    for (std::size_t c = 0; c < Chains; ++c) {
        store(sums[c], sum[c]);
    }
}

/// block (n_rows, outputs) += inputs from `at` on of all rows times a part of the turned weights.
template <std::size_t Part, class W>
MOE_ALWAYS_INLINE void add_part(const arch::TurnedLines<W>& lines, RowPointers rows, std::size_t at,
                                ComputeType<W>* block) noexcept {
    using T = ComputeType<W>;
    constexpr std::size_t outputs = arch::TurnedLines<W>::outputs;
    constexpr std::size_t inputs = arch::TurnedLines<W>::part_inputs;
    const auto weight = lines.template part<Part>();
    for (std::size_t r = 0; r < rows.size(); ++r, block += outputs) {
        const T* const x = reinterpret_cast<const T*>(rows[r]) + at + Part * inputs;
        Vector<T> sum = load(block);
        MOE_UNROLL
        for (std::size_t i = 0; i < inputs; ++i) {
            sum = multiply_add<T>(Vector<T>(x[i]), weight[i], sum);
        }
        store(block, sum);
    }
}

/// The same of fewer outputs or inputs, which are copied so that nothing behind them is read.
template <class W>
MOE_NOINLINE void add_rest(const WeightRows& from, std::size_t outputs, std::size_t inputs, RowPointers rows,
                           std::size_t at, ComputeType<W>* block) noexcept {
    using T = ComputeType<W>;
    using Lines = arch::TurnedLines<W>;
    constexpr std::size_t row_bytes = Lines::inputs * sizeof(W);
    alignas(64) std::array<std::byte, Lines::outputs * row_bytes> copy{};
    for (std::size_t o = 0; o < outputs; ++o) {
        std::memcpy(copy.data() + o * row_bytes, from.first + o * from.stride + at * sizeof(W), inputs * sizeof(W));
    }
    const Lines lines(copy.data(), row_bytes);
    std::array<Vector<T>, Lines::inputs> weight;
    const auto first = lines.template part<0>();
    std::copy(first.begin(), first.end(), weight.begin());
    if constexpr (Lines::parts > 1) {
        const auto second = lines.template part<1>();
        std::copy(second.begin(), second.end(), weight.begin() + Lines::part_inputs);
    }
    for (std::size_t r = 0; r < rows.size(); ++r) {
        const T* const x = reinterpret_cast<const T*>(rows[r]) + at;
        Vector<T> sum = load(block + r * Lines::outputs);
        for (std::size_t i = 0; i < inputs; ++i) {
            sum = multiply_add<T>(Vector<T>(x[i]), weight[i], sum);
        }
        store(block + r * Lines::outputs, sum);
    }
}

/// Asks for rows of weights from front to back, a few lines in each step.
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
    std::size_t left_;
    std::size_t gap_;  ///< bytes from the last line of a row to the first of the next, modulo 2^64
};

/// Asks for a line of each row.
template <std::size_t Outputs>
MOE_ALWAYS_INLINE void prefetch_lines([[maybe_unused]] const WeightRows& from, [[maybe_unused]] std::size_t at) noexcept {
#if defined(__GNUC__)
    MOE_UNROLL
    for (std::size_t o = 0; o < Outputs; ++o) {
        __builtin_prefetch(from.first + o * from.stride + at, 0, P_HINT);
    }
#endif
}

/// Up to side_by_side vectors of outputs from the first input to the last: sums (n_rows, Panel<T>::width), of which
/// `outputs` columns are written, rounded up to whole vectors.
template <class W>
MOE_NOINLINE void multiply_lines(RowPointers rows, std::size_t k, const WeightRows& from, std::size_t outputs,
                                 const WeightRows& next, bool cold, ComputeType<W>* sums) noexcept {
    using T = ComputeType<W>;
    using Lines = arch::TurnedLines<W>;
    constexpr std::size_t ahead = P_AHEAD;
    const std::size_t block_size = rows.size() * Lines::outputs;
    RowPrefetch prefetch(next, k * sizeof(W));
    alignas(64) std::array<T, side_by_side<W> * max_in_place_rows * Lines::outputs> block;
    for (std::size_t first = 0; first < k; first += Panel<T>::depth) {
        const std::size_t end = (std::min)(k, first + Panel<T>::depth);
        std::fill_n(block.data(), side_by_side<W> * block_size, T(0));
        for (std::size_t at = first; at < end; at += Lines::inputs) {
            const std::byte* source = from.first;
            T* target = block.data();
            if constexpr (side_by_side<W> == 2) {
                if (rows.size() == 1 && outputs == 2 * Lines::outputs && at + Lines::inputs <= end) {
                    prefetch.step<2 * Lines::outputs>();
                    if (cold) {
                        prefetch_lines<2 * Lines::outputs>(from, at * sizeof(W) + ahead);
                    }
                    const Lines a(source + at * sizeof(W), from.stride);
                    const Lines b(source + Lines::outputs * from.stride + at * sizeof(W), from.stride);
                    const T* const x = reinterpret_cast<const T*>(rows[0]) + at;
                    add_chains<0, W, 2>({&a, &b}, {x, x}, {target, target + Lines::outputs});
                    if constexpr (Lines::parts > 1) {
                        add_chains<1, W, 2>({&a, &b}, {x, x}, {target, target + Lines::outputs});
                    }
                    continue;
                }
            }
            for (std::size_t o = 0; o < outputs; o += Lines::outputs, target += block_size) {
                if (o + Lines::outputs > outputs || at + Lines::inputs > end) {
                    add_rest<W>({source, from.stride}, (std::min)(Lines::outputs, outputs - o),
                                (std::min)(Lines::inputs, end - at), rows, at, target);
                } else {
                    prefetch.step<Lines::outputs>();
                    if (cold) {
                        prefetch_lines<Lines::outputs>({source, from.stride}, at * sizeof(W) + ahead);
                    }
                    const Lines lines(source + at * sizeof(W), from.stride);
                    add_part<0>(lines, rows, at, target);
                    if constexpr (Lines::parts > 1) {
                        add_part<1>(lines, rows, at, target);
                    }
                }
                source += Lines::outputs * from.stride;
            }
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

}  // namespace detail

template <class W>
void multiply_in_place(RowPointers rows, std::size_t k, std::size_t n_panels,
                       const PanelScratch<ComputeType<W>>& scratch, FunctionRef<PanelView<W>(std::size_t)> panel) {
    using T = ComputeType<W>;
    constexpr std::size_t lanes_ = arch::TurnedLines<W>::outputs;
    constexpr std::size_t step = side_by_side<W> * lanes_;
    const auto rows_of = [](const WeightBlock<W>& block, std::size_t output) {
        return detail::WeightRows{reinterpret_cast<const std::byte*>(block.data + output * block.output_stride),
                                  block.output_stride * sizeof(W)};
    };
    for (std::size_t i = 0; i < n_panels; ++i) {
        const PanelView<W> halves = panel(i);
        const WeightBlock<W> after = i + 1 < n_panels ? panel(i + 1)[0] : halves[0];
        T* sums = scratch.sums_of(i, rows.size());
        const bool one = halves[1].outputs == 0;
        for (std::size_t h = 0; h < (one ? 1U : 2U); ++h) {
            const std::size_t columns = one ? Panel<T>::width : Panel<T>::width / 2;
            for (std::size_t o = 0; o < columns; o += step, sums += step) {
                const std::size_t outputs = (std::min)(step, halves[h].outputs - (std::min)(o, halves[h].outputs));
                if (const std::size_t written = round_up(outputs, lanes_); written < step) {
                    for (std::size_t r = 0; r < rows.size(); ++r) {
                        std::fill_n(sums + r * Panel<T>::width + written, step - written, T(0));
                    }
                }
                if (outputs == 0) {
                    continue;
                }
                const detail::WeightRows next = o + step < halves[h].outputs ? rows_of(halves[h], o + step)
                                                : h == 0 && !one             ? rows_of(halves[1], 0)
                                                                             : rows_of(after, 0);
                detail::multiply_lines<W>(rows, k, rows_of(halves[h], o), outputs, next, i + h + o == 0, sums);
            }
        }
    }
}

/// scratch.sums (n_panels, n_rows, width) = rows (n_rows, k) * panels (k, width), with weights in the user's memory.
template <class W>
void multiply_views(RowPointers rows, std::size_t k, std::size_t n_panels, const PanelScratch<ComputeType<W>>& scratch,
                    FunctionRef<PanelView<W>(std::size_t)> panel) {
    using T = ComputeType<W>;
    constexpr std::size_t width = Panel<T>::width;
    if constexpr (arch::TurnedLines<W>::present) {
        const PanelView<W> first = panel(0);
        const bool by_rows = first[0].input_stride == 1 && (first[1].outputs == 0 || first[1].input_stride == 1);
        if (by_rows && rows.size() <= max_in_place_rows) {
            return multiply_in_place<W>(rows, k, n_panels, scratch, panel);
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
