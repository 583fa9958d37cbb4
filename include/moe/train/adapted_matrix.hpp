#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "merge_lora.hpp"
#include "parts/gradients.hpp"

namespace moe::inline MOE_ABI {

/// A frozen matrix W with a LoRA adapter, for routers: small enough that W + scale B A and its gradient are kept. A
/// router views weights(); backward() adds to gradient(), add_gradients() takes that on to A and B; after a step of the
/// optimiser, update() follows them. Of experts, whose matrices are large, LoraExperts forms neither.
///
///     moe::AdaptedMatrix<float> adapted(moe::view(router, n_experts, d_model), {a, b}, alpha / rank);
///     const moe::MoELayer layer{moe::Router{adapted.weights(), gate}, experts};
///     gradients.router = adapted.gradient();
///     moe::backward(layer, tape, dy, dx, gradients, workspace);
///     adapted.add_gradients({.a = da, .b = db});
template <class T>
class AdaptedMatrix {
public:
    /// `base` (outputs, inputs) and the adapter, stacks of one matrix each, are viewed and must outlive it. Throws
    /// Error(missing, shape), std::bad_alloc.
    AdaptedMatrix(MatrixView<const T> base, LoraPair<T> adapter, double scale)
        : base_(base),
          adapter_(std::move(adapter)),
          scale_(scale),
          weights_(checked_multiply(base.rows(), base.cols())),
          gradient_(weights_.size()) {
        detail::check_pair("a matrix", adapter_, 1, base.rows(), base.cols());
        update();
    }
    AdaptedMatrix(AdaptedMatrix&&) noexcept = default;
    AdaptedMatrix& operator=(AdaptedMatrix&&) noexcept = default;
    AdaptedMatrix(const AdaptedMatrix&) = delete;  // layers view the memory of this one
    AdaptedMatrix& operator=(const AdaptedMatrix&) = delete;
    ~AdaptedMatrix() = default;

    /// (outputs, inputs), in the same memory as long as this object, or one that it was moved to, lives.
    [[nodiscard]] MatrixView<const T> weights() const& { return view(weights_.data(), base_.rows(), base_.cols()); }
    MatrixView<const T> weights() const&& = delete;  // temporary: give it a name
    /// Of weights(): where backward() adds.
    [[nodiscard]] MutableStack<T> gradient() & {
        return stacked_gradients(gradient_.data(), 1, base_.rows(), base_.cols());
    }
    MutableStack<T> gradient() && = delete;  // temporary: give it a name

    /// weights() = W + scale B A of what A and B are now. Allocates nothing.
    void update() {
        for (std::size_t o = 0; o < base_.rows(); ++o) {
            std::copy_n(base_.row(o), base_.cols(), weights_.data() + o * base_.cols());
        }
        merge_lora(adapter_, scale_, stacked_gradients(weights_.data(), 1, base_.rows(), base_.cols()));
    }

    /// dA += scale B^T dW, dB += scale dW A^T; what is empty is not wanted. Then gradient() = 0, for the next batch.
    /// Throws Error(shape) before anything is written.
    void add_gradients(const LoraPairGradients<T>& to) {
        const auto confirm = [](const char* what, const MutableStack<T>& stack, const WeightStack<T>& of) {
            ensure(stack.empty() || (stack.n_experts() == of.n_experts() && stack.outputs() == of.outputs() &&
                                     stack.inputs() == of.inputs()),
                   ErrorCode::shape, "AdaptedMatrix: the gradients of ", what, " are ", stack.n_experts(), " x ",
                   stack.outputs(), " x ", stack.inputs(), ", they must be ", of.n_experts(), " x ", of.outputs(),
                   " x ", of.inputs());
        };
        confirm("a", to.a, adapter_.a);
        confirm("b", to.b, adapter_.b);
        const std::size_t inputs = base_.cols();
        for (std::size_t j = 0; j < adapter_.rank(); ++j) {
            const WeightBlock<T> a = adapter_.a.block(0, j, 1);
            for (std::size_t o = 0; o < base_.rows(); ++o) {
                const T* const dw = gradient_.data() + o * inputs;
                const WeightBlock<T> b = adapter_.b.block(0, o, 1);
                const T by_a = static_cast<T>(scale_) * load_element(b.data + j * b.input_stride);
                T sum = 0;
                for (std::size_t i = 0; i < inputs; ++i) {
                    sum += dw[i] * load_element(a.data + i * a.input_stride);
                    if (!to.a.empty()) {
                        const auto da = to.a.matrix(0);
                        da.data[j * da.output_stride + i * da.input_stride] += by_a * dw[i];
                    }
                }
                if (!to.b.empty()) {
                    const auto db = to.b.matrix(0);
                    db.data[o * db.output_stride + j * db.input_stride] += static_cast<T>(scale_) * sum;
                }
            }
        }
        std::fill(gradient_.begin(), gradient_.end(), T(0));
    }

private:
    MatrixView<const T> base_;
    LoraPair<T> adapter_;
    double scale_;
    std::vector<T> weights_;
    std::vector<T> gradient_;
};

}  // namespace moe::inline MOE_ABI
