#pragma once

#include "backward.hpp"
#include "parts/check_call.hpp"
#include "parts/gradient_overlap.hpp"
#include "parts/trained.hpp"

namespace moe::inline MOE_ABI::detail {

/// Throws what backward() does before it writes anything.
template <class Layer, class T>
void check_backward(const Layer& layer, Tape<T>& tape, MatrixView<const T> dy, MatrixView<T> dx,
                    const LayerGradients<T>& gradients) {
    const BackwardLayer<T> references(layer);
    (void)BackwardPass<T>(references, tape, dy, dx, gradients, {});
}

}  // namespace moe::inline MOE_ABI::detail
