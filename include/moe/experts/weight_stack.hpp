#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../core/emptied.hpp"
#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../core/never.hpp"
#include "../core/overlap.hpp"
#include "../formats/element.hpp"
#include "../kernels/pack.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// What a vector that was meant to be weights holds.
template <class N>
concept Number = std::is_arithmetic_v<std::remove_cvref_t<N>> || WeightElement<std::remove_cvref_t<N>>;

}  // namespace detail

/// One matrix an expert, in the user's memory and in whatever order it is stored there: weight (e, output, input) is at
/// `base(e)[output * output_stride + input * input_stride]`. Every layout of the released models is such a stack, made
/// by stacked() or separate() and, where needed, transpose(), concatenated() or interleaved(). Pointers may have any
/// alignment. The weights must outlive the stack; a table of pointers is copied.
template <WeightElement W>
class WeightStack {
public:
    using element_type = W;

    /// No matrices: "there is no such bias".
    WeightStack() = default;

    /// Experts `expert_stride` elements apart. Throws Error: null data, zero sizes, overlapping strides, overflow.
    WeightStack(const W* data, std::size_t n_experts, std::size_t rows, std::size_t cols, std::size_t row_stride,
                std::size_t expert_stride)
        : data_(data),
          expert_stride_(expert_stride),
          n_experts_(n_experts),
          outputs_(rows),
          inputs_(cols),
          output_stride_(row_stride) {
        check_shape();
        ensure(data != nullptr, ErrorCode::null_pointer, "stacked: null weights for ", n_experts, " experts of ", rows,
               " x ", cols);
        ensure(n_experts == 1 || expert_stride >= matrix_extent(), ErrorCode::stride, "stacked: the expert stride ",
               expert_stride, " is smaller than a matrix of ", rows, " x ", cols, " with row stride ", row_stride);
        (void)checked_multiply(checked_add(checked_multiply(n_experts - 1, expert_stride), matrix_extent()), sizeof(W));
    }

    /// One pointer an expert.
    WeightStack(std::span<const W* const> experts, std::size_t rows, std::size_t cols, std::size_t row_stride)
        : table_(experts.begin(), experts.end()),
          n_experts_(experts.size()),
          outputs_(rows),
          inputs_(cols),
          output_stride_(row_stride) {
        check_shape();
        for (std::size_t e = 0; e < table_.size(); ++e) {
            ensure(table_[e] != nullptr, ErrorCode::null_pointer, "separate: null weights for expert ", e, " of ",
                   n_experts_.get());
        }
        (void)checked_multiply(matrix_extent(), sizeof(W));
    }

    /// Weights of another type than those beside them: told so.
    template <WeightElement V>
        requires(!std::same_as<V, W>)
    WeightStack(const WeightStack<V>&) {  // NOLINT: implicit, as the mistake is
        static_assert(detail::never<V>,
                      "weights: gate, up, down and biases of a bank must be of one type, all float for example.");
    }

    [[nodiscard]] bool empty() const noexcept { return n_experts_.get() == 0; }
    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_.get(); }
    [[nodiscard]] std::size_t outputs() const noexcept { return outputs_; }
    [[nodiscard]] std::size_t inputs() const noexcept { return inputs_; }

    /// Outputs [first, first + count) of expert `e`.
    [[nodiscard]] WeightBlock<W> block(std::size_t e, std::size_t first, std::size_t count) const noexcept {
        const W* const base = table_.empty() ? data_ + e * expert_stride_ : table_[e];
        return {base + first * output_stride_, count, output_stride_, input_stride_};
    }

    /// Inputs [first, first + count) of expert `e`, as the outputs of the transposed matrix.
    [[nodiscard]] WeightBlock<W> transposed_block(std::size_t e, std::size_t first, std::size_t count) const noexcept {
        const W* const base = table_.empty() ? data_ + e * expert_stride_ : table_[e];
        return {base + first * input_stride_, count, input_stride_, output_stride_};
    }

    /// The same memory read with rows and columns exchanged.
    [[nodiscard]] WeightStack transposed() const {
        WeightStack result = *this;
        std::swap(result.outputs_, result.inputs_);
        std::swap(result.output_stride_, result.input_stride_);
        return result;
    }

    /// Every `step`-th output from `first` on, `count` of them. Throws Error(range) when there are none, a step is 0,
    /// or they leave the matrix.
    [[nodiscard]] WeightStack outputs_slice(std::size_t first, std::size_t step, std::size_t count) const {
        ensure(count > 0 && step > 0, ErrorCode::range, "WeightStack: ", count, " outputs in steps of ", step,
               "; both must be at least 1");
        ensure(first < outputs_ && count - 1 <= (outputs_ - 1 - first) / step, ErrorCode::range, "WeightStack: ", count,
               " outputs from ", first, " in steps of ", step, " leave a matrix of ", outputs_);
        WeightStack result = *this;
        if (result.table_.empty()) {
            result.data_ += first * output_stride_;
        }
        for (const W*& pointer : result.table_) {
            pointer += first * output_stride_;
        }
        result.outputs_ = count;
        result.output_stride_ = step * output_stride_;
        return result;
    }

    /// Expert `e` alone.
    [[nodiscard]] WeightStack expert(std::size_t e) const {
        ensure(e < n_experts_.get(), ErrorCode::range, "WeightStack: expert ", e, " of ", n_experts_.get());
        WeightStack result = *this;
        result.n_experts_ = Emptied<std::size_t>(1);
        if (result.table_.empty()) {
            result.data_ += e * expert_stride_;
        } else {
            result.table_ = {table_[e]};
        }
        return result;
    }

    /// Whether `memory` has bytes in common with the weights. O(1) for stacks it stays clear of, else O(n_experts).
    [[nodiscard]] bool overlaps(const ByteView& memory) const;

private:
    /// The memory of expert `e`.
    [[nodiscard]] ByteView bytes_of_expert(std::size_t e) const;

    /// Elements from the first to the last of one matrix.
    [[nodiscard]] std::size_t matrix_extent() const {
        return checked_add(checked_multiply(outputs_ - 1, output_stride_), inputs_);
    }

    void check_shape() const {
        ensure(n_experts_.get() > 0 && outputs_ > 0 && inputs_ > 0, ErrorCode::shape, "WeightStack: ", n_experts_.get(),
               " experts of ", outputs_, " x ", inputs_, "; every size must be at least 1");
        ensure(outputs_ == 1 || output_stride_ >= inputs_, ErrorCode::stride, "WeightStack: the row stride ",
               output_stride_, " is smaller than the ", inputs_, " columns of a row");
    }

    const W* data_ = nullptr;
    std::vector<const W*> table_;
    std::size_t expert_stride_ = 0;
    Emptied<std::size_t> n_experts_;
    std::size_t outputs_ = 0;
    std::size_t inputs_ = 0;
    std::size_t output_stride_ = 0;
    std::size_t input_stride_ = 1;
};

template <WeightElement W>
bool WeightStack<W>::overlaps(const ByteView& memory) const {
    if (empty()) {
        return false;
    }
    if (table_.empty()) {
        const std::size_t extent = (outputs_ - 1) * output_stride_ + (inputs_ - 1) * input_stride_ +
                                   (n_experts_.get() - 1) * expert_stride_ + 1;
        if (!moe::overlaps(memory, bytes_of(std::span(data_, extent)))) {
            return false;
        }
    }
    for (std::size_t e = 0; e < n_experts_.get(); ++e) {
        if (moe::overlaps(memory, bytes_of_expert(e))) {
            return true;
        }
    }
    return false;
}

template <WeightElement W>
ByteView WeightStack<W>::bytes_of_expert(std::size_t e) const {
    const W* const base = table_.empty() ? data_ + e * expert_stride_ : table_[e];
    // rows are what lies further apart
    const bool by_output = outputs_ > 1 && (inputs_ == 1 || output_stride_ >= input_stride_);
    const std::size_t rows = by_output ? outputs_ : inputs_;
    const std::size_t stride = by_output ? output_stride_ : input_stride_;
    const std::size_t cols = by_output ? (inputs_ - 1) * input_stride_ : (outputs_ - 1) * output_stride_;
    return bytes_of(view(base, rows, cols + 1, stride));
}

/// Experts one behind the other: (n_experts, rows, cols), row-major, contiguous unless strides (in elements) are given.
template <WeightElement W>
[[nodiscard]] WeightStack<W> stacked(const W* data, std::size_t n_experts, std::size_t rows, std::size_t cols) {
    return {data, n_experts, rows, cols, cols, checked_multiply(rows, cols)};
}
template <WeightElement W>
[[nodiscard]] WeightStack<W> stacked(const W* data, std::size_t n_experts, std::size_t rows, std::size_t cols,
                                     std::size_t row_stride, std::size_t expert_stride) {
    return {data, n_experts, rows, cols, row_stride, expert_stride};
}

// Weights that are almost right are told what to be. What they return lets nothing else fail.
template <class W, class... Sizes>
    requires(!WeightElement<W>)
[[nodiscard]] WeightStack<float> stacked(const W*, Sizes...) {
    static_assert(
        detail::never<W>,
        "stacked: weights are float, double, moe::bfloat16 or moe::float16: moe::pack makes integers of these.");
    return {};
}
template <class Weights, class... Sizes>
    requires(requires(const Weights& weights) {
        { *weights.data() } -> detail::Number;
    })
[[nodiscard]] WeightStack<float> stacked(const Weights&, Sizes...) {
    static_assert(detail::never<Weights>,
                  "stacked: give the pointer, not the vector: moe::stacked(weights.data(), n_experts, rows, cols).");
    return {};
}

/// One pointer an expert, each to (rows, cols), row-major; the table is copied, the weights are not.
template <WeightElement W>
[[nodiscard]] WeightStack<W> separate(std::span<const W* const> experts, std::size_t rows, std::size_t cols) {
    return {experts, rows, cols, cols};
}
template <WeightElement W>
[[nodiscard]] WeightStack<W> separate(const std::vector<const W*>& experts, std::size_t rows, std::size_t cols) {
    return {std::span<const W* const>(experts), rows, cols, cols};
}
template <WeightElement W>
[[nodiscard]] WeightStack<W> separate(std::span<const W* const> experts, std::size_t rows, std::size_t cols,
                                      std::size_t row_stride) {
    return {experts, rows, cols, row_stride};
}

/// Weights stored (input, output) read as (output, input).
template <WeightElement W>
[[nodiscard]] WeightStack<W> transpose(const WeightStack<W>& stack) {
    return stack.transposed();
}

/// The two input projections of a gated expert: gate (n_experts, d_ff, d_model) and up, the same.
template <WeightElement W>
struct GateUp {
    WeightStack<W> gate;
    WeightStack<W> up;
};

/// Gate and up in one matrix of 2 * d_ff outputs: first all of gate, then all of up. Biases are stacks with one column.
template <WeightElement W>
[[nodiscard]] GateUp<W> concatenated(const WeightStack<W>& stack) {
    ensure(stack.outputs() % 2 == 0, ErrorCode::shape, "concatenated: ", stack.outputs(),
           " outputs cannot be a gate half and an up half");
    const std::size_t half = stack.outputs() / 2;
    return {stack.outputs_slice(0, 1, half), stack.outputs_slice(half, 1, half)};
}

/// Gate and up in one matrix of 2 * d_ff outputs: gate in the even ones, up in the odd ones (GPT-OSS).
template <WeightElement W>
[[nodiscard]] GateUp<W> interleaved(const WeightStack<W>& stack) {
    ensure(stack.outputs() % 2 == 0, ErrorCode::shape, "interleaved: ", stack.outputs(),
           " outputs cannot be pairs of gate and up");
    const std::size_t half = stack.outputs() / 2;
    return {stack.outputs_slice(0, 2, half), stack.outputs_slice(1, 2, half)};
}

}  // namespace moe::inline MOE_ABI
