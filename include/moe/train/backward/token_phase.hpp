#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "../../kernels/row.hpp"
#include "null_mix.hpp"

namespace moe::inline MOE_ABI::detail {

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
            d_weights_[a] += weight_gradient(t, a);
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
        // those of shared experts come last
        for (std::size_t g = state_.n_groups; g > 0 && memory.groups[g - 1].shared != BackwardGroup::none; --g) {
            const BackwardGroup& group = memory.groups[g - 1];
            const OuterRange entry = state_.entries(group, t, t + 1);
            if (group.shared == s && entry.count > 0) {
                by_gamma =
                    state_.layer.pass.shared_weight() * entry_gradient(state_.layer.shared(s), 0, entry.first, false);
            }
        }
        memory.d_shared[at] = by_gamma * gamma * (T(1) - gamma);
    }

    /// Hands the gate its choice and what its weights are worth, in the order of its slots.
    void gate_gradient(std::size_t t, T* d_logits, const BackwardScratch<T>& scratch) const {
        const std::size_t max_per_token = state_.tape.choices().cols();
        const Chosen<T> chosen =
            state_.tape.chosen(t, state_.memory.dropped.subspan(t * max_per_token, max_per_token), scratch.selection);
        if (chosen.experts.empty() && chosen.dropped.empty()) {
            return;
        }
        state_.layer.gate_backward(state_.layer.gate, state_.tape.logits().row_span(t), chosen,
                                   d_weights_.subspan(state_.plan.token_offsets[t], chosen.experts.size()),
                                   std::span<T>(d_logits, state_.tape.logits().cols()));
    }

    BackwardState<T>& state_;
    std::span<T> d_weights_;
};

}  // namespace moe::inline MOE_ABI::detail
