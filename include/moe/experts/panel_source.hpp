#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>

#include "../core/index.hpp"
#include "../kernels/pack.hpp"
#include "../kernels/panel_product.hpp"
#include "../kernels/quantized_rows.hpp"
#include "any_form.hpp"
#include "weight_stack.hpp"

namespace moe::inline MOE_ABI {

/// How the outputs of an expert's two products are cut into panels. A panel of the hidden layer of a gated expert holds
/// gate columns in its first half and the up columns of the same outputs in its second, so that one pass over the
/// activations computes both and the form is applied while they are at hand.
template <class T>
struct PanelLayout {
    std::size_t d_model = 0;
    std::size_t d_ff = 0;
    bool gated = false;

    /// Hidden units a panel covers.
    [[nodiscard]] constexpr std::size_t hidden_columns() const noexcept {
        return gated ? Panel<T>::width / 2 : Panel<T>::width;
    }
    [[nodiscard]] constexpr std::size_t hidden_panels() const noexcept { return divide_up(d_ff, hidden_columns()); }
    [[nodiscard]] constexpr std::size_t output_panels() const noexcept { return divide_up(d_model, Panel<T>::width); }
    /// Products of a row with the input projections.
    [[nodiscard]] constexpr std::size_t kept_values() const noexcept { return gated ? 2 * d_ff : d_ff; }
};

/// In what form an FFN takes the rows it multiplies: values of its compute type, or 8-bit codes in groups
/// (QuantizedRows) made for weights with a given zero point.
template <class T>
struct ActivationFormat {
    int zero_point = 0;  ///< 0: values

    [[nodiscard]] constexpr bool quantized() const noexcept { return zero_point != 0; }

    /// Bytes from row to row of k hidden activations, whole panels, so that they can be stored without a tail.
    [[nodiscard]] constexpr std::size_t hidden_stride(const PanelLayout<T>& layout) const {
        return quantized() ? QuantizedRows{layout.d_ff}.stride()
                           : checked_multiply(layout.hidden_panels(), layout.hidden_columns() * sizeof(T));
    }
    /// Bytes from row to row of quantised inputs; 0 where the inputs are used as they are.
    [[nodiscard]] constexpr std::size_t input_stride(const PanelLayout<T>& layout) const noexcept {
        return quantized() ? QuantizedRows{layout.d_model}.stride() : 0;
    }
};

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
