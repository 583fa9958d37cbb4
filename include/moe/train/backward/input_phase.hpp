#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "../../kernels/add_scaled.hpp"
#include "null_mix.hpp"

namespace moe::inline MOE_ABI::detail {

/// dx, and the gradient of a router's input of its own. Tasks: (panel of columns, block of tokens); in dx experts are
/// added in ascending order, then the shared ones, null experts and what flows through the logits.
template <class T>
class InputPhase {
public:
    explicit InputPhase(const BackwardState<T>& state, std::size_t n_workers) : state_(state) {
        panels_ = divide_up(state.dy.cols(), width);
        constexpr std::size_t tasks_per_worker = 4;
        blocks_ = std::clamp<std::size_t>(divide_up(state.n_tokens(), max_task_rows), 1,
                                          divide_up(n_workers * tasks_per_worker, panels_));
        const bool wanted = state.gradients.router_input.rows() > 0 && state.tape.logits().cols() > 0;
        router_panels_ = wanted ? divide_up(state.gradients.router_input.cols(), width) : 0;
        panels_ = state.dx.rows() > 0 ? panels_ : 0;
    }

    [[nodiscard]] std::size_t n_tasks() const { return (panels_ + router_panels_) * blocks_; }

    void run(std::size_t task, const BackwardScratch<T>& scratch) const {
        const std::size_t panel = task / blocks_;
        const OuterRange tokens{
            state_.n_tokens() * (task % blocks_) / blocks_,
            state_.n_tokens() * (task % blocks_ + 1) / blocks_ - state_.n_tokens() * (task % blocks_) / blocks_};
        if (panel < panels_) {
            add_inputs(panel, tokens, scratch);
        } else {
            add_linear(state_.layer.pass.router, state_.memory.d_logits, panel - panels_, tokens,
                       state_.gradients.router_input, scratch);
        }
    }

private:
    static constexpr std::size_t width = Panel<T>::width;

    void add_inputs(std::size_t panel, OuterRange tokens, const BackwardScratch<T>& scratch) const {
        const std::size_t begin = tokens.first;
        const std::size_t end = tokens.first + tokens.count;
        if (!state_.options.accumulate_dx) {
            for (std::size_t t = begin; t < end; ++t) {
                std::fill_n(state_.dx.row(t) + panel * width, columns(panel), T(0));
            }
        }
        for (std::size_t g = 0; g < state_.n_groups; ++g) {
            add_experts(state_.memory.groups[g], panel, begin, end, scratch);
        }
        for (std::size_t t = begin; t < end; ++t) {
            add_null(panel, t);
        }
        const PassLayer<T>& layer = state_.layer.pass;
        if (layer.shared.gated()) {
            add_linear(layer.shared.gate(), state_.memory.d_shared, panel, tokens, state_.dx, scratch);
        }
        const bool own_input = state_.tape.router_input().data() != state_.tape.x().data();
        if (state_.options.through_router && !own_input && state_.tape.logits().cols() > 0) {
            add_linear(layer.router, state_.memory.d_logits, panel, tokens, state_.dx, scratch);
        }
    }

    [[nodiscard]] std::size_t columns(std::size_t panel) const {
        return (std::min)(width, state_.dy.cols() - panel * width);
    }

    void add_experts(const BackwardGroup& group, std::size_t panel, std::size_t begin, std::size_t end,
                     const BackwardScratch<T>& scratch) const {
        const BackwardExperts<T> experts = state_.experts_of(group);
        const OuterRange all = state_.entries(group, begin, end);
        const bool at_input = state_.weighs_input() && group.shared == BackwardGroup::none;
        for (std::size_t first = all.first; first < all.first + all.count; first += max_task_rows) {
            const std::size_t count = (std::min)(max_task_rows, all.first + all.count - first);
            const auto add = [&](Projection projection, std::span<T* const> rows) {
                experts.multiply_transposed(projection, group.expert, {panel, 1},
                                            as_bytes<T>({rows.data() + first, count}, scratch.panel), scratch.panel);
                for (std::size_t r = 0; r < count; ++r) {
                    add_scaled(at_input ? state_.memory.input[first + r] : T(1), scratch.panel.sums.data() + r * width,
                               columns(panel), state_.dx.row(state_.memory.tokens[first + r]) + panel * width);
                }
            };
            if (experts.layout().gated) {
                add(Projection::gate, state_.memory.d_gate);
            }
            add(Projection::up, state_.memory.d_up);
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

    /// A panel of columns of `target` += d_outputs times the weights, for the tokens that are no padding: a row of
    /// padding is zero, which times a NaN would not be.
    void add_linear(const LinearRef<T>& linear, std::span<const T> d_outputs, std::size_t panel, OuterRange tokens,
                    const MatrixView<T>& target, const BackwardScratch<T>& scratch) const {
        std::array<const T*, max_task_rows> rows;
        const std::size_t n = (std::min)(width, target.cols() - panel * width);
        const std::size_t end = tokens.first + tokens.count;
        for (std::size_t first = tokens.first; first < end; first += max_task_rows) {
            const std::size_t count = (std::min)(max_task_rows, end - first);
            for (std::size_t r = 0; r < count; ++r) {
                rows[r] = d_outputs.data() + (first + r) * linear.outputs();
            }
            multiply_gathered<T>(as_bytes<T>(std::span<const T* const>(rows).first(count), scratch.panel),
                                 linear.outputs(), 1, scratch.panel,
                                 [&](std::size_t, std::size_t from, std::size_t depth, T* block) {
                                     linear.gather_transposed(panel * width, from, depth, block);
                                 });
            for (std::size_t r = 0; r < count; ++r) {
                if (state_.tape.is_valid(first + r)) {
                    add_scaled(T(1), scratch.panel.sums.data() + r * width, n, target.row(first + r) + panel * width);
                }
            }
        }
    }

    const BackwardState<T>& state_;
    std::size_t panels_;         ///< of dx, 0 where it is not wanted
    std::size_t router_panels_;  ///< of the gradient of a router's input of its own
    std::size_t blocks_;
};

}  // namespace moe::inline MOE_ABI::detail
