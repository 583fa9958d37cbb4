#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "../core/alignment.hpp"
#include "../core/borrowed.hpp"
#include "../experts/product_tasks.hpp"
#include "../kernels/in_place_product.hpp"

namespace moe::inline MOE_ABI {

/// Rows whose product with a Linear may be cut along its inputs.
inline constexpr std::size_t few_linear_rows = 8;

/// rows * weights of one stack, panel by panel: what the router and the gates of shared experts need.
template <WeightElement W>
class Linear {
public:
    using T = ComputeType<W>;

    Linear() = default;

    /// weight (outputs, inputs), bias (outputs) or empty; both stay the user's.
    explicit Linear(WeightStack<W> weight, Borrowed<const W> bias = {}) : weight_(std::move(weight)), bias_(bias) {
        ensure(weight_.n_experts() == 1, ErrorCode::shape, "Linear: one matrix is expected, not a stack of ",
               weight_.n_experts());
        ensure(bias.empty() || bias.size() == weight_.outputs(), ErrorCode::shape, "Linear: ", bias.size(),
               " biases for ", weight_.outputs(), " outputs");
    }

    [[nodiscard]] bool empty() const noexcept { return weight_.empty(); }
    [[nodiscard]] std::size_t outputs() const noexcept { return weight_.outputs(); }
    [[nodiscard]] std::size_t inputs() const noexcept { return weight_.inputs(); }
    [[nodiscard]] std::size_t panels() const noexcept { return divide_up(outputs(), Panel<T>::width); }
    /// Whether the weights are panels of its own, or gathered from the user's memory at every use.
    [[nodiscard]] bool is_packed() const noexcept { return panels_ != nullptr; }
    /// What it was made of, in the user's memory; of a packed one this may be gone, only its sizes may be asked for.
    [[nodiscard]] const WeightStack<W>& weight() const& noexcept { return weight_; }
    const WeightStack<W>& weight() const&& = delete;  // temporary: give it a name, this is a part of it
    [[nodiscard]] std::span<const W> bias() const noexcept { return bias_; }

    /// y (n_rows, outputs) = x (n_rows, inputs) * weight + bias, not overlapping: what a router reads of a token
    /// through a transform, a latent projection. Throws Error(shape, alignment, layout) before anything is written.
    /// Allocates nothing once `workspace` has grown. A row has the same bits in any batch and for any number of
    /// threads.
    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const E& executor = {}) const;

    /// Whether `memory` has bytes in common with what a product reads: weights or their panels, and biases.
    [[nodiscard]] bool overlaps(const ByteView& memory) const {
        return moe::overlaps(memory, bytes_of(bias_)) ||
               (is_packed() ? moe::overlaps(memory, bytes_of(std::span(panels_->data(), panels_->size())))
                            : weight_.overlaps(memory));
    }

    /// y (n_rows, the outputs of some panels) = x (n_rows, inputs) * weight + bias, stored where these outputs stand in
    /// rows of `stride` that begin at `y`.
    void compute_panels(PanelRange panels, RowPointers x, T* y, std::size_t stride,
                        const PanelScratch<T>& scratch) const;

    /// The same of one panel, where row r is y[r].
    void compute_panel(std::size_t panel, RowPointers x, std::span<T* const> y, const PanelScratch<T>& scratch) const {
        multiply({panel, 1}, x, scratch);
        store_panel(panel, x.size(), scratch.sums.data(), [&](std::size_t r) { return y[r]; });
    }

    /// A panel of the transposed weights, for the backward pass: its outputs are the inputs from `first_input` on, its
    /// inputs the outputs [first, first + depth), as (depth, width) at `block`.
    void gather_transposed(std::size_t first_input, std::size_t first, std::size_t depth, T* block) const;

    /// Parts of the same for up to few_linear_rows rows, when a panel is to be shared by several workers: the sums
    /// (n_rows, width) of each of the blocks [first, end) of Panel<T>::depth inputs of a panel, one behind the other.
    /// Only of packed weights.
    void compute_blocks(std::size_t panel, std::size_t first, std::size_t end, RowPointers x, T* sums,
                        const PanelScratch<T>& scratch) const;

    /// y as compute_panels leaves it, from the sums of all `n_blocks` blocks of a panel: equal bits. Overwrites `sums`.
    void add_blocks(std::size_t panel, std::size_t n_blocks, std::size_t n_rows, T* sums, T* y,
                    std::size_t stride) const;

    /// The same with its weights copied once into panels: equal bits, faster. Copies of it share the panels. Throws
    /// std::bad_alloc.
    [[nodiscard]] Linear packed(const ExecutorRef& executor) const;

    /// The weights and biases of `from` as they are now in place of its own, for training: where this one is packed,
    /// into its panels, which its copies see. No call may use them meanwhile. Throws as confirm_repack does.
    void repack(const Linear& from, const ExecutorRef& executor);
    /// Throws Error(shape) where `from` has other sizes.
    void confirm_repack(const Linear& from) const {
        ensure(from.outputs() == outputs() && from.inputs() == inputs(), ErrorCode::shape, "Linear: weights of ",
               from.outputs(), " x ", from.inputs(), " cannot take the place of ", outputs(), " x ", inputs());
    }

private:
    void pack_into(std::byte* memory, const ExecutorRef& executor) const;

    /// scratch.sums = x * weight.
    void multiply(PanelRange panels, RowPointers x, const PanelScratch<T>& scratch) const;

    /// Sums (n_rows, width) of a panel, with their biases, where they belong in row(r).
    template <class Row>
    void store_panel(std::size_t panel, std::size_t n_rows, const T* sums, const Row& row) const;

    WeightStack<W> weight_;
    std::span<const W> bias_;
    std::shared_ptr<const AlignedBuffer> panels_;
};

template <WeightElement W>
void Linear<W>::compute_panels(PanelRange panels, RowPointers x, T* y, std::size_t stride,
                               const PanelScratch<T>& scratch) const {
    multiply(panels, x, scratch);
    for (std::size_t i = 0; i < panels.count; ++i) {
        store_panel(panels.first + i, x.size(), scratch.sums_of(i, x.size()),
                    [&](std::size_t r) { return y + r * stride; });
    }
}

template <WeightElement W>
void Linear<W>::multiply(PanelRange panels, RowPointers x, const PanelScratch<T>& scratch) const {
    if (panels_ != nullptr) {
        const std::size_t bytes = inputs() * Panel<T>::width * sizeof(W);
        multiply_packed<W>(x, inputs(), {panels_->data() + panels.first * bytes, panels.count, bytes}, scratch);
    } else {
        constexpr std::size_t width = Panel<T>::width;
        const auto panel = [&](std::size_t i) {
            return PanelView<W>{detail::view_columns(weight_, 0, (panels.first + i) * width, width)};
        };
        multiply_views<W>(x, inputs(), panels.count, scratch, panel);
    }
}

template <WeightElement W>
void Linear<W>::compute_blocks(std::size_t panel, std::size_t first, std::size_t end, RowPointers x, T* sums,
                               const PanelScratch<T>& scratch) const {
    constexpr std::size_t width = Panel<T>::width;
    std::array<const std::byte*, few_linear_rows> rows{};
    const RowPointers part = RowPointers(rows).first(x.size());
    for (std::size_t b = first; b < end; ++b, sums += x.size() * width) {
        const std::size_t begin = b * Panel<T>::depth;
        const std::size_t depth = (std::min)(Panel<T>::depth, inputs() - begin);
        for (std::size_t r = 0; r < x.size(); ++r) {
            rows[r] = x[r] + begin * sizeof(T);
        }
        multiply_packed<W>(part, depth, {panels_->data() + (panel * inputs() + begin) * width * sizeof(W), 1, 0},
                           scratch);
        std::copy_n(scratch.sums.data(), x.size() * width, sums);
    }
}

template <WeightElement W>
void Linear<W>::add_blocks(std::size_t panel, std::size_t n_blocks, std::size_t n_rows, T* sums, T* y,
                           std::size_t stride) const {
    const std::size_t size = n_rows * Panel<T>::width;
    for (std::size_t b = 1; b < n_blocks; ++b) {
        std::transform(sums, sums + size, sums + b * size, sums, [](T sum, T block) { return sum + block; });
    }
    store_panel(panel, n_rows, sums, [&](std::size_t r) { return y + r * stride; });
}

template <WeightElement W>
void Linear<W>::gather_transposed(std::size_t first_input, std::size_t first, std::size_t depth, T* block) const {
    constexpr std::size_t width = Panel<T>::width;
    const std::size_t count = (std::min)(width, inputs() - first_input);
    if (panels_ == nullptr) {
        return pack_block(weight_.transposed_block(0, first_input, count), first, depth, width, block, width);
    }
    const W* const panels = reinterpret_cast<const W*>(panels_->data());
    for (std::size_t o = first; o < first + depth; ++o, block += width) {
        const W* const column = panels + (o / width * inputs() + first_input) * width + o % width;
        for (std::size_t c = 0; c < width; ++c) {
            block[c] = c < count ? load_element(column + c * width) : T(0);
        }
    }
}

template <WeightElement W>
Linear<W> Linear<W>::packed(const ExecutorRef& executor) const {
    Linear result = *this;
    if (!empty()) {
        auto memory = std::make_shared<AlignedBuffer>(
            checked_multiply(checked_multiply(panels(), inputs()), Panel<T>::width * sizeof(W)));
        result.panels_ = memory;
        pack_into(memory->data(), executor);
    }
    return result;
}

template <WeightElement W>
void Linear<W>::repack(const Linear& from, const ExecutorRef& executor) {
    confirm_repack(from);
    weight_ = from.weight_;
    bias_ = from.bias_;
    if (is_packed()) {
        pack_into(panels_->data(), executor);
    }
}

template <WeightElement W>
void Linear<W>::pack_into(std::byte* memory, const ExecutorRef& executor) const {
    TaskQueue queue;
    executor.run([&](std::size_t, std::size_t) {
        for (std::size_t panel = queue.take(); panel < panels(); panel = queue.take()) {
            detail::pack_columns(weight_, 0, panel * Panel<T>::width, Panel<T>::width, 0, inputs(),
                                 reinterpret_cast<W*>(memory) + panel * inputs() * Panel<T>::width);
        }
    });
}

template <WeightElement W>
template <class Row>
void Linear<W>::store_panel(std::size_t panel, std::size_t n_rows, const T* sums, const Row& row) const {
    const std::size_t first = panel * Panel<T>::width;
    const std::size_t columns = (std::min)(Panel<T>::width, outputs() - first);
    std::array<T, Panel<T>::width> bias{};
    for (std::size_t c = 0; c < columns && !bias_.empty(); ++c) {
        bias[c] = static_cast<T>(load_element(bias_.data() + first + c));
    }
    for (std::size_t r = 0; r < n_rows; ++r, sums += Panel<T>::width) {
        T* const y = row(r) + first;
        for (std::size_t c = 0; c < columns; ++c) {
            y[c] = sums[c] + bias[c];
        }
    }
}

/// Any Linear by reference, so that what multiplies with it is compiled once for each compute type. Members as there.
template <class T>
class LinearRef {
public:
    /// Of no outputs.
    LinearRef() = default;

    template <WeightElement W>
    explicit LinearRef(const Linear<W>& linear)
        : linear_(&linear),
          outputs_(linear.outputs()),
          inputs_(linear.inputs()),
          is_packed_(linear.is_packed()),
          overlaps_([](const void* self, const ByteView& memory) {
              return static_cast<const Linear<W>*>(self)->overlaps(memory);
          }),
          compute_panels_([](const void* self, PanelRange panels, RowPointers x, T* y, std::size_t stride,
                             const PanelScratch<T>& scratch) {
              static_cast<const Linear<W>*>(self)->compute_panels(panels, x, y, stride, scratch);
          }),
          gather_transposed_(
              [](const void* self, std::size_t first_input, std::size_t first, std::size_t depth, T* block) {
                  static_cast<const Linear<W>*>(self)->gather_transposed(first_input, first, depth, block);
              }),
          compute_blocks_([](const void* self, std::size_t panel, std::size_t first, std::size_t end, RowPointers x,
                             T* sums, const PanelScratch<T>& scratch) {
              static_cast<const Linear<W>*>(self)->compute_blocks(panel, first, end, x, sums, scratch);
          }),
          add_blocks_([](const void* self, std::size_t panel, std::size_t n_blocks, std::size_t n_rows, T* sums, T* y,
                         std::size_t stride) {
              static_cast<const Linear<W>*>(self)->add_blocks(panel, n_blocks, n_rows, sums, y, stride);
          }) {}

    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }
    [[nodiscard]] std::size_t panels() const noexcept { return divide_up(outputs_, Panel<T>::width); }
    [[nodiscard]] bool is_packed() const noexcept { return is_packed_; }
    [[nodiscard]] bool overlaps(const ByteView& memory) const {
        return linear_ != nullptr && overlaps_(linear_, memory);
    }

    void compute_panels(PanelRange panels, RowPointers x, T* y, std::size_t stride,
                        const PanelScratch<T>& scratch) const {
        compute_panels_(linear_, panels, x, y, stride, scratch);
    }
    void gather_transposed(std::size_t first_input, std::size_t first, std::size_t depth, T* block) const {
        gather_transposed_(linear_, first_input, first, depth, block);
    }
    void compute_blocks(std::size_t panel, std::size_t first, std::size_t end, RowPointers x, T* sums,
                        const PanelScratch<T>& scratch) const {
        compute_blocks_(linear_, panel, first, end, x, sums, scratch);
    }
    void add_blocks(std::size_t panel, std::size_t n_blocks, std::size_t n_rows, T* sums, T* y,
                    std::size_t stride) const {
        add_blocks_(linear_, panel, n_blocks, n_rows, sums, y, stride);
    }

private:
    const void* linear_ = nullptr;
    std::size_t outputs_ = 0;
    std::size_t inputs_ = 0;
    bool is_packed_ = false;
    bool (*overlaps_)(const void*, const ByteView&) = nullptr;
    void (*compute_panels_)(const void*, PanelRange, RowPointers, T*, std::size_t, const PanelScratch<T>&) = nullptr;
    void (*gather_transposed_)(const void*, std::size_t, std::size_t, std::size_t, T*) = nullptr;
    void (*compute_blocks_)(const void*, std::size_t, std::size_t, std::size_t, RowPointers, T*,
                            const PanelScratch<T>&) = nullptr;
    void (*add_blocks_)(const void*, std::size_t, std::size_t, std::size_t, T*, T*, std::size_t) = nullptr;
};

namespace detail {

/// Linear::forward, compiled once for a compute type.
template <class T>
void multiply_rows(const LinearRef<T>& linear, MatrixView<const T> x, MatrixView<T> y, Workspace& workspace,
                   const ExecutorRef& threads) {
    ensure(linear.outputs() > 0, ErrorCode::state, "Linear: it has no weights, or was moved from");
    ensure(x.cols() == linear.inputs() && y.cols() == linear.outputs() && x.rows() == y.rows(), ErrorCode::shape,
           "Linear: x is ", x.rows(), " x ", x.cols(), " and y is ", y.rows(), " x ", y.cols(),
           ", they must be n_rows x ", linear.inputs(), " and n_rows x ", linear.outputs());
    require_aligned(x.data(), "Linear", "x");
    require_aligned(y.data(), "Linear", "y");
    require_disjoint("Linear", "x", x, "y", y);
    refuse_overlap("Linear", "y", linear.overlaps(bytes_of(y)) ? "the weights or biases" : nullptr);
    refuse_overlap("Linear", "the workspace",
                   overlapped(bytes_of(workspace.memory()), {{"x", bytes_of(x)}, {"y", bytes_of(y)}}));
    Arena measure;
    (void)WorkerScratch<T>::take(measure, threads.concurrency());
    const WorkspaceLease lease = workspace.lease(measure.used());
    Arena arena = lease.arena();
    const auto scratch = WorkerScratch<T>::take(arena, threads.concurrency());
    if (x.rows() == 0) {
        return;
    }
    const ProductCut cut(x.rows(), linear.panels(), threads.concurrency(), Panel<T>::tile_rows);
    run_tasks("Linear", threads, cut.n_tasks(), x.rows() * x.cols() * y.cols(), [&](std::size_t task, std::size_t ith) {
        const ProductCut::Part part = cut.part(task);
        const PanelScratch<T> mine = scratch.of(ith);
        for (std::size_t r = 0; r < part.n_rows; ++r) {
            mine.rows[r] = reinterpret_cast<const std::byte*>(x.row(part.first_row + r));
        }
        linear.compute_panels(part.panels, mine.rows.first(part.n_rows), y.row(part.first_row), y.stride(), mine);
    });
}

}  // namespace detail

template <WeightElement W>
template <Executor E>
void Linear<W>::forward(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const E& executor) const {
    detail::multiply_rows<T>(LinearRef<T>(*this), x, y, workspace, ExecutorRef(executor));
}

}  // namespace moe::inline MOE_ABI
