#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "../../formats/element.hpp"
#include "../../kernels/math.hpp"
#include "elementwise.hpp"

namespace moe::inline MOE_ABI {

/// What AdamW reads and changes of a parameter, all of one size, in the caller's memory. The elements may stand in any
/// order as long as it is the same in all: of a transposed or interleaved stack they are given as they lie. Parameters
/// in several places are several updates of the same step.
template <class T>
struct AdamState {
    std::span<T> value;
    std::span<const T> gradient;
    std::span<T> mean;    ///< of the gradient; zero before the first step
    std::span<T> square;  ///< mean of its square; zero before the first step
    /// (n_experts) tokens of each expert in the step, where `value` is a contiguous stack of experts: those without any
    /// stay as they are, moments too. Empty: all are updated, as PyTorch does, and experts without tokens decay.
    std::span<const std::uint64_t> tokens{};
};

namespace detail {

template <class T>
struct AdamFactors {
    T keep;  ///< 1 - rate * decay
    T fresh_mean, old_square, fresh_square;
    T root;  ///< of 1 - beta2^step
    T epsilon;
    T step_size;  ///< rate / (1 - beta1^step)
};

/// One vector. Each addition has its product in a multiply_add, so that compilers find nothing to fuse here and not
/// there.
template <class T>
MOE_ALWAYS_INLINE void adam_vector(const AdamFactors<T>& f, T* value, const T* gradient, T* mean, T* square) noexcept {
    using V = Vector<T>;
    const V g = load(gradient);
    const V m = multiply_add<T>(V(f.fresh_mean), g - load(mean), load(mean));
    const V s = multiply_add<T>(V(f.fresh_square) * g, g, V(f.old_square) * load(square));
    const V by = math::sqrt(s) / V(f.root) + V(f.epsilon);
    store(mean, m);
    store(square, s);
    store(value, multiply_add<T>(V(-f.step_size), m / by, V(f.keep) * load(value)));
}

template <class T>
void adam_elements(const AdamFactors<T>& f, T* value, const T* gradient, T* mean, T* square, std::size_t n) noexcept {
    std::size_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) {
        adam_vector(f, value + i, gradient + i, mean + i, square + i);
    }
    if (i < n) {
        std::array<T, lanes<T>> p{};
        std::array<T, lanes<T>> g{};
        std::array<T, lanes<T>> m{};
        std::array<T, lanes<T>> s{};
        std::copy(value + i, value + n, p.begin());
        std::copy(gradient + i, gradient + n, g.begin());
        std::copy(mean + i, mean + n, m.begin());
        std::copy(square + i, square + n, s.begin());
        adam_vector(f, p.data(), g.data(), m.data(), s.data());
        std::copy_n(p.begin(), n - i, value + i);
        std::copy_n(m.begin(), n - i, mean + i);
        std::copy_n(s.begin(), n - i, square + i);
    }
}

[[nodiscard]] constexpr bfloat16 round_to(float value, bfloat16) noexcept { return to_bfloat16(value); }
[[nodiscard]] constexpr float16 round_to(float value, float16) noexcept { return to_float16(value); }

}  // namespace detail

/// Adam with decoupled weight decay: Loshchilov and Hutter 2017, "Decoupled weight decay regularization" (1711.05101),
/// algorithm 2, in the order of operations of PyTorch's AdamW. Of each element, with gradient g, at step n = 1, 2, ...
///
///     p <- p - rate * decay * p
///     m <- m + (1 - beta1) (g - m)
///     v <- beta2 v + (1 - beta2) g^2
///     p <- p - rate / (1 - beta1^n) * m / (sqrt(v) / sqrt(1 - beta2^n) + epsilon)
///
/// A rate that changes is set before each update. Usually biases, norms and routers get no decay: update them with a
/// copy whose `decay` is 0.
struct AdamW {
    double rate = 1e-3;
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
    double decay = 1e-2;

    /// One step. The bits of an element depend on nothing but its own values and the settings: not on threads, nor on
    /// how parameters are cut into calls. NaN in a gradient makes its element NaN: see all_finite. Throws
    /// Error before anything is written: range (settings, step 0), shape, alignment, layout (memory that overlaps).
    /// O(n), allocates nothing.
    template <std::floating_point T, Executor E = SerialExecutor>
    void update(std::uint64_t step, const AdamState<T>& state, const E& executor = {}) const {
        const detail::AdamFactors<T> f = factors<T>(step);
        confirm(state);
        detail::for_each_used_part("AdamW", executor, state.value.size(), state.tokens,
                                   [&](std::size_t first, std::size_t count) { run(f, state, first, count); });
    }

    /// The same of the float32 masters of weights in 16 bits: `rounded` becomes the nearest bfloat16 or float16 of each
    /// value, ties to even. Experts that are left out are not written there either.
    template <class W, Executor E = SerialExecutor>
        requires(std::same_as<W, bfloat16> || std::same_as<W, float16>)
    void update(std::uint64_t step, const AdamState<float>& state, std::span<W> rounded, const E& executor = {}) const {
        const detail::AdamFactors<float> f = factors<float>(step);
        confirm(state);
        check_rounded(state, rounded);
        detail::for_each_used_part("AdamW", executor, state.value.size(), state.tokens,
                                   [&](std::size_t first, std::size_t count) {
                                       run(f, state, first, count);
                                       const auto values = state.value.subspan(first, count);
                                       std::transform(values.begin(), values.end(), rounded.data() + first,
                                                      [](float value) { return detail::round_to(value, W{}); });
                                   });
    }

    /// Throws Error(range) unless all settings can be used in T at this step.
    template <std::floating_point T>
    void validate(std::uint64_t step) const {
        constexpr double largest = (std::numeric_limits<T>::max)();
        const double below_one = std::nextafter(1.0, 0.0);
        detail::check_setting("AdamW", "rate", rate, 0, largest);
        detail::check_setting("AdamW", "beta1", beta1, 0, below_one);
        detail::check_setting("AdamW", "beta2", beta2, 0, below_one);
        // what is divided by where a gradient was always 0
        detail::check_setting("AdamW", "epsilon", epsilon, (std::numeric_limits<T>::min)(), largest);
        detail::check_setting("AdamW", "decay", decay, 0, largest);
        detail::check_setting("AdamW", "rate * decay", rate * decay, 0, 1);
        ensure(step > 0, ErrorCode::range, "AdamW: step is 0, the first one is 1");
        detail::check_setting("AdamW", "rate / (1 - beta1^step)", step_size(step), 0, largest);
    }

private:
    [[nodiscard]] double step_size(std::uint64_t step) const {
        return rate / (1 - std::pow(beta1, static_cast<double>(step)));
    }
    template <class T>
    [[nodiscard]] detail::AdamFactors<T> factors(std::uint64_t step) const {
        validate<T>(step);
        return {static_cast<T>(1 - rate * decay),
                static_cast<T>(1 - beta1),
                static_cast<T>(beta2),
                static_cast<T>(1 - beta2),
                static_cast<T>(std::sqrt(1 - std::pow(beta2, static_cast<double>(step)))),
                static_cast<T>(epsilon),
                static_cast<T>(step_size(step))};
    }

    template <class T>
    static void confirm(const AdamState<T>& state) {
        detail::check_update<T>(
            "AdamW",
            {{"value", state.value}, {"gradient", state.gradient}, {"mean", state.mean}, {"square", state.square}},
            state.tokens);
    }
    template <class W>
    static void check_rounded(const AdamState<float>& state, std::span<W> rounded) {
        ensure(rounded.size() == state.value.size(), ErrorCode::shape, "AdamW: rounded has ", rounded.size(),
               " values, value has ", state.value.size());
        require_aligned(rounded.data(), "AdamW", "rounded");
        refuse_overlap("AdamW", "rounded",
                       overlapped(bytes_of(rounded), {{"value", bytes_of(state.value)},
                                                      {"gradient", bytes_of(state.gradient)},
                                                      {"mean", bytes_of(state.mean)},
                                                      {"square", bytes_of(state.square)}}));
    }

    template <class T>
    static void run(const detail::AdamFactors<T>& f, const AdamState<T>& state, std::size_t first, std::size_t count) {
        detail::adam_elements(f, state.value.data() + first, state.gradient.data() + first, state.mean.data() + first,
                              state.square.data() + first, count);
    }
};

}  // namespace moe::inline MOE_ABI
