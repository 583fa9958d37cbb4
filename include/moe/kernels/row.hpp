#pragma once

#include <array>
#include <cstddef>
#include <cstring>

#include "convert.hpp"
#include "simd.hpp"

namespace moe::inline MOE_ABI {

/// Products with one row of weights at a time, for experts so small that nothing is left to tile: a weight is read once
/// and used once, so that the memory sets the speed.

namespace detail {

/// The last `count` < lanes values at `source`, and zeros behind them.
template <WeightElement W>
[[nodiscard]] MOE_ALWAYS_INLINE Vector<ComputeType<W>> load_converted_part(const W* source,
                                                                           std::size_t count) noexcept {
    std::array<W, lanes<ComputeType<W>>> values{};
    std::memcpy(values.data(), static_cast<const void*>(source), count * sizeof(W));
    return load_converted(values.data());
}

}  // namespace detail

/// sum of weights[i] * x[i] over `n`: weights of any alignment -> the compute type. 4 * lanes partial sums, added in
/// one fixed order at the end; the error is within n / (4 lanes) + 6 roundings.
template <WeightElement W>
[[nodiscard]] inline ComputeType<W> dot_row(const W* weights, const ComputeType<W>* x, std::size_t n) noexcept {
    using T = ComputeType<W>;
    constexpr std::size_t step = lanes<T>;
    Vector<T> a(T(0));
    Vector<T> b(T(0));
    Vector<T> c(T(0));
    Vector<T> d(T(0));
    std::size_t i = 0;
    for (; i + 4 * step <= n; i += 4 * step) {  // four chains: one addition takes four cycles
        a = multiply_add<T>(load_converted(weights + i), load(x + i), a);
        b = multiply_add<T>(load_converted(weights + i + step), load(x + i + step), b);
        c = multiply_add<T>(load_converted(weights + i + 2 * step), load(x + i + 2 * step), c);
        d = multiply_add<T>(load_converted(weights + i + 3 * step), load(x + i + 3 * step), d);
    }
    for (; i + step <= n; i += step) {
        a = multiply_add<T>(load_converted(weights + i), load(x + i), a);
    }
    if (i < n) {
        b = multiply_add<T>(detail::load_converted_part(weights + i, n - i), detail::load_converted_part(x + i, n - i),
                            b);
    }
    std::array<T, step> sums;
    store(sums.data(), Vector<T>((a + b) + (c + d)));
    T sum = 0;
    for (const T value : sums) {
        sum += value;
    }
    return sum;
}

/// target[i] += weight * source[i] over `n`, one fused multiply-add an element; the source is of any alignment.
template <WeightElement W>
inline void add_scaled_row(ComputeType<W> weight, const W* source, std::size_t n, ComputeType<W>* target) noexcept {
    using T = ComputeType<W>;
    const Vector<T> w(weight);
    std::size_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) {
        store(target + i, multiply_add<T>(w, load_converted(source + i), load(target + i)));
    }
    if (i < n) {
        std::array<T, lanes<T>> sum;
        store(sum.data(), multiply_add<T>(w, detail::load_converted_part(source + i, n - i),
                                          detail::load_converted_part(target + i, n - i)));
        std::memcpy(target + i, sum.data(), (n - i) * sizeof(T));
    }
}

/// Asks for the `bytes` at `data`, to be read once and soon.
inline void prefetch_row([[maybe_unused]] const void* data, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(__GNUC__)
    constexpr std::size_t line = 64;
    for (std::size_t at = 0; at < bytes; at += line) {
        __builtin_prefetch(static_cast<const char*>(data) + at, 0, 3);
    }
#endif
}

}  // namespace moe::inline MOE_ABI
