#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "../kernels/add_scaled.hpp"
#include "../kernels/row.hpp"
#include "backward_state.hpp"

/// The phases of a backward pass, in order; all workers are done with one before the next begins. Equations: see
/// reference/backward/. Every number is summed by one worker in one order, whatever their number.
namespace moe::inline MOE_ABI::detail {

template <class T>
[[nodiscard]] RowPointers as_bytes(std::span<const T* const> rows, const PanelScratch<T>& scratch) {
    for (std::size_t r = 0; r < rows.size(); ++r) {
        scratch.rows[r] = reinterpret_cast<const std::byte*>(rows[r]);
    }
    return scratch.rows.first(rows.size());
}

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

/// A constant expert that mixes: [a1, a2] = softmax(W x), of a token.
template <class T>
struct NullMix {
    T of_x;      ///< a1
    T by_logit;  ///< a1 a2 (<dy, x> - <dy, constant>): times the weight, the derivative by the logit of a1
};
template <class T>
[[nodiscard]] NullMix<T> null_mix(const BackwardState<T>& state, std::size_t t, std::size_t constant) {
    const NullExperts<T>& null = state.layer.pass.options->null_experts;
    const T* const x = state.tape.x().row(t);
    const T* const dy = state.dy.row(t);
    const std::size_t d = state.dy.cols();
    const T of_x =
        math::sigmoid(dot_row(null.mixes.row(2 * constant), x, d) - dot_row(null.mixes.row(2 * constant + 1), x, d));
    return {of_x, of_x * (T(1) - of_x) * (dot_row(dy, x, d) - dot_row(dy, null.constants.row(constant), d))};
}

/// Gradients of weights, then of logits. Tasks: blocks of tokens.
template <class T>
class TokenPhase {
public:
    explicit TokenPhase(BackwardState<T>& state, std::span<T> d_weights) : state_(state), d_weights_(d_weights) {}

    static constexpr std::size_t tokens = 8;
    [[nodiscard]] std::size_t n_tasks() const { return divide_up(state_.n_tokens(), tokens); }

    void run(std::size_t task, const BackwardScratch<T>& scratch) const {
        const std::size_t end = (std::min)((task + 1) * tokens, state_.n_tokens());
        for (std::size_t t = task * tokens; t < end; ++t) {
            token(t, scratch);
        }
    }

private:
    void token(std::size_t t, const BackwardScratch<T>& scratch) const {
        const PlanView<T>& plan = state_.plan;
        for (std::size_t a = plan.token_offsets[t]; a < plan.token_offsets[t + 1]; ++a) {
            d_weights_[a] = weight_gradient(t, a);
        }
        for (std::size_t s = 0; s < state_.n_shared() && state_.layer.pass.shared.gated(); ++s) {
            shared_gradient(t, s);
        }
        const std::size_t n_logits = state_.tape.logits().cols();
        if (n_logits == 0) {
            return;
        }
        T* const d_logits = state_.memory.d_logits.data() + t * n_logits;
        std::fill_n(d_logits, n_logits, T(0));
        if (!state_.tape.is_valid(t)) {
            return;
        }
        if (state_.tape.choices().rows() > 0) {  // else the weights were given, and are no function of the logits
            gate_gradient(t, d_logits, scratch);
        }
        const std::span<const T> extra = state_.tape.extra_of(t);
        for (std::size_t i = 0; i < extra.size(); ++i) {
            d_logits[i] += extra[i];
        }
    }

    [[nodiscard]] T weight_gradient(std::size_t t, std::size_t a) const {
        const PassLayer<T>& layer = state_.layer.pass;
        const auto e = static_cast<std::size_t>(state_.plan.experts[a]);
        const T scale = layer.routed_weight();
        if (e < state_.n_real()) {
            const bool at_input = state_.weighs_input();  // its dots are made of derivatives, which have the scale
            return (at_input ? T(1) : scale) *
                   entry_gradient(state_.layer.experts, e, state_.memory.entry_of[a], at_input);
        }
        const NullExperts<T>& null = layer.options->null_experts;
        const std::size_t identity = state_.n_real() + null.n_zero;
        const std::size_t constant = identity + null.n_identity;
        const T* const dy = state_.dy.row(t);
        const T* const x = state_.tape.x().row(t);
        const std::size_t d = state_.dy.cols();
        if (e < identity) {
            return 0;
        }
        if (e < constant) {
            return scale * dot_row(dy, x, d);
        }
        const T by_constant = dot_row(dy, null.constants.row(e - constant), d);
        if (null.mixes.rows() == 0) {
            return scale * by_constant;
        }
        const T of_x = null_mix(state_, t, e - constant).of_x;
        return scale * (of_x * dot_row(dy, x, d) + (T(1) - of_x) * by_constant);
    }

    /// <output of an expert, dy>, or at the input of an expert its derivative, from the dots of the strips.
    [[nodiscard]] T entry_gradient(const BackwardExperts<T>& experts, std::size_t e, std::size_t entry,
                                   bool at_input) const {
        const BackwardMemory<T>& memory = state_.memory;
        T sum = 0;
        for (std::size_t s = 0; s < divide_up(experts.layout().d_ff, Panel<T>::width); ++s) {
            sum += memory.dots[entry * memory.strips + s];
        }
        if (at_input) {
            return sum;
        }
        std::array<T, Panel<T>::width> bias;
        const std::size_t d = state_.dy.cols();
        for (std::size_t panel = 0; panel < experts.layout().output_panels(); ++panel) {
            experts.output_bias(e, panel, bias.data());
            const std::size_t first = panel * Panel<T>::width;
            sum += dot_row(bias.data(), memory.dy[entry] + first, (std::min)(Panel<T>::width, d - first));
        }
        return sum;
    }

    /// Of the logit of a shared expert's gate.
    void shared_gradient(std::size_t t, std::size_t s) const {
        const BackwardMemory<T>& memory = state_.memory;
        const std::size_t at = t * state_.n_shared() + s;
        const T gamma = memory.gamma[at];
        T by_gamma = 0;
        for (std::size_t g = 0; g < state_.n_groups; ++g) {
            const BackwardGroup& group = memory.groups[g];
            if (group.shared != s) {
                continue;
            }
            const OuterRange entry = state_.entries(group, t, t + 1);
            if (entry.count > 0) {
                by_gamma =
                    state_.layer.pass.shared_weight() * entry_gradient(state_.layer.shared(s), 0, entry.first, false);
            }
        }
        memory.d_shared[at] = by_gamma * gamma * (T(1) - gamma);
    }

    /// Hands the gate its choice and what its weights are worth, in the order of its slots.
    void gate_gradient(std::size_t t, T* d_logits, const BackwardScratch<T>& scratch) const {
        const PlanView<T>& plan = state_.plan;
        const std::size_t first = plan.token_offsets[t];
        const std::size_t count = plan.token_offsets[t + 1] - first;
        const MatrixView<const ExpertId> choices = state_.tape.choices();
        const std::span<ExpertId> lost = state_.memory.dropped.subspan(t * choices.cols(), choices.cols());
        std::size_t n_lost = 0;
        for (const ExpertId e : choices.row_span(t)) {
            if (e < no_expert) {
                lost[n_lost++] = dropped(e);
            }
        }
        if (count + n_lost == 0) {
            return;
        }
        const std::size_t n_logits = state_.tape.logits().cols();
        state_.layer.gate_backward(state_.layer.gate, state_.tape.logits().row_span(t),
                                   {plan.experts.subspan(first, count), plan.weights.subspan(first, count),
                                    lost.first(n_lost), state_.tape.context(t), scratch.selection},
                                   d_weights_.subspan(first, count), std::span<T>(d_logits, n_logits));
    }

    BackwardState<T>& state_;
    std::span<T> d_weights_;
};

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
        router_panels_ = divide_up(state.gradients.router_input.cols(), width);
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
