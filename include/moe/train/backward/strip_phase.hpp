#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "lora_phase.hpp"

namespace moe::inline MOE_ABI::detail {

/// Hidden values of all entries, and the derivatives of what they are made of. Tasks: (group, a few strips of hidden
/// columns), all rows of the group.
template <class T>
class StripPhase {
public:
    StripPhase(const BackwardState<T>& state, std::size_t n_workers)
        : state_(state),
          chunk_(std::clamp<std::size_t>(state.n_groups * state.memory.strips / (n_workers * tasks_per_worker), 1,
                                         max_strips)),
          chunks_(divide_up(state.memory.strips, chunk_)) {}

    [[nodiscard]] std::size_t n_tasks() const { return state_.n_groups * chunks_; }

    void run(std::size_t task, const BackwardScratch<T>& scratch) const {
        const BackwardGroup& group = state_.memory.groups[task / chunks_];
        const BackwardExperts<T> experts = state_.experts_of(group);
        const std::size_t strip = task % chunks_ * chunk_;
        const std::size_t strips = divide_up(experts.layout().d_ff, width);
        if (strip >= strips) {
            return;
        }
        for (std::size_t first = 0; first < group.count; first += max_task_rows) {
            block(experts, group, {strip, (std::min)(chunk_, strips - strip)},
                  {group.first + first, (std::min)(max_task_rows, group.count - first)}, scratch);
        }
    }

private:
    static constexpr std::size_t width = Panel<T>::width;
    static constexpr std::size_t tasks_per_worker = 8;

    /// Rows of a block of a group, and its strips.
    void block(const BackwardExperts<T>& experts, const BackwardGroup& group, OuterRange strips, OuterRange rows,
               const BackwardScratch<T>& scratch) const {
        const BackwardMemory<T>& memory = state_.memory;
        const std::span<const T> kept = state_.products_of(group);
        for (std::size_t i = 0; i < strips.count; ++i) {
            const std::size_t at = i * rows.count * width;
            if (kept.empty()) {
                project(experts, group.expert, strips.first + i, rows, scratch, at);
            } else {
                read(kept, experts.layout(), group, strips.first + i, rows, scratch, at);
            }
        }
        experts.multiply_transposed(Projection::down, group.expert, {strips.first, strips.count},
                                    as_bytes<T>(memory.dy.subspan(rows.first, rows.count), scratch.panel),
                                    scratch.panel);
        add_transposed_adapter(state_, experts, Projection::down, group.expert, {strips.first, strips.count}, rows,
                               scratch.panel);
        for (std::size_t i = 0; i < strips.count; ++i) {
            differentiate(experts, group, strips.first + i, rows, scratch, i);
        }
    }

    /// Strip `strip`, the `i`-th of its task.
    void differentiate(const BackwardExperts<T>& experts, const BackwardGroup& group, std::size_t strip,
                       OuterRange rows, const BackwardScratch<T>& scratch, std::size_t i) const {
        const BackwardMemory<T>& memory = state_.memory;
        const bool gated = experts.layout().gated;
        alignas(buffer_alignment) std::array<T, width> gate_bias{};
        alignas(buffer_alignment) std::array<T, width> up_bias{};
        biases(experts, group.expert, strip, gate_bias.data(), up_bias.data());
        std::array<T*, max_task_rows> hidden;
        std::array<T*, max_task_rows> d_gate;
        std::array<T*, max_task_rows> d_up;
        std::array<T, max_task_rows> dots;
        for (std::size_t r = 0; r < rows.count; ++r) {
            hidden[r] = memory.hidden[rows.first + r] + strip * width;
            d_gate[r] = gated ? memory.d_gate[rows.first + r] + strip * width : nullptr;
            d_up[r] = memory.d_up[rows.first + r] + strip * width;
        }
        const bool input = state_.weighs_input() && group.shared == BackwardGroup::none;
        const std::size_t at = i * rows.count * width;
        experts.differentiate(
            {rows.count, scratch.gate.data() + at, scratch.up.data() + at, gate_bias.data(), up_bias.data(),
             scratch.panel.sums_of(i, rows.count),
             input ? std::span<const T>(memory.input).subspan(rows.first, rows.count) : std::span<const T>{},
             std::span<const T>(memory.scale).subspan(rows.first, rows.count), hidden.data(), d_gate.data(),
             d_up.data(), dots.data()});
        for (std::size_t r = 0; r < rows.count; ++r) {
            memory.dots[(rows.first + r) * memory.strips + strip] = dots[r];
        }
    }

    /// scratch.gate, scratch.up (rows, width), from value `at` on = products of x and a strip of the projections.
    void project(const BackwardExperts<T>& experts, std::size_t e, std::size_t strip, OuterRange rows,
                 const BackwardScratch<T>& scratch, std::size_t at) const {
        const PanelLayout<T>& layout = experts.layout();
        const PanelRange panels = panels_of(layout, strip);
        const std::size_t columns = layout.hidden_columns();
        experts.multiply_hidden(e, panels, as_bytes<T>(state_.memory.x.subspan(rows.first, rows.count), scratch.panel),
                                scratch.panel);
        if (panels.count * columns < width) {
            std::fill_n(scratch.gate.data() + at, rows.count * width, T(0));
            std::fill_n(scratch.up.data() + at, rows.count * width, T(0));
        }
        for (std::size_t i = 0; i < panels.count; ++i) {
            const T* row = scratch.panel.sums_of(i, rows.count);
            for (std::size_t r = 0; r < rows.count; ++r, row += width) {
                const std::size_t to = at + r * width + i * columns;
                if (layout.gated) {
                    std::copy_n(row, columns, scratch.gate.data() + to);
                }
                std::copy_n(layout.gated ? row + columns : row, columns, scratch.up.data() + to);
            }
        }
    }

    /// The same from what the tape kept.
    void read(std::span<const T> kept, const PanelLayout<T>& layout, const BackwardGroup& group, std::size_t strip,
              OuterRange rows, const BackwardScratch<T>& scratch, std::size_t at) const {
        const std::size_t first = strip * width;
        const std::size_t count = (std::min)(width, layout.d_ff - first);
        for (std::size_t r = 0; r < rows.count; ++r, at += width) {
            const T* const row = kept.data() + state_.kept_row(group, rows.first + r) * layout.kept_values() + first;
            if (layout.gated) {
                std::fill(std::copy_n(row, count, scratch.gate.data() + at), scratch.gate.data() + at + width, T(0));
            }
            const T* const up = layout.gated ? row + layout.d_ff : row;
            std::fill(std::copy_n(up, count, scratch.up.data() + at), scratch.up.data() + at + width, T(0));
        }
    }

    /// Those of the hidden layer that a strip is made of.
    [[nodiscard]] static PanelRange panels_of(const PanelLayout<T>& layout, std::size_t strip) {
        const std::size_t per_strip = width / layout.hidden_columns();
        const std::size_t first = strip * per_strip;
        return {first, (std::min)(per_strip, layout.hidden_panels() - first)};
    }

    static void biases(const BackwardExperts<T>& experts, std::size_t e, std::size_t strip, T* gate, T* up) {
        const PanelLayout<T>& layout = experts.layout();
        const PanelRange panels = panels_of(layout, strip);
        const std::size_t columns = layout.hidden_columns();
        std::array<T, width> bias;
        for (std::size_t i = 0; i < panels.count; ++i) {
            experts.hidden_bias(e, panels.first + i, bias.data());
            if (layout.gated) {
                std::copy_n(bias.data(), columns, gate + i * columns);
            }
            std::copy_n(layout.gated ? bias.data() + columns : bias.data(), columns, up + i * columns);
        }
    }

    const BackwardState<T>& state_;
    std::size_t chunk_;   ///< strips of a task
    std::size_t chunks_;  ///< of the widest group
};

}  // namespace moe::inline MOE_ABI::detail
