#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../core/random.hpp"
#include "../core/workspace.hpp"
#include "optimizer/adamw.hpp"
#include "optimizer/gradients.hpp"

namespace moe::inline MOE_ABI {

/// What a parameter is called, its sizes, how it starts and how it is trained.
struct ParameterInfo {
    std::string name;
    std::size_t n_matrices = 1;  ///< experts, of a stack of them
    std::size_t rows = 1;
    std::size_t cols = 1;
    double scale = 0;   ///< standard deviation of its first values, which are normal; 0: all are 0
    bool decay = true;  ///< commonly not for biases, norms and routers
    double rate = 1;    ///< times that of the optimiser
};

/// A parameter of Parameters, by reference: valid while those live, wherever they are moved.
template <class T>
class Parameter {
public:
    Parameter(ParameterInfo info, const AdamState<T>& state, std::span<T> gradient)
        : info_(std::move(info)), state_(state), gradient_(gradient) {}

    [[nodiscard]] const ParameterInfo& info() const& noexcept { return info_; }

    // All (n_matrices, rows, cols), contiguous.
    [[nodiscard]] std::span<T> value() const noexcept { return state_.value; }
    [[nodiscard]] std::span<T> gradient() const noexcept { return gradient_; }
    [[nodiscard]] const AdamState<T>& state() const& noexcept { return state_; }

    // As layers take weights and gradients.
    [[nodiscard]] WeightStack<T> stack() const {
        return stacked(static_cast<const T*>(value().data()), info_.n_matrices, info_.rows, info_.cols);
    }
    [[nodiscard]] MutableStack<T> gradient_stack() const {
        return stacked_gradients(gradient_.data(), info_.n_matrices, info_.rows, info_.cols);
    }
    /// (n_matrices * rows, cols)
    [[nodiscard]] MatrixView<T> matrix() const {
        return view(value().data(), info_.n_matrices * info_.rows, info_.cols);
    }
    [[nodiscard]] MatrixView<T> gradient_matrix() const {
        return view(gradient_.data(), info_.n_matrices * info_.rows, info_.cols);
    }

private:
    ParameterInfo info_;
    AdamState<T> state_;
    std::span<T> gradient_;
};

/// The memory of all that is trained: of each parameter its value, its gradient and the moments of AdamW, in one
/// allocation. For who has no memory of his own; nothing else in the library asks for it. A training step is
///
///     moe::forward(layer, x, y, tape, workspace);
///     moe::zero_gradients(parameters.gradients());
///     moe::backward(layer, tape, dy, dx, gradients, workspace);  // into their gradient_stack()s
///     moe::clip_by_global_norm(parameters.gradients(), 1.0);
///     parameters.update(adam, step);
template <class T>
class Parameters {
public:
    /// Normal first values of the streams of `seed`, gradients and moments 0. Throws Error(shape, duplicate, overflow):
    /// a size of 0, a name that stands twice; std::bad_alloc.
    explicit Parameters(std::vector<ParameterInfo> infos, std::uint64_t seed = 0) {
        for (std::size_t i = 0; i < infos.size(); ++i) {
            const ParameterInfo& info = infos[i];
            ensure(info.n_matrices > 0 && info.rows > 0 && info.cols > 0, ErrorCode::shape, "Parameters: ", info.name,
                   " is ", info.n_matrices, " x ", info.rows, " x ", info.cols, "; every size must be at least 1");
            for (std::size_t before = 0; before < i; ++before) {
                ensure(infos[before].name != info.name, ErrorCode::duplicate, "Parameters: two are called ", info.name);
            }
        }
        Arena measure;
        for (const ParameterInfo& info : infos) {
            (void)take(measure, info);
        }
        memory_ = AlignedBuffer(measure.used());
        Arena arena(memory_.data(), memory_.size());
        for (std::size_t i = 0; i < infos.size(); ++i) {
            const Memory memory = take(arena, infos[i]);
            for (const std::span<T>& zeros : {memory.gradient, memory.mean, memory.square}) {
                std::fill(zeros.begin(), zeros.end(), T(0));
            }
            for (std::size_t j = 0; j < memory.value.size(); ++j) {
                const double scale = infos[i].scale;
                memory.value[j] = scale == 0 ? T(0) : static_cast<T>(scale * random_normal(random_stream(seed, i), j));
            }
            gradients_.add(memory.gradient);
            parameters_.emplace_back(std::move(infos[i]),
                                     AdamState<T>{memory.value, memory.gradient, memory.mean, memory.square},
                                     memory.gradient);
        }
    }

    [[nodiscard]] std::span<const Parameter<T>> all() const& noexcept { return parameters_; }
    std::span<const Parameter<T>> all() const&& = delete;  // temporary: give the parameters a name
    /// Throws Error(not_found). O(parameters).
    [[nodiscard]] const Parameter<T>& operator[](std::string_view name) const& {
        const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                        [&](const Parameter<T>& parameter) { return parameter.info().name == name; });
        ensure(found != parameters_.end(), ErrorCode::not_found, "Parameters: none of the ", parameters_.size(),
               " is called ", name);
        return *found;
    }
    const Parameter<T>& operator[](std::string_view) const&& = delete;  // temporary: give the parameters a name

    /// All gradients, in order.
    [[nodiscard]] const GradientViews<T>& gradients() const& noexcept { return gradients_; }
    const GradientViews<T>& gradients() const&& = delete;  // temporary: give the parameters a name

    /// A step of all parameters with the gradients there are, each with its own rate and decay. See AdamW::update.
    template <Executor E = SerialExecutor>
    void update(const AdamW& adam, std::uint64_t step, const E& executor = {}) {
        for (const Parameter<T>& parameter : parameters_) {
            of(adam, parameter).template validate<T>(step);
        }
        for (const Parameter<T>& parameter : parameters_) {
            of(adam, parameter).update(step, parameter.state(), executor);
        }
    }

private:
    struct Memory {
        std::span<T> value;
        std::span<T> gradient;
        std::span<T> mean;
        std::span<T> square;
    };

    [[nodiscard]] static Memory take(Arena& arena, const ParameterInfo& info) {
        const std::size_t n = checked_multiply(checked_multiply(info.n_matrices, info.rows), info.cols);
        const std::span<T> value = arena.take<T>(n);
        const std::span<T> gradient = arena.take<T>(n);
        const std::span<T> mean = arena.take<T>(n);
        return {value, gradient, mean, arena.take<T>(n)};
    }
    [[nodiscard]] static AdamW of(AdamW adam, const Parameter<T>& parameter) {
        adam.rate *= parameter.info().rate;
        adam.decay = parameter.info().decay ? adam.decay : 0;
        return adam;
    }

    AlignedBuffer memory_;
    std::vector<Parameter<T>> parameters_;
    GradientViews<T> gradients_;
};

}  // namespace moe::inline MOE_ABI
