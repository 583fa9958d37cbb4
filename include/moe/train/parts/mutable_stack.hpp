#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "../../experts/weight_stack.hpp"

namespace moe::inline MOE_ABI {

/// One matrix an expert in the user's memory, to be added to: where gradients go, in any order that weights have. Made
/// by stacked_gradients() or separate_gradients(), then transpose(), concatenated(), interleaved() as for weights. An
/// empty one says that these gradients are not wanted.
template <class T>
class MutableStack {
public:
    /// Not wanted.
    MutableStack() = default;

    [[nodiscard]] bool empty() const noexcept { return layout_.empty(); }
    [[nodiscard]] std::size_t n_experts() const noexcept { return layout_.n_experts(); }
    [[nodiscard]] std::size_t outputs() const noexcept { return layout_.outputs(); }
    [[nodiscard]] std::size_t inputs() const noexcept { return layout_.inputs(); }

    /// Element (output, input) of expert e is at `data[output * output_stride + input * input_stride]`.
    struct Matrix {
        T* data;
        std::size_t output_stride;
        std::size_t input_stride;
    };
    [[nodiscard]] Matrix matrix(std::size_t e) const noexcept {
        const WeightBlock<T> block = layout_.block(e, 0, 1);
        return {const_cast<T*>(block.data), block.output_stride, block.input_stride};  // it was given as T*
    }

    [[nodiscard]] bool overlaps(const ByteView& memory) const { return layout_.overlaps(memory); }

    [[nodiscard]] MutableStack transposed() const { return MutableStack(layout_.transposed()); }
    /// As WeightStack::outputs_slice.
    [[nodiscard]] MutableStack outputs_slice(std::size_t first, std::size_t step, std::size_t count) const {
        return MutableStack(layout_.outputs_slice(first, step, count));
    }

private:
    template <class U>
    friend MutableStack<U> stacked_gradients(U* data, std::size_t n_experts, std::size_t rows, std::size_t cols);
    template <class U>
    friend MutableStack<U> separate_gradients(const std::vector<U*>& experts, std::size_t rows, std::size_t cols);

    explicit MutableStack(WeightStack<T> layout) : layout_(std::move(layout)) {}

    WeightStack<T> layout_;
};

/// (n_experts, rows, cols), row-major and contiguous. Throws as stacked() does.
template <class T>
[[nodiscard]] MutableStack<T> stacked_gradients(T* data, std::size_t n_experts, std::size_t rows, std::size_t cols) {
    return MutableStack<T>(stacked(static_cast<const T*>(data), n_experts, rows, cols));
}

/// One pointer an expert, each to (rows, cols), row-major. Throws as separate() does.
template <class T>
[[nodiscard]] MutableStack<T> separate_gradients(const std::vector<T*>& experts, std::size_t rows, std::size_t cols) {
    return MutableStack<T>(separate(std::vector<const T*>(experts.begin(), experts.end()), rows, cols));
}

/// Gradients stored (input, output) read as (output, input).
template <class T>
[[nodiscard]] MutableStack<T> transpose(const MutableStack<T>& stack) {
    return stack.transposed();
}

/// Those of the two input projections of a gated expert.
template <class T>
struct GateUpGradients {
    MutableStack<T> gate;
    MutableStack<T> up;
};

/// Gate and up in one matrix of 2 * d_ff outputs, as for weights.
template <class T>
[[nodiscard]] GateUpGradients<T> concatenated(const MutableStack<T>& stack) {
    ensure(stack.outputs() % 2 == 0, ErrorCode::shape, "concatenated: ", stack.outputs(),
           " outputs cannot be a gate half and an up half");
    const std::size_t half = stack.outputs() / 2;
    return {stack.outputs_slice(0, 1, half), stack.outputs_slice(half, 1, half)};
}
template <class T>
[[nodiscard]] GateUpGradients<T> interleaved(const MutableStack<T>& stack) {
    ensure(stack.outputs() % 2 == 0, ErrorCode::shape, "interleaved: ", stack.outputs(),
           " outputs cannot be pairs of gate and up");
    const std::size_t half = stack.outputs() / 2;
    return {stack.outputs_slice(0, 2, half), stack.outputs_slice(1, 2, half)};
}

}  // namespace moe::inline MOE_ABI
