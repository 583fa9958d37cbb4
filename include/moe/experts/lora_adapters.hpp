#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <span>

#include "../core/function_ref.hpp"
#include "panel_source.hpp"

namespace moe::inline MOE_ABI {

/// Two thin matrices an expert, whose product is added to a projection (outputs, inputs). Both, or none.
template <class T>
struct LoraPair {
    WeightStack<T> a{};  ///< (n_experts, rank, inputs)
    WeightStack<T> b{};  ///< (n_experts, outputs, rank)

    [[nodiscard]] bool empty() const noexcept { return a.empty(); }
    [[nodiscard]] std::size_t rank() const noexcept { return a.empty() ? 0 : a.outputs(); }
    [[nodiscard]] bool overlaps(const ByteView& memory) const { return a.overlaps(memory) || b.overlaps(memory); }
};

/// Low-rank updates of a bank of experts (LoRA, Hu et al., 2106.09685): each projection W becomes W + scale B A. What
/// is empty stays as it is. Ranks may differ. Gate and up may have the same A: its gradient is then that of both.
template <class T>
struct LoraAdapters {
    LoraPair<T> gate{};
    LoraPair<T> up{};
    LoraPair<T> down{};
    double scale = 1;  ///< alpha / rank; alpha / sqrt(rank) of rank-stabilised LoRA (2312.03732)

    [[nodiscard]] bool overlaps(const ByteView& memory) const {
        return gate.overlaps(memory) || up.overlaps(memory) || down.overlaps(memory);
    }
    [[nodiscard]] std::size_t n_matrices() const noexcept {
        return (gate.empty() ? 0U : 2U) + (up.empty() ? 0U : 2U) + (down.empty() ? 0U : 2U);
    }
};

namespace detail {

/// Throws Error(missing, shape) unless both matrices are there in these sizes, or none.
template <class T>
void check_pair(const char* name, const LoraPair<T>& pair, std::size_t n_experts, std::size_t outputs,
                std::size_t inputs) {
    ensure(pair.a.empty() == pair.b.empty(), ErrorCode::missing, "LoraAdapters: of ", name, " only ",
           pair.a.empty() ? "b" : "a", " was given, an adapter is two matrices");
    if (pair.empty()) {
        return;
    }
    const auto confirm = [&](const char* which, const WeightStack<T>& stack, std::size_t rows, std::size_t cols) {
        ensure(stack.n_experts() == n_experts && stack.outputs() == rows && stack.inputs() == cols, ErrorCode::shape,
               "LoraAdapters: ", which, " of ", name, " is ", stack.n_experts(), " x ", stack.outputs(), " x ",
               stack.inputs(), ", it must be ", n_experts, " x ", rows, " x ", cols, " for rank ", pair.rank());
    };
    confirm("a", pair.a, pair.rank(), inputs);
    confirm("b", pair.b, outputs, pair.rank());
}

/// Throws Error as the constructor of LoraExperts does.
template <class T>
void check_adapters(const LoraAdapters<T>& adapters, const PanelLayout<T>& layout, std::size_t n_experts) {
    constexpr double most = (std::numeric_limits<T>::max)();
    ensure(adapters.scale >= -most && adapters.scale <= most, ErrorCode::range, "LoraAdapters: scale is ",
           adapters.scale, ", it must be finite in the type of the adapters");
    ensure(layout.gated || (adapters.gate.a.empty() && adapters.gate.b.empty()), ErrorCode::missing,
           "LoraAdapters: an adapter of gate projections was given to experts whose form is plain");
    detail::check_pair("the gate projections", adapters.gate, n_experts, layout.d_ff, layout.d_model);
    detail::check_pair("the up projections", adapters.up, n_experts, layout.d_ff, layout.d_model);
    detail::check_pair("the down projections", adapters.down, n_experts, layout.d_model, layout.d_ff);
}

template <class T>
using GatherBlock = FunctionRef<void(std::size_t panel, std::size_t first, std::size_t depth, T* block)>;

/// The first `columns` of c (n_rows, width) = rows (n_rows, k) times one panel, gathered as by multiply_gathered and
/// with its bits: ranks are few, a whole panel would be mostly zeros. gather() fills as many columns as `filled` says,
/// whole vectors.
template <class T>
void multiply_narrow(
    RowPointers rows, std::size_t k, std::size_t columns, T* c, const PanelScratch<T>& scratch,
    const FunctionRef<void(std::size_t first, std::size_t depth, std::size_t filled, T* block)>& gather) {
    constexpr std::size_t width = Panel<T>::width;
    const std::size_t vectors = divide_up(columns, lanes<T>) <= 2 ? divide_up(columns, lanes<T>) : Panel<T>::vectors;
    const T* const block = scratch.block.data();
    for (std::size_t first = 0; first < k; first += Panel<T>::depth) {
        const std::size_t depth = (std::min)(Panel<T>::depth, k - first);
        gather(first, depth, vectors * lanes<T>, scratch.block.data());
        for_each_tile(rows.size(), [&](std::size_t r, std::size_t count, std::size_t) {
            with_rows(count, [&]<std::size_t Rows>() {
                std::array<const T*, Rows> at;
                for (std::size_t j = 0; j < Rows; ++j) {
                    at[j] = reinterpret_cast<const T*>(rows[r + j]) + first;
                }
                if (vectors == 1) {
                    multiply_strip<Rows, 1>(at, block, depth, c + r * width, first != 0, {});
                } else if (vectors == 2) {
                    multiply_strip<Rows, 2>(at, block, depth, c + r * width, first != 0, {});
                } else {
                    multiply_tile<Rows>(at.data(), block, depth, c + r * width, first != 0, {});
                }
            });
        });
    }
}

/// scratch.sums (n_panels, n_rows, width) += rows (n_rows, k) times panels, gathered as by multiply_gathered. Each sum
/// is one chain over k, whatever the number of rows.
template <class T>
void add_gathered(RowPointers rows, std::size_t k, std::size_t n_panels, const PanelScratch<T>& scratch,
                  const GatherBlock<T>& gather) {
    for (std::size_t first = 0; first < k; first += Panel<T>::depth) {
        const std::size_t depth = (std::min)(Panel<T>::depth, k - first);
        for (std::size_t i = 0; i < n_panels; ++i) {
            gather(i, first, depth, scratch.block.data());
            for_each_tile(rows.size(), [&](std::size_t r, std::size_t count, std::size_t) {
                std::array<const T*, Panel<T>::tile_rows> at{};
                for (std::size_t j = 0; j < count; ++j) {
                    at[j] = reinterpret_cast<const T*>(rows[r + j]) + first;
                }
                multiply_tile(count, at.data(), static_cast<const T*>(scratch.block.data()), depth,
                              scratch.sums_of(i, rows.size()) + r * Panel<T>::width, true);
            });
        }
    }
}

/// An adapter of some columns of each panel: those of gate come first in a panel of the hidden layer, then those of up.
template <class T>
struct LoraColumns {
    const LoraPair<T>* pair;
    std::size_t first;  ///< column of the panel
    std::size_t count;  ///< columns of the panel, of which the last may be none
};

/// scratch.sums (panels, n_rows, width) += scale B A rows, for the adapters that share these panels: u = A rows is
/// computed for all of them together, then B u added. Up to a panel's width of ranks at a time.
template <class T>
void add_low_rank(std::span<const LoraColumns<T>> adapters, std::size_t e, std::size_t k, T scale, PanelRange panels,
                  RowPointers rows, const PanelScratch<T>& scratch) {
    constexpr std::size_t width = Panel<T>::width;
    alignas(buffer_alignment) std::array<T, max_task_rows * width> low;
    std::array<const std::byte*, max_task_rows> low_rows;
    std::size_t rank = 0;
    for (const LoraColumns<T>& columns : adapters) {
        rank += columns.pair->rank();
    }
    for (std::size_t first = 0; first < rank; first += width) {
        const std::size_t depth = (std::min)(width, rank - first);
        // calls use(adapter, its first rank, ranks, where they stand among these) for those that have some of these
        const auto for_each = [&](const auto& use) {
            std::size_t begin = 0;
            for (const LoraColumns<T>& columns : adapters) {
                const std::size_t end = begin + columns.pair->rank();
                const std::size_t from = (std::max)(begin, first);
                const std::size_t to = (std::min)(end, first + depth);
                if (from < to) {
                    use(columns, from - begin, to - from, from - first);
                }
                begin = end;
            }
        };
        const auto gather_a = [&](std::size_t from, std::size_t inputs, std::size_t filled, T* block) {
            for (std::size_t i = 0; i < inputs && depth < filled; ++i) {
                std::fill(block + i * width + depth, block + i * width + filled, T(0));
            }
            for_each([&](const LoraColumns<T>& columns, std::size_t j, std::size_t count, std::size_t at) {
                pack_block(columns.pair->a.block(e, j, count), from, inputs, count, block + at, width);
            });
        };
        detail::multiply_narrow<T>(rows, k, depth, low.data(), scratch, {gather_a});
        for (std::size_t r = 0; r < rows.size(); ++r) {
            T* const row = low.data() + r * width;
            for (std::size_t j = 0; j < depth; ++j) {
                row[j] *= scale;
            }
            low_rows[r] = reinterpret_cast<const std::byte*>(row);
        }
        const auto gather_b = [&](std::size_t i, std::size_t, std::size_t ranks, T* block) {
            std::fill_n(block, ranks * width, T(0));
            for_each([&](const LoraColumns<T>& columns, std::size_t j, std::size_t count, std::size_t at) {
                const WeightStack<T>& b = columns.pair->b;
                const std::size_t output = (panels.first + i) * columns.count;
                const WeightBlock<T> from = b.block(e, output, (std::min)(columns.count, b.outputs() - output));
                for (std::size_t o = 0; o < from.outputs; ++o) {  // ranks are too few for squares of pack_block
                    const T* const row = from.data + o * from.output_stride + j * from.input_stride;
                    T* const to = block + at * width + columns.first + o;
                    for (std::size_t n = 0; n < count; ++n) {
                        to[n * width] = load_element(row + n * from.input_stride);
                    }
                }
            });
        };
        detail::add_gathered<T>(RowPointers(low_rows).first(rows.size()), depth, panels.count, scratch, {gather_b});
    }
}

}  // namespace detail

}  // namespace moe::inline MOE_ABI
