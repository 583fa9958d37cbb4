#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "../../experts/product_tasks.hpp"
#include "../../kernels/outer_product.hpp"
#include "../../routing/linear.hpp"
#include "../parts/mutable_stack.hpp"

namespace moe::inline MOE_ABI::detail {

/// Whole matrices multiplied on all workers, each element by one of them in one order. For layers that are made of
/// such products.
template <class T>
class DenseProducts {
public:
    DenseProducts(Arena& arena, const ExecutorRef& threads) : threads_(threads) {
        Arena measure;
        (void)Scratch::take(measure);
        bytes_ = measure.used();
        workers_ = arena.take<std::byte>(checked_multiply(threads.concurrency(), bytes_));
    }

    [[nodiscard]] const ExecutorRef& threads() const noexcept { return threads_; }

    /// Calls write(r, first column, columns, sums) for every row r of `n_rows` and each panel of `n_columns`: its
    /// product row(r), of k values, times what gather(first column, first, depth, block) gives, inputs [first, first +
    /// depth) of a panel as (depth, Panel<T>::width).
    template <class Row, class Gather, class Write>
    void multiply(std::size_t n_rows, std::size_t k, std::size_t n_columns, Row&& row, Gather&& gather,
                  Write&& write) const {
        constexpr std::size_t width = Panel<T>::width;
        if (n_rows == 0 || k == 0) {
            return;
        }
        const ProductCut cut(n_rows, divide_up(n_columns, width), threads_.concurrency(), Panel<T>::tile_rows);
        run_tasks("backward", threads_, cut.n_tasks(), n_rows * k * n_columns, [&](std::size_t task, std::size_t ith) {
            const ProductCut::Part part = cut.part(task);
            const PanelScratch<T> scratch = scratch_of(ith).panel;
            for (std::size_t r = 0; r < part.n_rows; ++r) {
                scratch.rows[r] = reinterpret_cast<const std::byte*>(row(part.first_row + r));
            }
            const auto gather_block = [&](std::size_t i, std::size_t first, std::size_t depth, T* block) {
                gather((part.panels.first + i) * width, first, depth, block);
            };
            multiply_gathered<T>(scratch.rows.first(part.n_rows), k, part.panels.count, scratch, {gather_block});
            for (std::size_t i = 0; i < part.panels.count; ++i) {
                const std::size_t first = (part.panels.first + i) * width;
                for (std::size_t r = 0; r < part.n_rows; ++r) {
                    write(part.first_row + r, first, (std::min)(width, n_columns - first),
                          scratch.sums_of(i, part.n_rows) + r * width);
                }
            }
        });
    }

    /// target (a.columns, b.columns) += the sum of outer products of rows, see add_outer.
    void add_outer(const OuterRows<T>& a, const OuterRows<T>& b, const OuterTarget<T>& target) const {
        const std::size_t down = divide_up(a.columns, strip);
        const std::size_t across = divide_up(b.columns, strip);
        const auto cut = [](OuterRows<T> rows, std::size_t first) {
            rows.first_column += first;
            rows.columns = (std::min)(strip, rows.columns - first);
            return rows;
        };
        run_tasks("backward", threads_, down * across, a.rows.size() * a.columns * b.columns,
                  [&](std::size_t task, std::size_t ith) {
                      const std::size_t i = task / across * strip;
                      const std::size_t j = task % across * strip;
                      moe::add_outer(cut(a, i), cut(b, j), target.at(i, j), scratch_of(ith).outer);
                  });
    }
    /// The same to the gradients of one matrix, if they are wanted.
    void add_outer(const OuterRows<T>& a, const OuterRows<T>& b, const MutableStack<T>& stack) const {
        if (!stack.empty()) {
            const auto matrix = stack.matrix(0);
            add_outer(a, b, OuterTarget<T>{matrix.data, matrix.output_stride, matrix.input_stride});
        }
    }

private:
    static constexpr std::size_t strip = 384;  ///< rows or columns of an outer product that a task takes

    struct Scratch {
        PanelScratch<T> panel;
        OuterScratch<T> outer;

        [[nodiscard]] static Scratch take(Arena& arena) {
            return {PanelScratch<T>::take(arena), OuterScratch<T>::take(arena)};
        }
    };
    [[nodiscard]] Scratch scratch_of(std::size_t ith) const {
        Arena mine(workers_.data() + ith * bytes_, bytes_);
        return Scratch::take(mine);
    }

    const ExecutorRef& threads_;
    std::size_t bytes_ = 0;
    std::span<std::byte> workers_;
};

/// Panels of the matrix whose row j is at row(j), of `n_columns` values: for rows that weigh these.
template <class T, class Row>
[[nodiscard]] auto gather_rows(std::size_t n_columns, Row row) {
    return [=](std::size_t first_column, std::size_t first, std::size_t depth, T* block) {
        constexpr std::size_t width = Panel<T>::width;
        const std::size_t columns = (std::min)(width, n_columns - first_column);
        for (std::size_t j = 0; j < depth; ++j, block += width) {
            const T* const from = row(first + j) + first_column;
            std::fill(std::copy_n(from, columns, block), block + width, T(0));
        }
    };
}

/// Panels of its transpose: for dot products with its `n_rows` rows.
template <class T, class Row>
[[nodiscard]] auto gather_transposed_rows(std::size_t n_rows, Row row) {
    return [=](std::size_t first_row, std::size_t first, std::size_t depth, T* block) {
        constexpr std::size_t width = Panel<T>::width;
        const std::size_t rows = (std::min)(width, n_rows - first_row);
        for (std::size_t c = 0; c < width; ++c) {
            const T* const from = c < rows ? row(first_row + c) + first : nullptr;
            for (std::size_t j = 0; j < depth; ++j) {
                block[j * width + c] = c < rows ? from[j] : T(0);
            }
        }
    };
}

/// Panels of the transposed weights of a product.
template <WeightElement W>
[[nodiscard]] auto gather_weights(const Linear<W>& linear) {
    return [&linear](std::size_t first_column, std::size_t first, std::size_t depth, ComputeType<W>* block) {
        linear.gather_transposed(first_column, first, depth, block);
    };
}

}  // namespace moe::inline MOE_ABI::detail
