#pragma once

#include <span>

#include "matrix.hpp"

namespace trainer {

/// y = x / sqrt(mean of squares + eps) * weight for each row (Zhang and Sennrich 2019, 1910.07467). `inverse` keeps the
/// 1 / sqrt of each row for the backward pass.
template <class T>
void rms_norm(const ConstRows<T>& x, std::span<const T> weight, double eps, std::span<T> inverse, Rows<T> y);

/// dx += its gradient, and d_weight += that of the weights, from dy. `dx` must be neither of them.
template <class T>
void rms_norm_backward(const ConstRows<T>& x, std::span<const T> weight, std::span<const T> inverse,
                       const ConstRows<T>& dy, Rows<T> dx, std::span<T> d_weight);

}  // namespace trainer
