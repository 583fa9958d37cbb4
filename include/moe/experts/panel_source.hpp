#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>

#include "../core/index.hpp"
#include "../kernels/pack.hpp"
#include "../kernels/panel_product.hpp"
#include "activation_format.hpp"
#include "any_form.hpp"
#include "weight_stack.hpp"

namespace moe::inline MOE_ABI {

/// Neighbouring panels of one expert, at most max_task_panels.
struct PanelRange {
    std::size_t first;
    std::size_t count;
};

/// Where an FFN finds its weights: the user's memory (ExpertBank) or panels packed once (PackedExperts).
/// multiply_hidden and multiply_output leave rows * panels in scratch.sums; rows are of the source's ActivationFormat.
/// The biases fill a row of Panel<T>::width, zero where there is none.
template <class S>
concept PanelSource = requires(const S& source, std::size_t n, typename S::value_type* row, PanelRange panels,
                               RowPointers rows, const PanelScratch<typename S::value_type>& scratch) {
    { source.n_experts() } -> std::same_as<std::size_t>;
    { source.layout() } -> std::convertible_to<PanelLayout<typename S::value_type>>;
    { source.form() } -> std::convertible_to<typename S::form_type>;
    { source.activations() } -> std::same_as<ActivationFormat<typename S::value_type>>;
    source.multiply_hidden(n, panels, rows, scratch);
    source.multiply_output(n, panels, rows, scratch);
    source.hidden_bias(n, n, row);
    source.output_bias(n, n, row);
};

namespace detail {

/// Columns [first_output, ...) of one stack, as many of `columns` as there are.
template <WeightElement W>
[[nodiscard]] WeightBlock<W> view_columns(const WeightStack<W>& stack, std::size_t e, std::size_t first_output,
                                          std::size_t columns) {
    return stack.block(e, first_output, (std::min)(columns, stack.outputs() - first_output));
}

/// Packs them into `target`.
template <WeightElement W, class Target>
void pack_columns(const WeightStack<W>& stack, std::size_t e, std::size_t first_output, std::size_t columns,
                  std::size_t first_input, std::size_t depth, Target* target) {
    pack_block(view_columns(stack, e, first_output, columns), first_input, depth, columns, target,
               Panel<ComputeType<W>>::width);
}

}  // namespace detail

}  // namespace moe::inline MOE_ABI
