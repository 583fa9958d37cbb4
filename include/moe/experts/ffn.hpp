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

/// One panel of an expert's hidden activations for a few rows:
/// hidden[r] (columns) = form(scale[r] * (gate * x[r]) + gate_bias, scale[r] * (up * x[r]) + up_bias),
/// in the source's ActivationFormat. Scaling the products scales the input of the expert (Llama 4). `hidden` is the
/// first byte of the first row. Stores whole panels.
template <PanelSource S, class Scale>
void compute_hidden(const S& source, std::size_t e, std::size_t panel, RowPointers x, Scale&& scale, std::byte* hidden,
                    std::size_t hidden_stride, const PanelScratch<typename S::value_type>& scratch) {
    using T = typename S::value_type;
    const PanelLayout<T>& layout = source.layout();
    const ActivationFormat<T> format = source.activations();
    source.multiply_hidden(e, panel, x, scratch);
    std::array<T, Panel<T>::width> bias;
    source.hidden_bias(e, panel, bias.data());
    const std::size_t columns = layout.hidden_columns();
    const std::size_t first = panel * columns;
    visit_form(source.form(), [&](const auto& form) {
        for (std::size_t r = 0; r < x.size(); ++r, hidden += hidden_stride) {
            const T* const sums = scratch.sums.data() + r * Panel<T>::width;
            if constexpr (std::is_same_v<T, float>) {
                if (format.quantized()) {
                    std::array<float, Panel<float>::width> values;
                    detail::apply_form(form, columns, sums, scale(r), bias.data(), values.data());
                    const QuantizedRows rows{layout.d_ff};
                    const std::size_t group = first / quantization_group;
                    quantize_groups(rows, group, std::min(columns / quantization_group, rows.groups() - group),
                                    values.data(), layout.d_ff - first, format.zero_point, hidden);
                    continue;
                }
            }
            detail::apply_form(form, columns, sums, scale(r), bias.data(), reinterpret_cast<T*>(hidden) + first);
        }
    });
}

/// One panel of an expert's output for a few rows, added where it belongs:
/// y(row(r), panel) += weight(r) * (down * hidden[r] + down_bias).
template <PanelSource S, class Weight, class Row>
void add_output(const S& source, std::size_t e, std::size_t panel, RowPointers hidden, Weight&& weight, Row&& row,
                MatrixView<typename S::value_type> y, const PanelScratch<typename S::value_type>& scratch) {
    using T = typename S::value_type;
    source.multiply_output(e, panel, hidden, scratch);
    std::array<T, Panel<T>::width> bias;
    source.output_bias(e, panel, bias.data());
    const std::size_t first = panel * Panel<T>::width;
    const std::size_t columns = std::min(Panel<T>::width, source.layout().d_model - first);
    for (std::size_t r = 0; r < hidden.size(); ++r) {
        T* const sums = scratch.sums.data() + r * Panel<T>::width;
        for (std::size_t c = 0; c < Panel<T>::width; c += lanes<T>) {
            store(sums + c, Vector<T>(load(sums + c) + load(bias.data() + c)));
        }
        add_scaled(weight(r), sums, columns, y.row(row(r)) + first);
    }
}

}  // namespace moe::inline MOE_ABI
