#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <span>
#include <type_traits>

#include "../../kernels/add_scaled.hpp"
#include "elementwise.hpp"
#include "gradient_views.hpp"

namespace moe::inline MOE_ABI {

/// All gradients become 0, NaN too. O(n).
template <class T, Executor E = SerialExecutor>
void zero_gradients(const GradientViews<T>& gradients, const E& executor = {}) {
    detail::for_each_part("zero_gradients", executor, gradients.size(), [&](std::size_t first, std::size_t count) {
        gradients.for_each_run(first, count, [](T* data, std::size_t n, std::size_t stride) {
            for (std::size_t i = 0; i < n; ++i) {
                data[i * stride] = T(0);
            }
        });
    });
}

/// All gradients are multiplied with `factor`, rounded to T. O(n).
template <class T, Executor E = SerialExecutor>
void scale_gradients(const GradientViews<T>& gradients, double factor, const E& executor = {}) {
    const T by = static_cast<T>(factor);
    detail::for_each_part("scale_gradients", executor, gradients.size(), [&](std::size_t first, std::size_t count) {
        gradients.for_each_run(first, count, [by](T* data, std::size_t n, std::size_t stride) {
            for (std::size_t i = 0; i < n; ++i) {
                data[i * stride] *= by;
            }
        });
    });
}

/// to[i] += from[i]: gradients that several threads or machines made, each of its part of a batch. Throws Error(shape,
/// alignment, layout) before anything is written. O(n).
template <class T, Executor E = SerialExecutor>
void add_gradients(std::span<T> to, std::span<const std::type_identity_t<T>> from, const E& executor = {}) {
    detail::check_update<T>("add_gradients", {{"to", to}, {"from", from}}, {});
    detail::for_each_part("add_gradients", executor, to.size(), [&](std::size_t first, std::size_t count) {
        add_scaled(T(1), from.data() + first, count, to.data() + first);
    });
}

namespace detail {

/// A sum of squares in double, in an order that only the sequence of values sets: value i goes to sum i % width, the
/// sums are added one after the other.
class SquareSum {
public:
    template <class T>
    void add(const T* data, std::size_t n, std::size_t stride) {
        for (std::size_t i = 0; i < n;) {
            if (n_waiting_ == 0 && stride == 1 && n - i >= width) {
                for (std::size_t l = 0; l < width; ++l) {
                    waiting_[l] = static_cast<double>(data[i + l]);
                }
                i += width;
                square();
            } else {
                waiting_[n_waiting_++] = static_cast<double>(data[i++ * stride]);
                if (n_waiting_ == width) {
                    square();
                }
            }
        }
    }
    [[nodiscard]] double finish() {
        std::fill(waiting_.begin() + static_cast<std::ptrdiff_t>(n_waiting_), waiting_.end(), 0.0);
        square();
        double sum = 0;
        for (const double part : sums_) {
            sum += part;
        }
        return sum;
    }

private:
    static constexpr std::size_t width = 16;

    void square() {
        for (std::size_t l = 0; l < width; l += lanes<double>) {
            const Vector<double> x = load(waiting_.data() + l);
            store(sums_.data() + l, multiply_add<double>(x, x, load(sums_.data() + l)));
        }
        n_waiting_ = 0;
    }

    std::array<double, width> sums_{};
    std::array<double, width> waiting_{};
    std::size_t n_waiting_ = 0;
};

}  // namespace detail

/// The sum of the squares of all gradients, in double. Its order is fixed by the sequence of values that GradientViews
/// describes: the same bits for any number of threads, any executor and any cut of the same sequence into spans, and in
/// float for all instruction sets. Another order of the spans, or of memory within, may round otherwise; relative error
/// at most (max(1024, n / 4096) + 273) epsilon / 2 of double. Infinite or NaN if a gradient is, and if a square in
/// double overflows. O(n), allocates nothing.
template <class T, Executor E = SerialExecutor>
[[nodiscard]] double squared_norm(const GradientViews<T>& gradients, const E& executor = {}) {
    constexpr std::size_t most_parts = 256;
    std::array<double, most_parts> sums{};
    const std::size_t part = (std::max)(detail::task_elements, divide_up(gradients.size(), most_parts));
    const std::size_t n_parts = divide_up(gradients.size(), part);
    detail::run_tasks("squared_norm", executor, n_parts, gradients.size() * 4, [&](std::size_t task, std::size_t) {
        detail::SquareSum sum;
        const std::size_t first = task * part;
        gradients.for_each_run(first, (std::min)(part, gradients.size() - first),
                               [&sum](const T* data, std::size_t n, std::size_t stride) { sum.add(data, n, stride); });
        sums[task] = sum.finish();
    });
    double sum = 0;
    for (std::size_t i = 0; i < n_parts; ++i) {
        sum += sums[i];
    }
    return sum;
}

/// Whether no gradient is NaN or infinite. O(n), allocates nothing.
template <class T, Executor E = SerialExecutor>
[[nodiscard]] bool all_finite(const GradientViews<T>& gradients, const E& executor = {}) {
    std::atomic<bool> finite{true};
    detail::for_each_part("all_finite", executor, gradients.size(), [&](std::size_t first, std::size_t count) {
        gradients.for_each_run(first, count, [&finite](const T* data, std::size_t n, std::size_t stride) {
            Vector<T> differences(T(0));  // of values with themselves: NaN where one is not finite
            std::size_t i = 0;
            for (; stride == 1 && i + lanes<T> <= n; i += lanes<T>) {
                const Vector<T> x = load(data + i);
                differences = differences + (x - x);
            }
            std::array<T, lanes<T>> sums;
            store(sums.data(), differences);
            bool all = std::all_of(sums.begin(), sums.end(), [](T sum) { return sum == 0; });
            for (; i < n; ++i) {
                all = all && std::isfinite(data[i * stride]);
            }
            if (!all) {
                finite.store(false, std::memory_order_relaxed);
            }
        });
    });
    return finite.load(std::memory_order_relaxed);
}

/// What clip_by_global_norm found and did.
struct ClippedNorm {
    double norm;    ///< before
    double factor;  ///< what all gradients were multiplied with, 1 if they were left as they are

    /// False: the step should be left out.
    [[nodiscard]] bool finite() const noexcept { return std::isfinite(norm); }
};

/// Scales all gradients so that their norm is at most `limit`: Pascanu et al. 2013, "On the difficulty of training
/// recurrent neural networks", with the factor of PyTorch, limit / (norm + 1e-6) where that is below 1. The norm is
/// that of squared_norm. Where it is not finite, nothing is written: the caller decides, by finite(). Throws
/// Error(range) for a limit that is NaN or not positive. O(n), allocates nothing.
template <class T, Executor E = SerialExecutor>
ClippedNorm clip_by_global_norm(const GradientViews<T>& gradients, double limit, const E& executor = {}) {
    ensure(limit > 0, ErrorCode::range, "clip_by_global_norm: limit is ", limit, ", it must be positive");
    ClippedNorm clipped{std::sqrt(moe::squared_norm(gradients, executor)), 1};
    const double factor = limit / (clipped.norm + 1e-6);
    if (clipped.finite() && factor < 1) {
        moe::scale_gradients(gradients, factor, executor);
        clipped.factor = factor;
    }
    return clipped;
}

}  // namespace moe::inline MOE_ABI
