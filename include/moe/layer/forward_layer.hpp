#pragma once

#include <concepts>
#include <cstddef>

#include "../parallel/executor.hpp"
#include "parts/layer_options.hpp"

namespace moe::inline MOE_ABI {

/// Anything that maps tokens to tokens of the same width as a MoELayer does: MoELayer, LayerWithGate, SoftMoELayer,
/// NeuronLayer, HierarchicalLayer, or one of your own.
///
///     std::size_t d_model() const;
///     std::size_t workspace_bytes(std::size_t n_tokens, std::size_t n_workers) const;   // never less for more tokens
///     void forward(MatrixView<const T> x, MatrixView<T> y, Workspace&, const ExecutorRef&,
///                  const ForwardOptions<T>&) const;
///
/// with T its value_type.
template <class L>
concept ForwardLayer = requires(const L& layer, MatrixView<const typename L::value_type> x,
                                MatrixView<typename L::value_type> y, Workspace& workspace, const ExecutorRef& executor,
                                const ForwardOptions<typename L::value_type>& options, std::size_t n) {
    { layer.d_model() } -> std::same_as<std::size_t>;
    { layer.workspace_bytes(n, n) } -> std::same_as<std::size_t>;
    layer.forward(x, y, workspace, executor, options);
};

}  // namespace moe::inline MOE_ABI
