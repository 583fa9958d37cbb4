#pragma once

#include <cstddef>

#include "../layer/layer.hpp"

namespace moe::inline MOE_ABI::reference {

/// <a, b>.
[[nodiscard]] inline double dot(const Vector& a, const Vector& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        sum += a[i] * b[i];
    }
    return sum;
}

/// Row `row` of a matrix with `width` columns.
[[nodiscard]] inline Vector row_of(const Vector& matrix, std::size_t row, std::size_t width) {
    const auto first = matrix.begin() + static_cast<std::ptrdiff_t>(row * width);
    return Vector(first, first + static_cast<std::ptrdiff_t>(width));
}

/// Of y = W x + b with the gradient dy of y: adds dy x^T to that of W (or nothing, if it is empty), dy to that of b (or
/// nothing) and gives that of x, W^T dy.
[[nodiscard]] inline Vector linear_backward(const Vector& weight, const Vector& x, const Vector& dy, Vector& d_weight,
                                            Vector& d_bias) {
    Vector dx(x.size(), 0.0);
    for (std::size_t o = 0; o < dy.size(); ++o) {
        for (std::size_t i = 0; i < x.size(); ++i) {
            dx[i] += weight[o * x.size() + i] * dy[o];
            if (!d_weight.empty()) {
                d_weight[o * x.size() + i] += dy[o] * x[i];
            }
        }
        if (!d_bias.empty()) {
            d_bias[o] += dy[o];
        }
    }
    return dx;
}

}  // namespace moe::inline MOE_ABI::reference
