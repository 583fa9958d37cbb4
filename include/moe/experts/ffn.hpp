#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "../core/matrix_view.hpp"
#include "../core/workspace.hpp"
#include "panel_source.hpp"

namespace moe::inline MOE_ABI {

/// Rows of one task: enough that a panel is reused many times, few enough that their sums stay in the second-level
/// cache.
inline constexpr std::size_t max_task_rows = 192;

/// Scratch of one worker.
template <class T>
struct FfnScratch {
    std::span<T> panel;        ///< (Panel<T>::depth, Panel<T>::width)
    std::span<T> sums;         ///< (max_task_rows, Panel<T>::width)
    std::span<const T*> rows;  ///< (max_task_rows)

    [[nodiscard]] static FfnScratch take(Arena& arena) {
        return {arena.take<T>(Panel<T>::depth * Panel<T>::width), arena.take<T>(max_task_rows * Panel<T>::width),
                arena.take<const T*>(max_task_rows)};
    }
};

/// sums (n_rows, width) = rows (n_rows, k) * panel (k, width). `block(first, depth, buffer)` gives the panel's weights.
template <class T, class Block>
void multiply_panel(std::span<const T* const> rows, std::size_t k, const FfnScratch<T>& scratch, Block&& block) {
    const std::size_t n_tiles = divide_up(rows.size(), Panel<T>::tile_rows);
    for (std::size_t first = 0; first < k; first += Panel<T>::depth) {
        const std::size_t depth = std::min(Panel<T>::depth, k - first);
        const T* const weights = block(first, depth, scratch.panel.data());
        std::size_t r = 0;
        for (std::size_t tile = 1; tile <= n_tiles;
             ++tile) {  // 64 rows are tiles of 5 and 6, not ten of 6 and one of 4
            const std::size_t end = rows.size() * tile / n_tiles;
            std::array<const T*, Panel<T>::tile_rows> at{};
            for (std::size_t i = r; i < end; ++i) {
                at[i - r] = rows[i] + first;
            }
            multiply_tile(end - r, at.data(), weights, depth, scratch.sums.data() + r * Panel<T>::width, first != 0);
            r = end;
        }
    }
}

namespace detail {

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
/// hidden[r] (columns) = form(scale[r] * (gate * x[r]) + gate_bias, scale[r] * (up * x[r]) + up_bias).
/// Scaling the products scales the input of the expert (Llama 4). Stores whole panels.
template <PanelSource S, class Scale>
void compute_hidden(const S& source, std::size_t e, std::size_t panel, std::span<const typename S::value_type* const> x,
                    Scale&& scale, typename S::value_type* hidden, std::size_t hidden_stride,
                    const FfnScratch<typename S::value_type>& scratch) {
    using T = typename S::value_type;
    const PanelLayout<T>& layout = source.layout();
    multiply_panel<T>(x, layout.d_model, scratch, [&](std::size_t first, std::size_t depth, T* buffer) {
        return source.hidden_block(e, panel, first, depth, buffer);
    });
    std::array<T, Panel<T>::width> bias;
    source.hidden_bias(e, panel, bias.data());
    const std::size_t columns = layout.hidden_columns();
    T* target = hidden + panel * columns;
    visit_form(source.form(), [&](const auto& form) {
        for (std::size_t r = 0; r < x.size(); ++r, target += hidden_stride) {
            detail::apply_form(form, columns, scratch.sums.data() + r * Panel<T>::width, scale(r), bias.data(), target);
        }
    });
}

/// target[0, columns) += weight * source[0, columns), columns <= Panel<T>::width, one fused multiply-add an element. A
/// partial vector goes through a full one, so that every element is computed the same way whatever its position.
template <class T>
inline void add_scaled(T weight, const T* source, std::size_t columns, T* target) noexcept {
    const Vector<T> w(weight);
    std::size_t c = 0;
    for (; c + lanes<T> <= columns; c += lanes<T>) {
        store(target + c, multiply_add<T>(w, load(source + c), load(target + c)));
    }
    if (c < columns) {
        std::array<T, lanes<T>> from{};
        std::array<T, lanes<T>> to{};
        std::copy(source + c, source + columns, from.begin());
        std::copy(target + c, target + columns, to.begin());
        store(to.data(), multiply_add<T>(w, load(from.data()), load(to.data())));
        std::copy_n(to.begin(), columns - c, target + c);
    }
}

/// One panel of an expert's output for a few rows, added where it belongs:
/// y(row(r), panel) += weight(r) * (down * hidden[r] + down_bias).
template <PanelSource S, class Weight, class Row>
void add_output(const S& source, std::size_t e, std::size_t panel,
                std::span<const typename S::value_type* const> hidden, Weight&& weight, Row&& row,
                MatrixView<typename S::value_type> y, const FfnScratch<typename S::value_type>& scratch) {
    using T = typename S::value_type;
    const PanelLayout<T>& layout = source.layout();
    multiply_panel<T>(hidden, layout.d_ff, scratch, [&](std::size_t first, std::size_t depth, T* buffer) {
        return source.output_block(e, panel, first, depth, buffer);
    });
    std::array<T, Panel<T>::width> bias;
    source.output_bias(e, panel, bias.data());
    const std::size_t first = panel * Panel<T>::width;
    const std::size_t columns = std::min(Panel<T>::width, layout.d_model - first);
    for (std::size_t r = 0; r < hidden.size(); ++r) {
        T* const sums = scratch.sums.data() + r * Panel<T>::width;
        for (std::size_t c = 0; c < Panel<T>::width; c += lanes<T>) {
            store(sums + c, Vector<T>(load(sums + c) + load(bias.data() + c)));
        }
        add_scaled(weight(r), sums, columns, y.row(row(r)) + first);
    }
}

}  // namespace moe::inline MOE_ABI
