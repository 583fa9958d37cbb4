#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "../../kernels/add_scaled.hpp"
#include "lora_phase.hpp"
#include "null_mix.hpp"

namespace moe::inline MOE_ABI::detail {

/// dx, and the gradient of a router's input of its own. Tasks: (a few panels of columns, block of tokens); in dx
/// experts are added in ascending order, then the shared ones, null experts and what flows through the logits.
template <class T>
class InputPhase {
public:
    InputPhase(const BackwardState<T>& state, std::size_t n_workers) : state_(state) {
        const std::size_t wanted = n_workers * tasks_per_worker;
        panels_ = divide_up(state.dy.cols(), width);
        chunk_ = std::clamp<std::size_t>(panels_ / wanted, 1, max_task_panels);
        chunks_ = divide_up(panels_, chunk_);
        blocks_ = std::clamp<std::size_t>(divide_up(state.n_tokens(), max_task_rows), 1, divide_up(wanted, chunks_));
        const bool by_router = state.gradients.router_input.rows() > 0 && state.tape.logits().cols() > 0;
        router_panels_ = by_router ? divide_up(state.gradients.router_input.cols(), width) : 0;
        chunks_ = state.dx.rows() > 0 ? chunks_ : 0;
    }

    [[nodiscard]] std::size_t n_tasks() const { return (chunks_ + router_panels_) * blocks_; }

    void run(std::size_t task, const BackwardScratch<T>& scratch) const {
        const std::size_t part = task / blocks_;
        const std::size_t begin = state_.n_tokens() * (task % blocks_) / blocks_;
        const OuterRange tokens{begin, state_.n_tokens() * (task % blocks_ + 1) / blocks_ - begin};
        if (part < chunks_) {
            add_inputs({part * chunk_, (std::min)(chunk_, panels_ - part * chunk_)}, tokens, scratch);
        } else {
            add_linear(state_.layer.pass.router, state_.memory.d_logits, part - chunks_, tokens,
                       state_.gradients.router_input, scratch, is_valid());
        }
    }

private:
    static constexpr std::size_t width = Panel<T>::width;
    static constexpr std::size_t tasks_per_worker = 4;

    void add_inputs(PanelRange panels, OuterRange tokens, const BackwardScratch<T>& scratch) const {
        const std::size_t begin = tokens.first;
        const std::size_t end = tokens.first + tokens.count;
        const std::size_t first = panels.first * width;
        if (!state_.options.accumulate_dx) {
            for (std::size_t t = begin; t < end; ++t) {
                T* const row = state_.dx.row(t);
                std::fill(row + first, row + (std::min)(first + panels.count * width, state_.dx.cols()), T(0));
            }
        }
        for (std::size_t g = 0; g < state_.n_groups; ++g) {
            add_experts(state_.memory.groups[g], panels, begin, end, scratch);
        }
        for (std::size_t panel = panels.first; panel < panels.first + panels.count; ++panel) {
            add_rest(panel, tokens, scratch);
        }
    }

    void add_rest(std::size_t panel, OuterRange tokens, const BackwardScratch<T>& scratch) const {
        for (std::size_t t = tokens.first; t < tokens.first + tokens.count; ++t) {
            add_null(panel, t);
        }
        const PassLayer<T>& layer = state_.layer.pass;
        if (layer.shared.gated()) {
            add_linear(layer.shared.gate(), state_.memory.d_shared, panel, tokens, state_.dx, scratch,
                       [&](std::size_t t) { return state_.reaches_shared(t); });
        }
        const bool own_input = state_.tape.router_input().data() != state_.tape.x().data();
        if (state_.options.through_router && !own_input && state_.tape.logits().cols() > 0) {
            add_linear(layer.router, state_.memory.d_logits, panel, tokens, state_.dx, scratch, is_valid());
        }
    }

    [[nodiscard]] std::size_t columns(std::size_t panel) const {
        return (std::min)(width, state_.dy.cols() - panel * width);
    }

    void add_experts(const BackwardGroup& group, PanelRange panels, std::size_t begin, std::size_t end,
                     const BackwardScratch<T>& scratch) const {
        const BackwardExperts<T> experts = state_.experts_of(group);
        const OuterRange all = state_.entries(group, begin, end);
        for (std::size_t first = all.first; first < all.first + all.count; first += max_task_rows) {
            const OuterRange rows{first, (std::min)(max_task_rows, all.first + all.count - first)};
            if (experts.layout().gated) {
                add_projection(experts, group, Projection::gate, panels, rows, state_.memory.d_gate, scratch);
            }
            add_projection(experts, group, Projection::up, panels, rows, state_.memory.d_up, scratch);
        }
    }

    /// Panels of dx += derivatives of what a projection gave times its transposed matrix.
    void add_projection(const BackwardExperts<T>& experts, const BackwardGroup& group, Projection projection,
                        PanelRange panels, OuterRange rows, std::span<T* const> derivatives,
                        const BackwardScratch<T>& scratch) const {
        const bool at_input = state_.weighs_input() && group.shared == BackwardGroup::none;
        experts.multiply_transposed(projection, group.expert, panels,
                                    as_bytes<T>({derivatives.data() + rows.first, rows.count}, scratch.panel),
                                    scratch.panel);
        add_transposed_adapter(state_, experts, projection, group.expert, panels, rows, scratch.panel);
        for (std::size_t i = 0; i < panels.count; ++i) {
            const std::size_t panel = panels.first + i;
            const T* sums = scratch.panel.sums_of(i, rows.count);
            for (std::size_t r = rows.first; r < rows.first + rows.count; ++r, sums += width) {
                add_scaled(at_input ? state_.memory.input[r] : T(1), sums, columns(panel),
                           state_.dx.row(state_.memory.tokens[r]) + panel * width);
            }
        }
    }

    void add_null(std::size_t panel, std::size_t t) const {
        const PassLayer<T>& layer = state_.layer.pass;
        const NullExperts<T>& null = layer.options->null_experts;
        const std::size_t first = panel * width;
        const T* const dy = state_.dy.row(t) + first;
        T* const dx = state_.dx.row(t) + first;
        const std::size_t n = columns(panel);
        const PlanView<T>& plan = state_.plan;
        const std::size_t identity = state_.n_real() + null.n_zero;
        const std::size_t constant = identity + null.n_identity;
        for (std::size_t a = plan.token_offsets[t]; a < plan.token_offsets[t + 1]; ++a) {
            const auto e = static_cast<std::size_t>(plan.experts[a]);
            const T weight = layer.routed_weight() * plan.weights[a];
            if (e >= identity && e < constant) {
                add_scaled(weight, dy, n, dx);
            } else if (e >= constant && null.mixes.rows() > 0) {
                const NullMix<T> mix = null_mix(state_, t, e - constant);
                add_scaled(weight * mix.of_x, dy, n, dx);
                add_scaled(weight * mix.by_logit, null.mixes.row(2 * (e - constant)) + first, n, dx);
                add_scaled(-weight * mix.by_logit, null.mixes.row(2 * (e - constant) + 1) + first, n, dx);
            }
        }
        const bool unrouted = plan.token_offsets[t] == plan.token_offsets[t + 1];
        if (layer.options->pass_unrouted && unrouted && state_.tape.is_valid(t)) {
            add_scaled(T(1), dy, n, dx);
        }
    }

    [[nodiscard]] auto is_valid() const {
        return [this](std::size_t t) { return state_.tape.is_valid(t); };
    }

    /// A panel of columns of `target` += d_outputs times the weights, for the tokens that `counts` names: a row of
    /// padding is zero, which times a NaN would not be.
    template <class Counts>
    void add_linear(const LinearRef<T>& linear, std::span<const T> d_outputs, std::size_t panel, OuterRange tokens,
                    const MatrixView<T>& target, const BackwardScratch<T>& scratch, const Counts& counts) const {
        std::array<const T*, max_task_rows> rows;
        const std::size_t n = (std::min)(width, target.cols() - panel * width);
        const std::size_t end = tokens.first + tokens.count;
        for (std::size_t first = tokens.first; first < end; first += max_task_rows) {
            const std::size_t count = (std::min)(max_task_rows, end - first);
            for (std::size_t r = 0; r < count; ++r) {
                rows[r] = d_outputs.data() + (first + r) * linear.outputs();
            }
            const auto gather = [&](std::size_t, std::size_t from, std::size_t depth, T* block) {
                linear.gather_transposed(panel * width, from, depth, block);
            };
            multiply_gathered<T>(as_bytes<T>(std::span<const T* const>(rows).first(count), scratch.panel),
                                 linear.outputs(), 1, scratch.panel, {gather});
            for (std::size_t r = 0; r < count; ++r) {
                if (counts(first + r)) {
                    add_scaled(T(1), scratch.panel.sums.data() + r * width, n, target.row(first + r) + panel * width);
                }
            }
        }
    }

    const BackwardState<T>& state_;
    std::size_t panels_;         ///< of dx
    std::size_t chunk_;          ///< panels of a task
    std::size_t chunks_;         ///< 0 where dx is not wanted
    std::size_t router_panels_;  ///< of the gradient of a router's input of its own
    std::size_t blocks_;
};

}  // namespace moe::inline MOE_ABI::detail
