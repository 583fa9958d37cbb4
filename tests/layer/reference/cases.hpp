#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "layer/batch_runner.hpp"
#include "layer/reference/bound.hpp"
#include "moe/reference/layer/layer.hpp"

/// Layers and gates beside what the definition in reference/ says of them.
namespace moe_test {

template <class Span>
reference::Vector to_vector(const Span& values) {
    reference::Vector result;
    for (const auto& value : values) {
        result.push_back(static_cast<double>(moe::load_element(&value)));
    }
    return result;
}

/// Expert `e` of a contiguous stack.
template <class W>
reference::Vector to_vector(const moe::WeightStack<W>& stack, std::size_t e) {
    if (stack.empty()) {
        return {};
    }
    return to_vector(std::span<const W>(stack.block(e, 0, stack.outputs()).data, stack.outputs() * stack.inputs()));
}

inline reference::Form reference_form(moe::FormKind kind) {
    using reference::Form;
    constexpr std::array forms{Form::swiglu,   Form::geglu_erf,    Form::geglu_tanh, Form::reglu,     Form::sigmoid_glu,
                               Form::relu,     Form::relu_squared, Form::gelu_erf,   Form::gelu_tanh, Form::silu,
                               Form::identity, Form::clamp_a,      Form::clamp_b,    Form::clamp_c};
    return forms.at(static_cast<std::size_t>(kind));
}

template <class Bank>
reference::Expert reference_expert(const Bank& bank, const moe::AnyForm& form, std::size_t e) {
    const auto& weights = bank.weights();
    reference::Expert expert{bank.d_model(), bank.d_ff(), reference_form(form.kind)};
    expert.gate = to_vector(weights.gate, e);
    expert.up = to_vector(weights.up, e);
    expert.down = to_vector(weights.down, e);
    expert.gate_bias = to_vector(weights.gate_bias, e);
    expert.up_bias = to_vector(weights.up_bias, e);
    expert.down_bias = to_vector(weights.down_bias, e);
    expert.limit = form.limit;
    expert.alpha = form.alpha;
    return expert;
}

// ---- layers
// ----------------------------------------------------------------------------------------------------------

/// A layer with a router of its own width, and the same in double.
template <class W>
class ReferenceCase {
public:
    using T = moe::ComputeType<W>;
    using Bank = moe::ExpertBank<W, moe::AnyForm>;

    ReferenceCase(Draw& draw, LayerShape shape, std::size_t router_inputs)
        : case_(std::move(shape), draw.size(0, 1U << 30)),
          router_inputs_(router_inputs),
          router_(random_elements<W>(draw, this->shape().n_choices() * router_inputs,
                                     3 / std::sqrt(static_cast<double>(router_inputs)))),
          router_bias_(random_elements<W>(draw, draw.coin() ? this->shape().n_choices() : 0, 0.5)),
          shared_gate_(random_elements<W>(draw, this->shape().shared_widths.size() * this->shape().d_model, 1)),
          bank_(with_some_biases(draw)) {
        if (!router_bias_.empty() && draw.size(0, 3) == 0) {  // one expert takes every token, k - 1 share the rest
            router_bias_[draw.size(0, router_bias_.size() - 1)] = to_element<W>(30.0F);
        }
    }

    [[nodiscard]] const LayerShape& shape() const { return case_.shape(); }
    [[nodiscard]] const Bank& bank() const { return bank_; }
    [[nodiscard]] std::size_t router_inputs() const { return router_inputs_; }

    template <class Gate>
    [[nodiscard]] moe::Router<W, Gate> router(Gate gate) const {
        return {moe::view(router_.data(), shape().n_choices(), router_inputs_), std::span<const W>(router_bias_),
                std::move(gate)};
    }
    [[nodiscard]] moe::SharedExperts<Bank> shared() const {
        if (shape().shared_widths.empty() || shape().shared_mode != moe::SharedMode::gated) {
            return case_.shared();
        }
        return {case_.shared().experts(),
                moe::stacked(shared_gate_.data(), 1, shape().shared_widths.size(), shape().d_model)};
    }
    [[nodiscard]] moe::LayerOptions<T> options() const { return case_.options(); }

    [[nodiscard]] reference::Layer definition() const {
        reference::Layer layer;
        layer.d_model = shape().d_model;
        layer.router = to_vector(std::span<const W>(router_));
        layer.router_bias = to_vector(std::span<const W>(router_bias_));
        for (std::size_t e = 0; e < shape().n_experts; ++e) {
            layer.experts.push_back(reference_expert(bank_, shape().form, e));
        }
        layer.n_zero = shape().n_zero;
        layer.n_identity = shape().n_identity;
        const moe::LayerOptions<T> options = case_.options();
        for (std::size_t c = 0; c < shape().n_constant; ++c) {
            layer.constants.push_back(to_vector(options.null_experts.constants.row_span(c)));
            if (shape().mixes) {
                layer.mixes.push_back(to_vector(options.null_experts.mixes.row_span(2 * c)));
                const reference::Vector second = to_vector(options.null_experts.mixes.row_span(2 * c + 1));
                layer.mixes.back().insert(layer.mixes.back().end(), second.begin(), second.end());
            }
        }
        layer.weight_at_input = shape().weight_at == moe::WeightAt::input;
        layer.routed_scale = shape().routed_scale;
        layer.shared_mode = static_cast<reference::Shared>(shape().shared_mode);  // add, gated, average in both
        const moe::SharedExperts<Bank> shared_experts = case_.shared();
        for (const Bank& shared : shared_experts.experts()) {
            layer.shared.push_back(reference_expert(shared, shape().form, 0));
        }
        layer.shared_gate = to_vector(std::span<const W>(shared_gate_));
        layer.output_bias = to_vector(options.output_bias);
        layer.pass_unrouted = options.pass_unrouted;
        return layer;
    }

private:
    [[nodiscard]] Bank with_some_biases(Draw& draw) const {
        moe::ExpertWeights<W> weights = case_.bank().weights();
        for (moe::WeightStack<W>* bias : {&weights.gate_bias, &weights.up_bias, &weights.down_bias}) {
            if (draw.size(0, 3) == 0) {
                *bias = {};
            }
        }
        return Bank(shape().form, weights);
    }

    LayerCase<W> case_;
    std::size_t router_inputs_;
    std::vector<W> router_;
    std::vector<W> router_bias_;
    std::vector<W> shared_gate_;
    Bank bank_;
};

// ---- gates and what the definition says of them
// ----------------------------------------------------------------------

/// A gate, and the choice it has to make of given logits, or nothing where errors of a few `epsilon` may decide it.
struct GateCase {
    moe::AnyGate gate;
    std::function<std::optional<reference::Choice>(const reference::Vector& logits, std::int32_t id, double epsilon)>
        expected;
    std::optional<reference::TokenChoiceRule> rule{};  ///< if it is a TokenChoice
};

/// Memory that gates refer to.
struct GateMemory {
    std::vector<float> bias;
    std::vector<float> scale;
    std::vector<std::int32_t> table;
};

using RuntimeChoice = moe::TokenChoice<moe::RuntimeScore>;

inline reference::TokenChoiceRule rule_of(const RuntimeChoice& gate) {
    reference::TokenChoiceRule rule;
    rule.top_k = static_cast<std::size_t>(gate.top_k);
    rule.softcap = gate.logit_softcap;
    rule.score = static_cast<reference::Score>(gate.score.kind);
    rule.select_on = static_cast<reference::Base>(gate.select_on);
    rule.selection_bias = to_vector(gate.selection_bias);
    rule.n_groups = static_cast<std::size_t>(gate.groups.n_groups);
    rule.groups_kept = static_cast<std::size_t>(gate.groups.kept);
    rule.group_members = static_cast<std::size_t>(gate.groups.score_members);
    rule.group_fill = gate.groups.fill;
    rule.weight_from = static_cast<reference::Source>(gate.weight_from);
    rule.norm = static_cast<reference::Norm>(gate.normalize.kind);
    rule.norm_value = gate.normalize.value;
    rule.scale = gate.scale;
    rule.per_expert_scale = to_vector(gate.per_expert_scale);
    return rule;
}

/// Whether the order of the `count` greatest values, and which they are, stands against errors of `relative` and
/// `absolute` size. Equal fills of masked experts have no error.
inline bool is_decided(reference::Vector values, std::size_t count, double relative, double absolute, double fill) {
    std::sort(values.begin(), values.end(), std::greater<>());
    for (std::size_t i = 1; i < values.size() && i <= count; ++i) {
        const double a = values[i - 1];
        const double b = values[i];
        const bool apart =
            b == -std::numeric_limits<double>::infinity() || a - b > relative * (std::abs(a) + std::abs(b)) + absolute;
        if (!apart && !(a == fill && b == fill)) {
            return false;
        }
    }
    return true;
}

inline bool is_decided(const reference::TokenChoiceRule& rule, const reference::Vector& logits, double epsilon) {
    const double none = std::numeric_limits<double>::quiet_NaN();
    const reference::Vector q = selection_scores(rule, softcapped(rule, logits));
    double absolute = 0;
    for (const double value : q) {
        absolute = std::max(absolute, rule.selection_bias.empty() ? 0.0 : 64 * epsilon * std::abs(value));
    }
    if (rule.n_groups > 1) {
        const double size = 64 * epsilon * (1 + std::abs(*std::max_element(q.begin(), q.end())));
        reference::Vector sums = group_scores(rule, q, logits);
        std::sort(sums.begin(), sums.end(), std::greater<>());
        if (rule.groups_kept < sums.size() && !(sums[rule.groups_kept - 1] - sums[rule.groups_kept] > size)) {
            return false;
        }
    }
    reference::Vector masked = q;
    const std::vector<bool> kept = in_kept_groups(rule, q, logits);
    for (std::size_t e = 0; e < q.size(); ++e) {
        masked[e] = kept[e] ? q[e] : rule.group_fill;
    }
    return is_decided(masked, rule.top_k, 64 * epsilon, absolute, rule.n_groups > 1 ? rule.group_fill : none);
}

inline RuntimeChoice random_choice(Draw& draw, std::size_t n_experts, GateMemory& memory) {
    RuntimeChoice gate;
    const std::size_t k = draw.size(0, 9) == 0 ? n_experts : draw.size(1, std::min<std::size_t>(n_experts, 6));
    gate.top_k = static_cast<int>(k);
    gate.score.kind = static_cast<moe::ScoreKind>(draw.size(0, 3));
    gate.select_on = static_cast<moe::SelectOn>(draw.coin() ? 0 : draw.size(0, 2));
    gate.weight_from = static_cast<moe::WeightFrom>(draw.coin() ? 0 : draw.size(0, 2));
    // Logits of both signs as weights may have a sum of nearly nothing, which no tolerance covers.
    const bool any_sum = gate.score.kind != moe::ScoreKind::identity || gate.weight_from != moe::WeightFrom::score;
    const std::array norms{moe::Normalize::none(), moe::Normalize::lp(1),     moe::Normalize::lp(2),
                           moe::Normalize(true),   moe::Normalize::sum(0.25), moe::Normalize::clamped_sum(0.5)};
    gate.normalize = norms.at(draw.size(0, any_sum ? 5 : 2));
    gate.scale = draw.coin() ? 1.0 : 2.5;
    gate.logit_softcap = draw.size(0, 3) == 0 ? 3.0 : 0.0;
    if (draw.size(0, 2) == 0) {
        gate.selection_bias = memory.bias = random_elements<float>(draw, n_experts, 0.5);
    }
    if (draw.size(0, 3) == 0) {
        gate.per_expert_scale = memory.scale = random_elements<float>(draw, n_experts, 2);
    }
    std::size_t n_groups = draw.coin() ? 1 : draw.size(1, n_experts);
    while (n_experts % n_groups != 0) {
        --n_groups;
    }
    const std::size_t members = n_experts / n_groups;
    gate.groups = {static_cast<int>(n_groups), static_cast<int>(draw.size(moe::divide_up(k, members), n_groups)),
                   static_cast<int>(draw.size(1, std::min<std::size_t>(members, 4))),
                   draw.coin() ? 0.0 : -std::numeric_limits<double>::infinity()};
    return gate;
}

inline GateCase choice_case(const RuntimeChoice& gate) {
    return {gate,
            [rule = rule_of(gate)](const reference::Vector& logits, std::int32_t, double epsilon) {
                const bool decided = is_decided(rule, logits, epsilon);
                return decided ? std::optional(reference::route(rule, logits)) : std::nullopt;
            },
            rule_of(gate)};
}

/// The experts of `chosen`, weighted with the normalised score: Dense and Hash.
inline reference::Choice weighed(reference::Score score, bool normalize, std::vector<moe::ExpertId> chosen,
                                 const reference::Vector& logits) {
    reference::TokenChoiceRule rule;
    rule.norm = normalize ? reference::Norm::sum : reference::Norm::none;
    const reference::Vector scores = scores_of(score, logits);
    reference::Vector weights;
    for (const moe::ExpertId e : chosen) {
        weights.push_back(scores[static_cast<std::size_t>(e)]);
    }
    return {std::move(chosen), normalized(rule, weights)};
}

inline GateCase dense_case(std::size_t n_experts) {
    return {moe::Dense<moe::Sigmoid>{.normalize = true},
            [n_experts](const reference::Vector& logits, std::int32_t, double) {
                std::vector<moe::ExpertId> all(n_experts);
                std::iota(all.begin(), all.end(), moe::ExpertId{0});
                return std::optional(weighed(reference::Score::sigmoid, true, std::move(all), logits));
            }};
}

/// A table of token ids; one token may name an expert twice.
inline GateCase hash_case(Draw& draw, std::size_t n_experts, GateMemory& memory) {
    const std::size_t columns = draw.size(1, std::min<std::size_t>(n_experts, 3));
    memory.table.clear();
    for (std::size_t i = 0; i < GateCases::vocabulary * columns; ++i) {
        memory.table.push_back(static_cast<std::int32_t>(draw.size(0, n_experts - 1)));
    }
    const auto table = moe::view(static_cast<const std::int32_t*>(memory.table.data()), GateCases::vocabulary, columns);
    const auto row = [table](std::int32_t id) {
        const auto entries = table.row_span(static_cast<std::size_t>(id));
        return std::vector<moe::ExpertId>(entries.begin(), entries.end());
    };
    if (draw.coin()) {
        return {moe::Hash<moe::Uniform>{.table = table}, [row](const reference::Vector&, std::int32_t id, double) {
                    return std::optional(reference::Choice{row(id), reference::Vector(row(id).size(), 1.0)});
                }};
    }
    return {moe::Hash<moe::SqrtSoftplus>{.table = table, .normalize = true},
            [row](const reference::Vector& logits, std::int32_t id, double) {
                return std::optional(weighed(reference::Score::sqrt_softplus, true, row(id), logits));
            }};
}

/// Liu et al. 2024 as gating/sparse_mixer.hpp states it; nothing where an expert is at the edge of the mask.
inline std::optional<reference::Choice> sparse_mixer(const reference::Vector& logits, double epsilon) {
    reference::Choice choice;
    reference::Vector left = logits;
    if (!is_decided(logits, 2, 64 * epsilon, 0, 0)) {
        return std::nullopt;
    }
    for (int round = 0; round < 2; ++round) {
        const auto best = static_cast<std::size_t>(reference::top_k(left, 1).front());
        double sum = 0;
        for (std::size_t e = 0; e < logits.size(); ++e) {
            const double distance = (logits[best] - logits[e]) / std::max(std::abs(logits[e]), logits[best]);
            if (std::abs(distance - 0.02) < 64 * epsilon) {
                return std::nullopt;
            }
            sum += distance > 0.02 || std::isinf(left[e]) ? 0 : std::exp(logits[e] - logits[best]);
        }
        choice.experts.push_back(static_cast<moe::ExpertId>(best));
        choice.weights.push_back(1 / sum);
        left[best] = -std::numeric_limits<double>::infinity();
    }
    return choice;
}

inline GateCase random_gate(Draw& draw, std::size_t n_experts, GateMemory& memory) {
    switch (draw.size(0, 9)) {
        case 0: return dense_case(n_experts);
        case 1: return hash_case(draw, n_experts, memory);
        case 2:
            if (n_experts >= 2) {
                return {moe::SparseMixer{}, [](const reference::Vector& logits, std::int32_t, double epsilon) {
                            return sparse_mixer(logits, epsilon);
                        }};
            }
            [[fallthrough]];
        default: return choice_case(random_choice(draw, n_experts, memory));
    }
}

}  // namespace moe_test
