#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "backward_state.hpp"

namespace moe::inline MOE_ABI::detail {

/// Hidden values of all entries again, and the derivatives of what they are made of. Tasks: (group, strip of hidden
/// columns), all rows of the group.
template <class T>
class StripPhase {
public:
    explicit StripPhase(const BackwardState<T>& state) : state_(state) {}

    [[nodiscard]] std::size_t n_tasks() const { return state_.n_groups * state_.memory.strips; }

    void run(std::size_t task, const BackwardScratch<T>& scratch) const {
        const BackwardGroup& group = state_.memory.groups[task / state_.memory.strips];
        const std::size_t strip = task % state_.memory.strips;
        const BackwardExperts<T> experts = state_.experts_of(group);
        if (strip >= divide_up(experts.layout().d_ff, width)) {
            return;
        }
        for (std::size_t first = 0; first < group.count; first += max_task_rows) {
            block(experts, group, strip, {group.first + first, (std::min)(max_task_rows, group.count - first)},
                  scratch);
        }
    }

private:
    static constexpr std::size_t width = Panel<T>::width;

    void block(const BackwardExperts<T>& experts, const BackwardGroup& group, std::size_t strip, OuterRange rows,
               const BackwardScratch<T>& scratch) const {
        const BackwardMemory<T>& memory = state_.memory;
        const bool gated = experts.layout().gated;
        alignas(buffer_alignment) std::array<T, width> gate_bias{};
        alignas(buffer_alignment) std::array<T, width> up_bias{};
        project(experts, group.expert, strip, rows, scratch, gate_bias.data(), up_bias.data());
        experts.multiply_transposed(Projection::down, group.expert, {strip, 1},
                                    as_bytes<T>(memory.dy.subspan(rows.first, rows.count), scratch.panel),
                                    scratch.panel);
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
        experts.differentiate(
            {rows.count, scratch.gate.data(), scratch.up.data(), gate_bias.data(), up_bias.data(),
             scratch.panel.sums.data(),
             input ? std::span<const T>(memory.input).subspan(rows.first, rows.count) : std::span<const T>{},
             std::span<const T>(memory.scale).subspan(rows.first, rows.count), hidden.data(), d_gate.data(),
             d_up.data(), dots.data()});
        for (std::size_t r = 0; r < rows.count; ++r) {
            memory.dots[(rows.first + r) * memory.strips + strip] = dots[r];
        }
    }

    /// scratch.gate, scratch.up (rows, width) = products of x and a strip of the projections, and their biases.
    void project(const BackwardExperts<T>& experts, std::size_t e, std::size_t strip, OuterRange rows,
                 const BackwardScratch<T>& scratch, T* gate_bias, T* up_bias) const {
        const PanelLayout<T>& layout = experts.layout();
        const std::size_t columns = layout.hidden_columns();
        const std::size_t per_strip = width / columns;
        const std::size_t first = strip * per_strip;
        const std::size_t count = (std::min)(per_strip, layout.hidden_panels() - first);
        experts.multiply_hidden(e, {first, count},
                                as_bytes<T>(state_.memory.x.subspan(rows.first, rows.count), scratch.panel),
                                scratch.panel);
        if (count < per_strip) {
            std::fill_n(scratch.gate.data(), rows.count * width, T(0));
            std::fill_n(scratch.up.data(), rows.count * width, T(0));
        }
        std::array<T, width> bias;
        for (std::size_t i = 0; i < count; ++i) {
            const T* const sums = scratch.panel.sums_of(i, rows.count);
            for (std::size_t r = 0; r < rows.count; ++r) {
                const T* const row = sums + r * width;
                if (layout.gated) {
                    std::copy_n(row, columns, scratch.gate.data() + r * width + i * columns);
                }
                std::copy_n(layout.gated ? row + columns : row, columns, scratch.up.data() + r * width + i * columns);
            }
            experts.hidden_bias(e, first + i, bias.data());
            if (layout.gated) {
                std::copy_n(bias.data(), columns, gate_bias + i * columns);
            }
            std::copy_n(layout.gated ? bias.data() + columns : bias.data(), columns, up_bias + i * columns);
        }
    }

    const BackwardState<T>& state_;
};

}  // namespace moe::inline MOE_ABI::detail
