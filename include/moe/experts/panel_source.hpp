#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>

#include "../core/index.hpp"
#include "../kernels/tile.hpp"
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

    /// Elements between rows of the hidden activations: whole panels, so that they can be stored without a tail.
    [[nodiscard]] constexpr std::size_t hidden_stride() const noexcept { return hidden_panels() * hidden_columns(); }
};

/// Where an FFN finds its weights, panel by panel: the user's memory (ExpertBank) or panels packed once
/// (PackedExperts). hidden_block and output_block give inputs [first, first + depth) of a panel, Panel<T>::width
/// columns a row: a pointer to their own memory, or to `buffer` (Panel<T>::depth * Panel<T>::width elements) after
/// filling it. The biases fill a row of Panel<T>::width, zero where there is none.
template <class S>
concept PanelSource = requires(const S& source, std::size_t n, typename S::value_type* buffer) {
    { source.n_experts() } -> std::same_as<std::size_t>;
    { source.layout() } -> std::convertible_to<PanelLayout<typename S::value_type>>;
    { source.form() } -> std::convertible_to<typename S::form_type>;
    { source.hidden_block(n, n, n, n, buffer) } -> std::convertible_to<const typename S::value_type*>;
    { source.output_block(n, n, n, n, buffer) } -> std::convertible_to<const typename S::value_type*>;
    source.hidden_bias(n, n, buffer);
    source.output_bias(n, n, buffer);
};

namespace detail {

/// Packs columns [first_output, ...) of one stack, as many of `columns` as there are, into `target`.
template <WeightElement W, class Target>
void pack_columns(const WeightStack<W>& stack, std::size_t e, std::size_t first_output, std::size_t columns,
                  std::size_t first_input, std::size_t depth, Target* target) {
    const std::size_t valid = std::min(columns, stack.outputs() - first_output);
    pack_block(stack.block(e, first_output, valid), first_input, depth, columns, target, Panel<ComputeType<W>>::width);
}

}  // namespace detail

}  // namespace moe::inline MOE_ABI
