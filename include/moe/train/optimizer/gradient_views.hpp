#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <utility>
#include <vector>

#include "../../core/alignment.hpp"
#include "../../core/emptied.hpp"
#include "../../core/overlap.hpp"
#include "../parts/gradients.hpp"

namespace moe::inline MOE_ABI {

/// All gradients of a step where they lie, each once, as one sequence: in the order in which they were added, of a
/// stack expert after expert, of each matrix as its memory runs. Made once, used at every step: zero_gradients,
/// scale_gradients, squared_norm, clip_by_global_norm, all_finite. The memory must outlive it.
template <class T>
class GradientViews {
public:
    /// None.
    GradientViews() = default;
    explicit GradientViews(const LayerGradients<T>& gradients) { add(gradients); }
    GradientViews(std::initializer_list<std::span<T>> spans) {
        for (const std::span<T>& values : spans) {
            add(values);
        }
    }

    /// Each throws Error(layout) where memory is there already, which would count twice in a norm and be scaled twice,
    /// and Error(alignment); what came before it stays. Allocates. Complexity: what is added times what there is, in
    /// pieces: a contiguous stack is one.
    void add(std::span<T> values) { add_rows({values.data(), 1, values.size(), values.size(), 1, 0}); }
    void add(MatrixView<T> matrix) { add_rows({matrix.data(), matrix.rows(), matrix.cols(), matrix.stride(), 1, 0}); }
    void add(const MutableStack<T>& stack) {
        for (std::size_t e = 0; e < stack.n_experts(); ++e) {
            const typename MutableStack<T>::Matrix matrix = stack.matrix(e);
            add_rows({matrix.data, stack.outputs(), stack.inputs(), matrix.output_stride, matrix.input_stride, 0});
        }
    }
    void add(const ExpertGradients<T>& experts) {
        for (const MutableStack<T>* stack :
             {&experts.gate, &experts.up, &experts.down, &experts.gate_bias, &experts.up_bias, &experts.down_bias}) {
            add(*stack);
        }
        for (const LoraPairGradients<T>* pair : {&experts.lora.gate, &experts.lora.up, &experts.lora.down}) {
            add(pair->a);
            add(pair->b);
        }
    }
    /// Those of the parameters of a layer: all but router_input.
    void add(const LayerGradients<T>& layer) {
        add(layer.router);
        add(layer.router_bias);
        add(layer.experts);
        for (const ExpertGradients<T>& shared : layer.shared) {
            add(shared);
        }
        add(layer.shared_gate);
        add(layer.output_bias);
        add(layer.constants);
        add(layer.mixes);
    }

    /// Gradients in all.
    [[nodiscard]] std::size_t size() const noexcept { return size_.get(); }

    /// Calls run(data, n, stride) for runs of [first, first + count) of the sequence, in order.
    template <class Run>
    void for_each_run(std::size_t first, std::size_t count, Run&& run) const {
        if (count == 0) {
            return;
        }
        auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), first,
                                      [](std::size_t at, const Rows& rows) { return at < rows.first; });
        for (--piece; count > 0; ++piece) {
            for (std::size_t at = first - piece->first; at < piece->rows * piece->cols && count > 0;) {
                const std::size_t column = at % piece->cols;
                const std::size_t n = (std::min)(count, piece->cols - column);
                run(piece->data + at / piece->cols * piece->row_stride + column * piece->col_stride, n,
                    piece->col_stride);
                at += n;
                first += n;
                count -= n;
            }
        }
    }

private:
    /// Element (r, c) is at data[r * row_stride + c * col_stride]. `first` elements come before.
    struct Rows {
        T* data;
        std::size_t rows;
        std::size_t cols;
        std::size_t row_stride;
        std::size_t col_stride;
        std::size_t first;
    };

    void add_rows(Rows added) {
        if (added.rows == 0 || added.cols == 0) {
            return;
        }
        require_aligned(added.data, "GradientViews", "gradients");
        if (added.cols == 1 || (added.rows > 1 && added.row_stride < added.col_stride)) {  // transposed
            std::swap(added.rows, added.cols);
            std::swap(added.row_stride, added.col_stride);
        }
        if (added.rows == 1 || added.row_stride == added.cols * added.col_stride) {  // nothing between rows
            added.cols *= added.rows;
            added.rows = 1;
            added.row_stride = added.cols * added.col_stride;
        }
        for (const Rows& present : pieces_) {
            ensure(!shares_memory(present, added), ErrorCode::layout, "GradientViews: ", added.rows, " x ", added.cols,
                   " gradients share memory with ", present.rows, " x ", present.cols,
                   " that were added before: each counts once");
        }
        added.first = size();
        size_ = Emptied<std::size_t>(size() + added.rows * added.cols);
        if (!pieces_.empty()) {
            Rows& last = pieces_.back();
            if (added.rows == 1 && last.rows == 1 && added.col_stride == 1 && last.col_stride == 1 &&
                last.data + last.cols == added.data) {  // experts of a contiguous stack
                last.cols += added.cols;
                last.row_stride = last.cols;
                return;
            }
        }
        pieces_.push_back(added);
    }

    /// Exact for windows of one matrix, and for elements of it taken by turns, such as interleaved halves.
    [[nodiscard]] static bool shares_memory(const Rows& a, const Rows& b) {
        const std::size_t step = a.col_stride;
        if (step == b.col_stride && a.row_stride % step == 0 && b.row_stride % step == 0) {
            const auto at = [](const T* data) { return reinterpret_cast<std::uintptr_t>(data) / sizeof(T); };
            if ((at(a.data) > at(b.data) ? at(a.data) - at(b.data) : at(b.data) - at(a.data)) % step != 0) {
                return false;
            }
        }
        return overlaps(extent(a), extent(b));
    }
    /// The rows with all that lies between their elements.
    [[nodiscard]] static MatrixView<T> extent(const Rows& m) {
        return view(m.data, m.rows, (m.cols - 1) * m.col_stride + 1, m.row_stride);
    }

    std::vector<Rows> pieces_;
    Emptied<std::size_t> size_;
};

}  // namespace moe::inline MOE_ABI
