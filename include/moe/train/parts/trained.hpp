#pragma once

#include <type_traits>

#include "gradients.hpp"
#include "tape.hpp"

namespace moe::inline MOE_ABI {

/// What the passes of a layer are given beside its matrices. Of a MoELayer, under whatever gate, these; specialised for
/// layers that leave and learn something else.
template <class Layer>
struct Trained {
    using tape = Tape<typename Layer::value_type>;
    using gradients = LayerGradients<typename Layer::value_type>;
};

/// What a forward pass of a layer leaves for its backward pass: `moe::TapeOf<decltype(layer)> tape;`.
template <class Layer>
using TapeOf = typename Trained<std::remove_cvref_t<Layer>>::tape;

/// Where the gradients of a layer go.
template <class Layer>
using GradientsOf = typename Trained<std::remove_cvref_t<Layer>>::gradients;

}  // namespace moe::inline MOE_ABI
