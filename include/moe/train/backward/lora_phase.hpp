#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "backward_state.hpp"

/// What LoRA adapters do in a backward pass. Of y += s B u, u = A x, with the gradient d of y:
/// v = s B^T d, dA += v x^T, dB += d (s u)^T, dx += A^T v. Nothing has the size of B A.
namespace moe::inline MOE_ABI::detail {

template <class T>
[[nodiscard]] const LoraPair<T>& pair_of(const LoraAdapters<T>& adapters, Projection projection) {
    return projection == Projection::gate ? adapters.gate : projection == Projection::up ? adapters.up : adapters.down;
}

/// Where s u and v of an adapter stand in a row of BackwardMemory::hidden, behind the hidden values and derivatives.
template <class T>
struct LoraColumn {
    std::size_t u;
    std::size_t v;
    std::size_t rank;

    LoraColumn(const BackwardExperts<T>& experts, Projection projection)
        : u(experts.adapter_at()), rank(pair_of(*experts.adapters(), projection).rank()) {
        for (const Projection before : {Projection::gate, Projection::up}) {
            u += before < projection ? 2 * pair_of(*experts.adapters(), before).rank() : 0;
        }
        v = u + rank;
    }
};

/// scratch.sums (panels, rows.count, width) += v A, what the adapter of a projection adds to multiply_transposed.
template <class T>
void add_transposed_adapter(const BackwardState<T>& state, const BackwardExperts<T>& experts, Projection projection,
                            std::size_t e, PanelRange panels, OuterRange rows, const PanelScratch<T>& scratch) {
    constexpr std::size_t width = Panel<T>::width;
    if (experts.adapters() == nullptr || pair_of(*experts.adapters(), projection).empty()) {
        return;
    }
    const WeightStack<T>& a = pair_of(*experts.adapters(), projection).a;
    const LoraColumn<T> column(experts, projection);
    for (std::size_t r = 0; r < rows.count; ++r) {
        scratch.rows[r] = reinterpret_cast<const std::byte*>(state.memory.hidden[rows.first + r] + column.v);
    }
    const auto gather = [&](std::size_t i, std::size_t first, std::size_t depth, T* block) {
        const std::size_t input = (panels.first + i) * width;
        pack_block(a.transposed_block(e, input, (std::min)(width, a.inputs() - input)), first, depth, width, block,
                   width);
    };
    add_gathered<T>(scratch.rows.first(rows.count), column.rank, panels.count, scratch, {gather});
}

/// u and v of all entries: v of the down projections, which the derivatives of hidden values need, before StripPhase,
/// the others behind it. Tasks: (group, block of rows, product).
template <class T>
class LoraPhase {
public:
    enum class Part : unsigned char { before_strips, behind_strips };

    LoraPhase(const BackwardState<T>& state, Part part) : state_(state), part_(part) {
        for (const BackwardGroup& group : state.memory.groups.first(state.n_groups)) {
            if (state.experts_of(group).adapters() != nullptr) {
                blocks_ = (std::max)(blocks_, divide_up(group.count, max_task_rows));
            }
        }
    }

    [[nodiscard]] std::size_t n_tasks() const { return state_.n_groups * blocks_ * n_products(); }

    void run(std::size_t task, const BackwardScratch<T>& scratch) const {
        const BackwardGroup& group = state_.memory.groups[task / n_products() / blocks_];
        const std::size_t first = task / n_products() % blocks_ * max_task_rows;
        const BackwardExperts<T> experts = state_.experts_of(group);
        if (experts.adapters() == nullptr || first >= group.count) {
            return;
        }
        const OuterRange rows{group.first + first, (std::min)(max_task_rows, group.count - first)};
        const BackwardMemory<T>& memory = state_.memory;
        if (part_ == Part::before_strips) {
            return multiply(experts, group, Projection::down, false, {memory.dy.data(), memory.dy.size()}, rows,
                            scratch);
        }
        switch (task % n_products()) {
            case 0: return multiply(experts, group, Projection::gate, true, memory.x, rows, scratch);
            case 1: return multiply(experts, group, Projection::up, true, memory.x, rows, scratch);
            case 2: return multiply(experts, group, Projection::down, true, memory.hidden, rows, scratch);
            case 3: return multiply(experts, group, Projection::gate, false, memory.d_gate, rows, scratch);
            default: return multiply(experts, group, Projection::up, false, memory.d_up, rows, scratch);
        }
    }

private:
    [[nodiscard]] std::size_t n_products() const { return part_ == Part::before_strips ? 1 : 5; }

    /// s u = s A `from`, or v = s B^T `from`.
    void multiply(const BackwardExperts<T>& experts, const BackwardGroup& group, Projection projection, bool by_a,
                  std::span<const T* const> from, OuterRange rows, const BackwardScratch<T>& scratch) const {
        constexpr std::size_t width = Panel<T>::width;
        const LoraPair<T>& pair = pair_of(*experts.adapters(), projection);
        if (pair.empty()) {
            return;
        }
        const LoraColumn<T> column(experts, projection);
        const T scale = static_cast<T>(experts.adapters()->scale);
        const RowPointers inputs = as_bytes<T>(from.subspan(rows.first, rows.count), scratch.panel);
        for (std::size_t first = 0; first < column.rank; first += width) {
            const std::size_t count = (std::min)(width, column.rank - first);
            const auto gather = [&](std::size_t k, std::size_t depth, std::size_t filled, T* block) {
                const WeightBlock<T> weights = by_a ? pair.a.block(group.expert, first, count)
                                                    : pair.b.transposed_block(group.expert, first, count);
                pack_block(weights, k, depth, filled, block, width);
            };
            multiply_narrow<T>(inputs, by_a ? pair.a.inputs() : pair.b.outputs(), count, scratch.panel.sums.data(),
                               scratch.panel, {gather});
            for (std::size_t r = 0; r < rows.count; ++r) {
                const T* const sums = scratch.panel.sums.data() + r * width;
                T* const to = state_.memory.hidden[rows.first + r] + (by_a ? column.u : column.v) + first;
                for (std::size_t j = 0; j < count; ++j) {
                    to[j] = scale * sums[j];
                }
            }
        }
    }

    const BackwardState<T>& state_;
    Part part_;
    std::size_t blocks_ = 0;
};

/// Gradients of the adapters of a group, in tasks of one worker each; gate and up may share the memory of dA, so that
/// one task adds both.
template <class T>
class LoraGradientTasks {
public:
    static constexpr std::size_t n_tasks = 5;

    /// Throws Error(missing, shape) as backward() does. `confirm_stack(what, stack, n_experts, outputs, inputs)`
    /// refuses a stack of another shape.
    template <class Confirm>
    static void confirm(const char* what, const LoraGradients<T>& to, const BackwardExperts<T>& experts,
                        const Confirm& confirm_stack) {
        const LoraAdapters<T> none;
        const LoraAdapters<T>& adapters = experts.adapters() == nullptr ? none : *experts.adapters();
        const auto confirm = [&](const char* name, const LoraPairGradients<T>& pair_to, const LoraPair<T>& pair) {
            ensure(!pair.empty() || (pair_to.a.empty() && pair_to.b.empty()), ErrorCode::missing,
                   "backward: gradients of ", name, " were given for ", what, " experts, which have no such adapter");
            confirm_stack(name, pair_to.a, experts.n_experts(), pair.a.outputs(), pair.a.inputs());
            confirm_stack(name, pair_to.b, experts.n_experts(), pair.b.outputs(), pair.b.inputs());
        };
        confirm("the LoRA adapters of the gate projections", to.gate, adapters.gate);
        confirm("the LoRA adapters of the up projections", to.up, adapters.up);
        confirm("the LoRA adapters of the down projections", to.down, adapters.down);
    }

    LoraGradientTasks(const BackwardState<T>& state, const BackwardGroup& group, const LoraGradients<T>& to)
        : state_(state), group_(group), to_(to), experts_(state.experts_of(group)) {
        if (state.weighs_input() && group.shared == BackwardGroup::none) {
            input_ = std::span<const T>(state.memory.input).subspan(group.first, group.count);
        }
        scale_ = std::span<const T>(state.memory.scale).subspan(group.first, group.count);
    }

    void run(std::size_t task, const OuterScratch<T>& scratch) const {
        if (experts_.adapters() == nullptr) {
            return;
        }
        const PanelLayout<T>& layout = experts_.layout();
        const BackwardMemory<T>& memory = state_.memory;
        const OuterRows<T> x{rows(memory.x), 0, layout.d_model, input_};
        switch (task) {
            case 0:
                add(to_.gate.a, v(Projection::gate), x, scratch);
                return add(to_.up.a, v(Projection::up), x, scratch);
            case 1: return add(to_.gate.b, {rows(memory.d_gate), 0, layout.d_ff}, u(Projection::gate, input_), scratch);
            case 2: return add(to_.up.b, {rows(memory.d_up), 0, layout.d_ff}, u(Projection::up, input_), scratch);
            case 3: return add(to_.down.a, v(Projection::down, scale_), {rows(memory.hidden), 0, layout.d_ff}, scratch);
            default: return add(to_.down.b, {rows(memory.dy), 0, layout.d_model, scale_}, u(Projection::down), scratch);
        }
    }

private:
    template <class Rows>
    [[nodiscard]] std::span<const T* const> rows(const Rows& all) const {
        return {all.data() + group_.first, group_.count};
    }
    [[nodiscard]] OuterRows<T> u(Projection projection, std::span<const T> scale = {}) const {
        const LoraColumn<T> column(experts_, projection);
        return {rows(state_.memory.hidden), column.u, column.rank, scale};
    }
    [[nodiscard]] OuterRows<T> v(Projection projection, std::span<const T> scale = {}) const {
        const LoraColumn<T> column(experts_, projection);
        return {rows(state_.memory.hidden), column.v, column.rank, scale};
    }
    void add(const MutableStack<T>& stack, const OuterRows<T>& a, const OuterRows<T>& b,
             const OuterScratch<T>& scratch) const {
        if (!stack.empty()) {
            const auto matrix = stack.matrix(group_.expert);
            moe::add_outer(a, b, OuterTarget<T>{matrix.data, matrix.output_stride, matrix.input_stride}, scratch);
        }
    }

    const BackwardState<T>& state_;
    const BackwardGroup& group_;
    const LoraGradients<T>& to_;
    BackwardExperts<T> experts_;
    std::span<const T> input_;  ///< factors of x, or none
    std::span<const T> scale_;  ///< factors of dy
};

}  // namespace moe::inline MOE_ABI::detail
