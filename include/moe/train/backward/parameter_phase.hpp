#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "lora_phase.hpp"
#include "null_mix.hpp"

namespace moe::inline MOE_ABI::detail {

/// Gradients of all parameters. Each element is one chain of multiply-adds from what was stored, over tokens in
/// ascending order: so the bits do not depend on the threads, nor on how a batch is cut into calls in order. Tasks:
/// strips of the matrices of a group, then everything else, each by one worker.
template <class T>
class ParameterPhase {
public:
    explicit ParameterPhase(const BackwardState<T>& state) : state_(state) {
        const std::size_t d = state.dy.cols();
        std::size_t widest = 0;
        for (std::size_t g = 0; g < state.n_groups; ++g) {
            widest = (std::max)(widest, state.experts_of(state.memory.groups[g]).layout().d_ff);
        }
        hidden_strips_ = divide_up(widest, strip);
        output_strips_ = divide_up(d, strip);
        per_group_ = 2 * hidden_strips_ + output_strips_ + 1 + LoraGradientTasks<T>::n_tasks;
        router_strips_ = divide_up(state.tape.router_input().cols(), strip);
    }

    [[nodiscard]] std::size_t n_tasks() const { return state_.n_groups * per_group_ + router_strips_ + 3; }

    void run(std::size_t task, const BackwardScratch<T>& scratch) const {
        if (task < state_.n_groups * per_group_) {
            return experts(state_.memory.groups[task / per_group_], task % per_group_, scratch);
        }
        task -= state_.n_groups * per_group_;
        if (task < router_strips_) {
            return router(task, scratch);
        }
        task -= router_strips_;
        if (task == 0) {
            shared_gate(scratch);
        } else if (task == 1) {
            null_experts();
        } else {
            biases();
        }
    }

private:
    /// Rows or columns of a matrix that a task takes.
    static constexpr std::size_t strip = 384;

    [[nodiscard]] const ExpertGradients<T>* gradients_of(const BackwardGroup& group) const {
        if (group.shared == BackwardGroup::none) {
            return &state_.gradients.experts;
        }
        return state_.gradients.shared.empty() ? nullptr : &state_.gradients.shared[group.shared];
    }

    void experts(const BackwardGroup& group, std::size_t task, const BackwardScratch<T>& scratch) const {
        const ExpertGradients<T>* const to = gradients_of(group);
        if (to == nullptr || group.count == 0) {
            return;
        }
        const BackwardExperts<T> experts = state_.experts_of(group);
        const BackwardMemory<T>& memory = state_.memory;
        const PanelLayout<T>& layout = experts.layout();
        const auto rows = [&](const auto& all) {
            return std::span<const T* const>(all.data() + group.first, group.count);
        };
        const bool at_input = state_.weighs_input() && group.shared == BackwardGroup::none;
        const std::span<const T> input =
            at_input ? std::span<const T>(memory.input).subspan(group.first, group.count) : std::span<const T>{};
        const std::span<const T> scale = std::span<const T>(memory.scale).subspan(group.first, group.count);
        if (task < hidden_strips_) {
            outer(to->gate, group.expert, {rows(memory.d_gate), task * strip, cut(layout.d_ff, task)},
                  {rows(memory.x), 0, layout.d_model, input}, scratch);
        } else if (task < 2 * hidden_strips_) {
            task -= hidden_strips_;
            outer(to->up, group.expert, {rows(memory.d_up), task * strip, cut(layout.d_ff, task)},
                  {rows(memory.x), 0, layout.d_model, input}, scratch);
        } else if (task < 2 * hidden_strips_ + output_strips_) {
            task -= 2 * hidden_strips_;
            outer(to->down, group.expert, {rows(memory.dy), task * strip, cut(layout.d_model, task), scale},
                  {rows(memory.hidden), 0, layout.d_ff}, scratch);
        } else if (task > 2 * hidden_strips_ + output_strips_) {
            LoraGradientTasks<T>(state_, group, to->lora)
                .run(task - 2 * hidden_strips_ - output_strips_ - 1, scratch.outer);
        } else {
            add_rows(to->gate_bias, group.expert, rows(memory.d_gate), {});
            add_rows(to->up_bias, group.expert, rows(memory.d_up), {});
            add_rows(to->down_bias, group.expert, rows(memory.dy), scale);
        }
    }

    /// Rows of a strip of `all`; none beyond.
    [[nodiscard]] static std::size_t cut(std::size_t all, std::size_t task) {
        return task * strip < all ? (std::min)(strip, all - task * strip) : 0;
    }

    /// Rows a.first_column of the matrix of expert e += a^T b.
    static void outer(const MutableStack<T>& stack, std::size_t e, const OuterRows<T>& a, const OuterRows<T>& b,
                      const BackwardScratch<T>& scratch) {
        if (stack.empty() || a.columns == 0 || b.columns == 0) {
            return;
        }
        const auto matrix = stack.matrix(e);
        const OuterTarget<T> target{matrix.data, matrix.output_stride, matrix.input_stride};
        moe::add_outer(a, b, target.at(a.first_column, b.first_column), scratch.outer);
    }

    /// A column of biases += the sum of rows, times `scale` if there is one.
    static void add_rows(const MutableStack<T>& stack, std::size_t e, std::span<const T* const> rows,
                         std::span<const T> scale) {
        if (!stack.empty()) {
            const auto column = stack.matrix(e);
            add_rows(column.data, column.output_stride, stack.outputs(), rows, scale);
        }
    }
    static void add_rows(T* sums, std::size_t stride, std::size_t n, std::span<const T* const> rows,
                         std::span<const T> scale) {
        for (std::size_t r = 0; r < rows.size(); ++r) {
            for (std::size_t o = 0; o < n; ++o) {
                sums[o * stride] += scale.empty() ? rows[r][o] : scale[r] * rows[r][o];
            }
        }
    }

    void router(std::size_t task, const BackwardScratch<T>& scratch) const {
        const std::size_t n_logits = state_.tape.logits().cols();
        if (n_logits == 0) {
            return;
        }
        const auto d_logits = std::span<const T* const>(state_.memory.d_logit_rows).first(state_.n_router_rows);
        const auto inputs = std::span<const T* const>(state_.memory.router_rows).first(state_.n_router_rows);
        outer(state_.gradients.router, 0, {d_logits, 0, n_logits},
              {inputs, task * strip, cut(state_.tape.router_input().cols(), task)}, scratch);
        if (task == 0) {
            const std::span<T> bias = state_.gradients.router_bias;
            add_rows(bias.data(), 1, bias.size(), d_logits, {});
        }
    }

    void shared_gate(const BackwardScratch<T>& scratch) const {
        if (!state_.layer.pass.shared.gated()) {
            return;
        }
        const auto n = state_.n_shared_rows;
        outer(state_.gradients.shared_gate, 0,
              {std::span<const T* const>(state_.memory.d_shared_rows).first(n), 0, state_.n_shared()},
              {std::span<const T* const>(state_.memory.x_rows).first(n), 0, state_.dy.cols()}, scratch);
    }

    void null_experts() const {
        const PassLayer<T>& layer = state_.layer.pass;
        const NullExperts<T>& null = layer.options->null_experts;
        const PlanView<T>& plan = state_.plan;
        const std::size_t constant = state_.n_real() + null.n_zero + null.n_identity;
        const std::size_t d = state_.dy.cols();
        for (std::size_t c = 0; c < null.constants.rows(); ++c) {
            for (std::size_t i = plan.expert_offsets[constant + c]; i < plan.expert_offsets[constant + c + 1]; ++i) {
                const std::size_t t = plan.tokens[i];
                const T weight = layer.routed_weight() * plan.weights[plan.assignments[i]];
                const T* const dy = state_.dy.row(t);
                if (null.mixes.rows() == 0) {
                    add_if(state_.gradients.constants, c, weight, dy, d);
                    continue;
                }
                const NullMix<T> mix = null_mix(state_, t, c);
                add_if(state_.gradients.constants, c, weight * (T(1) - mix.of_x), dy, d);
                add_if(state_.gradients.mixes, 2 * c, weight * mix.by_logit, state_.tape.x().row(t), d);
                add_if(state_.gradients.mixes, 2 * c + 1, -weight * mix.by_logit, state_.tape.x().row(t), d);
            }
        }
    }
    static void add_if(const MatrixView<T>& to, std::size_t row, T weight, const T* values, std::size_t d) {
        if (to.rows() > 0) {
            add_scaled(weight, values, d, to.row(row));
        }
    }

    void biases() const {
        const std::span<T> sums = state_.gradients.output_bias;
        for (std::size_t t = 0; t < state_.n_tokens() && !sums.empty(); ++t) {
            add_scaled(T(1), state_.dy.row(t), sums.size(), sums.data());
        }
    }

    const BackwardState<T>& state_;
    std::size_t hidden_strips_;
    std::size_t output_strips_;
    std::size_t per_group_;
    std::size_t router_strips_;
};

}  // namespace moe::inline MOE_ABI::detail
