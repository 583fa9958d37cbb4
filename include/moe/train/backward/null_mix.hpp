#pragma once

#include <cstddef>

#include "../../kernels/row.hpp"
#include "backward_state.hpp"

namespace moe::inline MOE_ABI::detail {

/// A constant expert that mixes: [a1, a2] = softmax(W x), of a token.
template <class T>
struct NullMix {
    T of_x;      ///< a1
    T by_logit;  ///< a1 a2 (<dy, x> - <dy, constant>): times the weight, the derivative by the logit of a1
};
template <class T>
[[nodiscard]] NullMix<T> null_mix(const BackwardState<T>& state, std::size_t t, std::size_t constant) {
    const NullExperts<T>& null = state.layer.pass.options->null_experts;
    const T* const x = state.tape.x().row(t);
    const T* const dy = state.dy.row(t);
    const std::size_t d = state.dy.cols();
    const T of_x =
        math::sigmoid(dot_row(null.mixes.row(2 * constant), x, d) - dot_row(null.mixes.row(2 * constant + 1), x, d));
    return {of_x, of_x * (T(1) - of_x) * (dot_row(dy, x, d) - dot_row(dy, null.constants.row(constant), d))};
}

}  // namespace moe::inline MOE_ABI::detail
