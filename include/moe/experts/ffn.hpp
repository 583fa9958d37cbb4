#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "../core/matrix_view.hpp"
#include "../kernels/add_scaled.hpp"
#include "panel_source.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// hidden (columns) = form(scale * gate + gate_bias, scale * up + up_bias) of the sums of one row.
template <class T, class Form>
void apply_form(const Form& form, std::size_t columns, const T* sums, T scale, const T* bias, T* hidden) {
    const Vector<T> s(scale);
    for (std::size_t c = 0; c < columns; c += lanes<T>) {
        if constexpr (Form::gated()) {
            const std::size_t up = columns + c;
            store(hidden + c, Vector<T>(form(multiply_add<T>(load(sums + c), s, load(bias + c)),
                                             multiply_add<T>(load(sums + up), s, load(bias + up)))));
        } else {
            store(hidden + c, Vector<T>(form(multiply_add<T>(load(sums + c), s, load(bias + c)))));
        }
    }
}

}  // namespace detail

/// A few panels of an expert's hidden activations for a few rows:
/// hidden[r] (columns) = form(scale[r] * (gate * x[r]) + gate_bias, scale[r] * (up * x[r]) + up_bias),
/// in the source's ActivationFormat. Scaling the products scales the input of the expert (Llama 4). `hidden` is the
/// first byte of the first row. Stores whole panels.
template <PanelSource S, class Scale>
void compute_hidden(const S& source, std::size_t e, PanelRange panels, RowPointers x, Scale&& scale, std::byte* hidden,
                    std::size_t hidden_stride, const PanelScratch<typename S::value_type>& scratch) {
    using T = typename S::value_type;
    const PanelLayout<T>& layout = source.layout();
    const std::size_t columns = layout.hidden_columns();
    source.multiply_hidden(e, panels, x, scratch);
    std::array<T, Panel<T>::width> bias;
    visit_form(source.form(), [&](const auto& form) {
        for (std::size_t i = 0; i < panels.count; ++i) {
            const std::size_t first = (panels.first + i) * columns;
            source.hidden_bias(e, panels.first + i, bias.data());
            const T* sums = scratch.sums_of(i, x.size());
            std::byte* target = hidden;
            for (std::size_t r = 0; r < x.size(); ++r, sums += Panel<T>::width, target += hidden_stride) {
                if constexpr (std::is_same_v<T, float>) {
                    if (source.activations().quantized()) {
                        std::array<float, Panel<float>::width> values;
                        detail::apply_form(form, columns, sums, scale(r), bias.data(), values.data());
                        quantize_columns(QuantizedRows{layout.d_ff}, first, columns, values.data(),
                                         source.activations().zero_point, target);
                        continue;
                    }
                }
                detail::apply_form(form, columns, sums, scale(r), bias.data(), reinterpret_cast<T*>(target) + first);
            }
        }
    });
}

/// A few panels of an expert's output for a few rows, added where they belong:
/// y(row(r), panel) += weight(r) * (down * hidden[r] + down_bias).
template <PanelSource S, class Weight, class Row>
void add_output(const S& source, std::size_t e, PanelRange panels, RowPointers hidden, Weight&& weight, Row&& row,
                MatrixView<typename S::value_type> y, const PanelScratch<typename S::value_type>& scratch) {
    using T = typename S::value_type;
    source.multiply_output(e, panels, hidden, scratch);
    std::array<T, Panel<T>::width> bias;
    for (std::size_t i = 0; i < panels.count; ++i) {
        source.output_bias(e, panels.first + i, bias.data());
        const std::size_t first = (panels.first + i) * Panel<T>::width;
        const std::size_t columns = std::min(Panel<T>::width, source.layout().d_model - first);
        const T* sums = scratch.sums_of(i, hidden.size());
        for (std::size_t r = 0; r < hidden.size(); ++r, sums += Panel<T>::width) {
            add_scaled_sum(weight(r), sums, bias.data(), columns, y.row(row(r)) + first);
        }
    }
}

}  // namespace moe::inline MOE_ABI
