#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "layer/reference/cases.hpp"
#include "moe/gating/strategies/expert_choice.hpp"
#include "moe/reference/backward/gate/sparse_mixer.hpp"
#include "moe/reference/backward/layer/layer.hpp"
#include "moe/train.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/executors.hpp"
#include "train/gradients.hpp"

/// The backward pass of random layers against the definition: every kind of expert, shared and null experts, weights at
/// input and output, routers that read something else, padding, and gates whose gradient is that of a rule. One
/// translation unit a few formats of weights includes it.
namespace moe_test {

/// Sums of squares over all gradients of a case.
struct GradientError {
    double error = 0;
    double power = 0;
    std::size_t sizes_differ = 0;

    template <class T>
    void compare(const std::vector<T>& values, const reference::Vector& expected) {
        if (expected.empty()) {
            return;  // a bias that is not there: its gradient is computed all the same
        }
        sizes_differ += values.size() != expected.size() ? 1U : 0U;
        for (std::size_t i = 0; i < std::min(values.size(), expected.size()); ++i) {
            const double difference = static_cast<double>(values[i]) - expected[i];
            error += difference * difference;
            power += expected[i] * expected[i];
        }
    }
    /// NaN, which passes nothing, where sizes differ.
    [[nodiscard]] double nmse() const {
        return sizes_differ > 0 ? std::numeric_limits<double>::quiet_NaN() : (error == 0 ? 0 : error / power);
    }
};

template <class T>
GradientError compare_gradients(const Gradients<T>& g, const reference::LayerGradients& expected) {
    GradientError error;
    error.compare(g.dx, expected.x);
    error.compare(g.router, expected.router);
    error.compare(g.router_bias, expected.router_bias);
    error.compare(g.router_input, expected.router_input);
    const auto joined = [](const std::vector<reference::ExpertGradients>& experts, auto member) {
        reference::Vector all;
        for (const reference::ExpertGradients& expert : experts) {
            all.insert(all.end(), (expert.*member).begin(), (expert.*member).end());
        }
        return all;
    };
    using E = reference::ExpertGradients;
    error.compare(g.gate, joined(expected.experts, &E::gate));
    error.compare(g.up, joined(expected.experts, &E::up));
    error.compare(g.down, joined(expected.experts, &E::down));
    error.compare(g.gate_bias, joined(expected.experts, &E::gate_bias));
    error.compare(g.up_bias, joined(expected.experts, &E::up_bias));
    error.compare(g.down_bias, joined(expected.experts, &E::down_bias));
    for (std::size_t s = 0; s < expected.shared.size(); ++s) {
        const E& shared = expected.shared[s];
        const reference::Vector* const parts[] = {&shared.gate,      &shared.up,      &shared.down,
                                                  &shared.gate_bias, &shared.up_bias, &shared.down_bias};
        for (std::size_t i = 0; i < 6; ++i) {
            error.compare(g.shared[6 * s + i], *parts[i]);
        }
    }
    if (!g.shared_gate.empty()) {  // the definition has one where nothing is gated, too
        error.compare(g.shared_gate, expected.shared_gate);
    }
    error.compare(g.output_bias, expected.output_bias);
    reference::Vector constants;
    for (const reference::Vector& row : expected.constants) {
        constants.insert(constants.end(), row.begin(), row.end());
    }
    reference::Vector mixes;
    for (const reference::Vector& rows : expected.mixes) {
        mixes.insert(mixes.end(), rows.begin(), rows.end());
    }
    error.compare(g.constants, constants);
    error.compare(g.mixes, mixes);
    return error;
}

/// A gate, and the rule whose gradient it has for the experts it chose; of a SparseMixer there is none.
struct DrawnGate {
    moe::AnyGate gate;
    reference::TokenChoiceRule rule{};
    bool mixes = false;
};

inline DrawnGate draw_gate(Draw& draw, std::size_t n_experts, GateMemory& memory) {
    using reference::Norm;
    using reference::Score;
    const int limit = static_cast<int>(draw.size(1, std::min<std::size_t>(n_experts, 4)));
    switch (draw.size(0, 15)) {
        case 0: return {moe::Dense<moe::Softmax>{.scale = 2}, {.scale = 2}};
        case 1: return {moe::Dense<moe::Sigmoid>{.normalize = true}, {.score = Score::sigmoid, .norm = Norm::sum}};
        case 2: return {moe::TopP<moe::Softmax>{.mass = 0.7, .limit = limit, .normalize = true}, {.norm = Norm::sum}};
        case 3: return {moe::Threshold<moe::ReluScore>{.limit = limit}, {.score = Score::relu}};
        case 4:
            return {moe::Threshold<moe::Sigmoid>{.threshold = 0.6, .keep_best = true, .normalize = true},
                    {.score = Score::sigmoid, .norm = Norm::sum}};
        case 5: {
            memory.scale = random_elements<float>(draw, n_experts, 2);
            return {moe::TopKPerGroup<moe::Softmax>{.n_groups = n_experts % 3 == 0 ? 3 : 1,
                                                    .per_expert_scale = memory.scale},
                    {.per_expert_scale = to_vector(memory.scale)}};
        }
        case 6: {
            (void)hash_case(draw, n_experts, memory);
            const auto table = moe::view(std::as_const(memory.table).data(), GateCases::vocabulary,
                                         memory.table.size() / GateCases::vocabulary);
            return {moe::Hash<moe::SqrtSoftplus>{.table = table, .normalize = true},
                    {.score = Score::sqrt_softplus, .norm = Norm::sum}};
        }
        case 7: return {moe::ExpertChoice<moe::Softmax>{.capacity_factor = 1.5}};
        case 8:
            if (n_experts >= 2) {
                return {moe::SparseMixer{}, {}, true};
            }
            [[fallthrough]];
        default: {
            const RuntimeChoice gate = random_choice(draw, n_experts, memory);
            return {gate, rule_of(gate)};
        }
    }
}

/// Whether an input of a corner of the form is so near to it that rounding in T decides on which side it lies.
template <class T>
bool near_corner(const reference::Expert& expert, double in, const reference::Vector& x) {
    using reference::Form;
    const bool of_relu = expert.form == Form::relu || expert.form == Form::reglu;
    const bool clamped = expert.form == Form::clamp_a || expert.form == Form::clamp_b || expert.form == Form::clamp_c;
    if (!of_relu && !clamped) {
        return false;
    }
    constexpr double rounding = 64 * static_cast<double>(std::numeric_limits<T>::epsilon());
    for (std::size_t i = 0; i < expert.d_ff; ++i) {
        const Projection u(expert.up, expert.up_bias, i, in, x);
        const Projection g = is_gated(expert.form) ? Projection(expert.gate, expert.gate_bias, i, in, x) : u;
        const double gate = expert.form == Form::clamp_c ? reference::silu(g.value) : g.value;
        const double corner = clamped ? expert.limit : 0;
        if (std::abs(gate - corner) <= rounding * (g.size + corner) ||
            (clamped && std::abs(std::abs(u.value) - corner) <= rounding * (u.size + corner))) {
            return true;
        }
    }
    return false;
}

template <class T>
bool near_corner(const reference::Layer& layer, const reference::Choice& choice, const reference::Vector& x) {
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        const auto e = static_cast<std::size_t>(choice.experts[slot]);
        if (e < layer.experts.size() &&
            near_corner<T>(layer.experts[e], layer.weight_at_input ? choice.weights[slot] : 1, x)) {
            return true;
        }
    }
    return std::any_of(layer.shared.begin(), layer.shared.end(),
                       [&](const reference::Expert& shared) { return near_corner<T>(shared, 1, x); });
}

/// Compares one layer, its weights of type W. False where rounding may decide: a corner or a mask is too near.
template <class W>
bool check_gradients_of(std::uint64_t seed, double bound) {
    using T = moe::ComputeType<W>;
    Draw draw(seed);
    const LayerShape shape = random_layer_shape(draw, std::vector<std::size_t>{8, 24, 70}[draw.size(0, 2)], 9);
    const std::size_t d = shape.d_model;
    const std::size_t router_inputs = draw.coin() ? d : draw.size(1, 40);
    const ReferenceCase<W> c(draw, shape, router_inputs);
    GateMemory memory;
    const DrawnGate drawn = draw_gate(draw, shape.n_choices(), memory);
    const moe::MoELayer layer{c.router(drawn.gate), c.bank(), c.shared(), c.options()};
    const std::size_t n = std::vector<std::size_t>{0, 1, 2, 7, 7, 7, 19}[draw.size(0, 6)];
    const auto x = random_elements<T>(draw, n * d, 1);
    const auto dy = random_elements<T>(draw, n * d, 1);
    const bool own_input = router_inputs != d || draw.size(0, 3) == 0;
    const auto router_input = random_elements<T>(draw, own_input ? n * router_inputs : 0, 1);
    const auto ids = GateCases::token_ids(draw, n);
    std::vector<std::uint8_t> valid(n, 1);
    for (std::uint8_t& flag : valid) {
        flag = draw.size(0, 7) == 0 ? 0 : 1;
    }
    moe::ForwardOptions<T> options;
    options.token_ids = ids;
    options.valid = valid;
    if (own_input) {
        options.router_input = moe::view(router_input.data(), n, router_inputs);
    }
    std::vector<reference::Choice> choices(n);  // by the gate's word: what it chooses is tested elsewhere
    const auto run = [&](const auto& any, Gradients<T>& gradients, std::size_t workers,
                         moe::TapeKeeps keeps = moe::TapeKeeps::products) {
        moe::Tape<T> tape(keeps);
        moe::Workspace workspace;
        std::vector<T> y(n * d);
        moe::forward(any, moe::view(x.data(), n, d), moe::view(y.data(), n, d), tape, workspace,
                     ThreadExecutor(workers), options);
        const moe::PlanView<T> plan = std::as_const(tape).plan();
        for (std::size_t t = 0; t < n; ++t) {
            const auto chosen =
                plan.experts.subspan(plan.token_offsets[t], plan.token_offsets[t + 1] - plan.token_offsets[t]);
            choices[t].experts.assign(chosen.begin(), chosen.end());
        }
        moe::backward(any, tape, moe::view(dy.data(), n, d), moe::view(gradients.dx.data(), n, d), gradients.to,
                      workspace, ReversedExecutor(workers));
    };
    Gradients<T> gradients(layer, n, router_inputs, own_input);
    run(layer, gradients, 1 + seed % 3);

    reference::Layer definition = c.definition();
    definition.rule = drawn.rule;
    const reference::Vector wide_x(x.begin(), x.end());
    const reference::Vector wide_input(router_input.begin(), router_input.end());
    const reference::Vector& read = own_input ? wide_input : wide_x;
    for (std::size_t t = 0; t < n; ++t) {
        if (valid[t] == 0) {
            continue;
        }
        const auto logits = reference::router_logits(definition, reference::row_of(read, t, router_inputs));
        if (drawn.mixes) {
            const auto mixed = sparse_mixer(logits, static_cast<double>(std::numeric_limits<T>::epsilon()));
            if (!mixed || mixed->experts != choices[t].experts) {
                return false;
            }
            choices[t] = *mixed;
        } else {
            choices[t] = reference::weighed(drawn.rule, logits, choices[t].experts);
        }
        if (near_corner<T>(definition, choices[t], reference::row_of(wide_x, t, d))) {
            return false;
        }
    }
    const auto gate_gradient = [&](std::size_t t, const reference::Vector& logits, const reference::Vector& d_weights) {
        return drawn.mixes ? reference::sparse_mixer_backward(logits, 0.01, choices[t], d_weights)
                           : reference::gate_backward(drawn.rule, logits, choices[t], d_weights);
    };
    const reference::LayerGradients expected =
        reference::backward(definition, wide_x, read, reference::Vector(dy.begin(), dy.end()), choices, gate_gradient,
                            {}, std::vector<bool>(valid.begin(), valid.end()));
    INFO("seed " << seed << ", " << n << " tokens, form " << static_cast<int>(shape.form.kind));
    REQUIRE(compare_gradients(gradients, expected).nmse() <= bound);
    if (seed % 3 == 0) {
        Gradients<T> again(layer, n, router_inputs, own_input);
        run(layer, again, 2, moe::TapeKeeps::routing);
        REQUIRE(same_bits(again.all(), gradients.all()));
    }
    if (seed % 4 == 0) {
        Gradients<T> packed(layer, n, router_inputs, own_input);
        run(moe::pack(layer), packed, 2);
        REQUIRE(same_bits(packed.all(), gradients.all()));
    }
    return true;
}

/// `bound` is that of the forward pass, ten times as much in float: a weight's gradient less the mean of all of a token
/// loses digits. Seen in 20,000 cases: 3e-28 in double, 2e-12 in float.
template <class W>
void check_many_gradients(std::uint64_t first, std::size_t count, double bound) {
    std::size_t compared = 0;
    for (std::uint64_t seed = first; compared < count; ++seed) {
        compared += check_gradients_of<W>(seed, bound) ? 1U : 0U;
        REQUIRE(seed - first < count + count / 4);  // corners are rare
    }
}

}  // namespace moe_test
