#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "moe/kernels/simd.hpp"

namespace moe_test {

/// function(x) for every x, through full vectors.
template <class T, class Function>
std::vector<T> map_vectors(const std::vector<T>& x, const Function& function) {
    std::vector<T> y(x.size());
    for (std::size_t i = 0; i < x.size(); i += moe::lanes<T>) {
        std::array<T, moe::lanes<T>> lane{};
        const std::size_t count = std::min(moe::lanes<T>, x.size() - i);
        std::copy_n(&x[i], count, lane.begin());
        moe::store(lane.data(), moe::Vector<T>(function(moe::load(lane.data()))));
        std::copy_n(lane.begin(), count, &y[i]);
    }
    return y;
}

/// function(x) for every x, one by one.
template <class T, class Function>
std::vector<T> map_scalars(const std::vector<T>& x, const Function& function) {
    std::vector<T> y(x.size());
    std::transform(x.begin(), x.end(), y.begin(), [&](T value) { return static_cast<T>(function(value)); });
    return y;
}

/// From -limit to limit, denser near 0, with both zeros.
template <class T>
std::vector<T> sample(double limit) {
    std::vector<T> x{T(0), T(-0.0)};
    constexpr int n = 2000;
    for (int i = -n; i <= n; ++i) {
        const double position = static_cast<double>(i) / n;
        x.push_back(static_cast<T>(limit * position * position * position));
    }
    return x;
}

}  // namespace moe_test
