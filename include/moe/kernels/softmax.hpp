#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "math.hpp"

namespace moe::inline MOE_ABI {

/// row[i] = exp(row[i] - max) / sum of these, over `n` >= 1 values, in place. A NaN makes all of them NaN. The sum runs
/// over lanes partial sums, added in one fixed order; an element is computed the same way whatever its position. Each
/// is within n / lanes + lanes + 8 roundings of the softmax of the row.
template <class T>
inline void softmax_row(T* row, std::size_t n) noexcept {
    T max = row[0];
    for (std::size_t i = 1; i < n; ++i) {
        max = row[i] > max ? row[i] : max;
    }
    const Vector<T> top(max);
    Vector<T> sums(T(0));
    std::size_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) {
        const Vector<T> value = math::exp(Vector<T>(load(row + i) - top));
        store(row + i, value);
        sums = sums + value;
    }
    std::array<T, lanes<T>> part;
    part.fill(max);
    std::copy(row + i, row + n, part.begin());
    store(part.data(), math::exp(Vector<T>(load(part.data()) - top)));
    std::copy_n(part.begin(), n - i, row + i);
    std::fill(part.begin() + static_cast<std::ptrdiff_t>(n - i), part.end(), T(0));
    store(part.data(), Vector<T>(sums + load(part.data())));
    T sum = 0;
    for (const T value : part) {
        sum += value;
    }
    for (std::size_t j = 0; j < n; ++j) {
        row[j] /= sum;
    }
}

}  // namespace moe::inline MOE_ABI
