#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "simd.hpp"

namespace moe::inline MOE_ABI {

/// target[0, columns) += weight * source[0, columns), one fused multiply-add an element. A partial vector goes through
/// a full one, so that every element is computed the same way whatever its position.
template <class T>
inline void add_scaled(T weight, const T* source, std::size_t columns, T* target) noexcept {
    const Vector<T> w(weight);
    std::size_t c = 0;
    for (; c + lanes<T> <= columns; c += lanes<T>) {
        store(target + c, multiply_add<T>(w, load(source + c), load(target + c)));
    }
    if (c < columns) {
        std::array<T, lanes<T>> from{};
        std::array<T, lanes<T>> to{};
        std::copy(source + c, source + columns, from.begin());
        std::copy(target + c, target + columns, to.begin());
        store(to.data(), multiply_add<T>(w, load(from.data()), load(to.data())));
        std::copy_n(to.begin(), columns - c, target + c);
    }
}

/// target[0, columns) += weight * (source + bias)[0, columns), in the same way. `source` and `bias` are whole vectors.
template <class T>
inline void add_scaled_sum(T weight, const T* source, const T* bias, std::size_t columns, T* target) noexcept {
    const Vector<T> w(weight);
    std::size_t c = 0;
    for (; c + lanes<T> <= columns; c += lanes<T>) {
        const Vector<T> sum = load(source + c) + load(bias + c);
        store(target + c, multiply_add<T>(w, sum, load(target + c)));
    }
    if (c < columns) {
        std::array<T, lanes<T>> sum;
        store(sum.data(), Vector<T>(load(source + c) + load(bias + c)));
        add_scaled(weight, sum.data(), columns - c, target + c);
    }
}

}  // namespace moe::inline MOE_ABI
