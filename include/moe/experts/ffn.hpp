#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <type_traits>

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

/// The hidden activations of one panel: `hidden` (n_rows, stride bytes) from sums (n_rows, width). Compiled once for a
/// form, whatever the weights are stored in.
template <class T, class Form>
void apply_form_to_rows(const Form& any_form, const PanelLayout<T>& layout, const ActivationFormat<T>& format,
                        std::size_t panel, std::size_t n_rows, std::span<const T> scales, const T* sums, const T* bias,
                        std::byte* hidden, std::size_t stride) {
    const std::size_t columns = layout.hidden_columns();
    const std::size_t first = panel * columns;
    moe::visit_form(any_form, [&](const auto& form) {
        for (std::size_t r = 0; r < n_rows; ++r, sums += Panel<T>::width, hidden += stride) {
            const T scale = scales.empty() ? T(1) : scales[r];
            if constexpr (std::is_same_v<T, float>) {
                if (format.encoded()) {
                    std::array<float, Panel<float>::width> values;
                    detail::apply_form(form, columns, sums, scale, bias, values.data());
                    format.encode_columns(layout.d_ff, first, columns, values.data(), hidden);
                    continue;
                }
            }
            detail::apply_form(form, columns, sums, scale, bias, reinterpret_cast<T*>(hidden) + first);
        }
    });
}

}  // namespace detail

/// Where the products of rows with the input projections are kept: gate * x[r] at first + r * stride, up * x[r] d_ff
/// values behind it, or of plain forms in its place. Null: nowhere.
template <class T>
struct KeptRows {
    T* first = nullptr;
    std::size_t stride = 0;
};

namespace detail {

/// Those of one panel, from sums (n_rows, width).
template <class T>
void keep_products(const PanelLayout<T>& layout, std::size_t panel, std::size_t n_rows, const T* sums,
                   const KeptRows<T>& kept) {
    const std::size_t columns = layout.hidden_columns();
    const std::size_t first = panel * columns;
    const std::size_t valid = (std::min)(columns, layout.d_ff - first);
    for (std::size_t r = 0; r < n_rows; ++r, sums += Panel<T>::width) {
        T* const row = kept.first + r * kept.stride + first;
        std::copy_n(sums, valid, row);
        if (layout.gated) {
            std::copy_n(sums + columns, valid, row + layout.d_ff);
        }
    }
}

}  // namespace detail

/// A few panels of an expert's hidden activations for a few rows:
/// hidden[r] (columns) = form(scale[r] * (gate * x[r]) + gate_bias, scale[r] * (up * x[r]) + up_bias),
/// in the source's ActivationFormat. Scaling the products scales the input of the expert (Llama 4); no `scales`: by 1.
/// `hidden` is the first byte of the first row. Stores whole panels; keeps the products where `kept` says so.
template <PanelSource S>
void compute_hidden(const S& source, std::size_t e, PanelRange panels, RowPointers x,
                    std::span<const typename S::value_type> scales, std::byte* hidden, std::size_t hidden_stride,
                    const PanelScratch<typename S::value_type>& scratch,
                    const KeptRows<typename S::value_type>& kept = {}) {
    using T = typename S::value_type;
    const PanelLayout<T>& layout = source.layout();
    source.multiply_hidden(e, panels, x, scratch);
    std::array<T, Panel<T>::width> bias;
    for (std::size_t i = 0; i < panels.count; ++i) {
        if (kept.first != nullptr) {
            detail::keep_products(layout, panels.first + i, x.size(), scratch.sums_of(i, x.size()), kept);
        }
        source.hidden_bias(e, panels.first + i, bias.data());
        detail::apply_form_to_rows<T>(source.form(), layout, source.activations(), panels.first + i, x.size(), scales,
                                      scratch.sums_of(i, x.size()), bias.data(), hidden, hidden_stride);
    }
}

/// A few panels of an expert's output for a few rows, added where they belong: to columns of y[r], the first value of a
/// row of d_model: y[r] += weights[r] * (down * hidden[r] + down_bias). No `weights`: all are 1.
template <PanelSource S>
void add_output(const S& source, std::size_t e, PanelRange panels, RowPointers hidden,
                std::span<const typename S::value_type> weights, std::span<typename S::value_type* const> y,
                const PanelScratch<typename S::value_type>& scratch) {
    using T = typename S::value_type;
    source.multiply_output(e, panels, hidden, scratch);
    std::array<T, Panel<T>::width> bias;
    for (std::size_t i = 0; i < panels.count; ++i) {
        source.output_bias(e, panels.first + i, bias.data());
        const std::size_t first = (panels.first + i) * Panel<T>::width;
        const std::size_t columns = (std::min)(Panel<T>::width, source.layout().d_model - first);
        const T* sums = scratch.sums_of(i, hidden.size());
        for (std::size_t r = 0; r < hidden.size(); ++r, sums += Panel<T>::width) {
            add_scaled_sum(weights.empty() ? T(1) : weights[r], sums, bias.data(), columns, y[r] + first);
        }
    }
}

}  // namespace moe::inline MOE_ABI
