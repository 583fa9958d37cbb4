#pragma once

#include <vector>

#include "matrix.hpp"

namespace trainer {

/// The gradient of a matrix W of y = x W^T: what is to be added to it.
template <class T>
struct LinearGradient {
    Gradient<T> to;       ///< (outputs, inputs)
    const Matrix<T>* dy;  ///< (n_tokens, outputs)
    const Matrix<T>* x;   ///< (n_tokens, inputs)
};

/// to += dy^T x for each of `gradients`, of `n_sequences` of `length` tokens. Each sequence is a sum of its own, added
/// in their order: the bits are those of as many calls with one sequence each.
template <class T>
void add_linear_gradients(const std::vector<LinearGradient<T>>& gradients, std::size_t n_sequences, std::size_t length,
                          const moe::ExecutorRef& threads);

}  // namespace trainer
