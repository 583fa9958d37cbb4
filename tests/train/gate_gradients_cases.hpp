#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "moe/reference/backward/gate/adaptors.hpp"
#include "moe/reference/backward/gate/cosine.hpp"
#include "moe/train.hpp"
#include "support/layer_cases.hpp"

/// Gates that hold parameters, inside and outside of adaptors, and what the definition says of the gradients of these.
namespace moe_test {

/// Sums of the definition.
struct ExpectedGateGradients {
    moe::reference::Vector scale;
    moe::reference::Vector centroids;
    double temperature = 0;
};

/// One token as its tape has it.
struct GateToken {
    moe::reference::Vector logits;
    moe::reference::Choice choice;     ///< dropped experts among them; no weights
    moe::reference::Vector d_weights;  ///< of each, 0 for those dropped
};

/// What the gates view: differences move it.
struct HeldParameters {
    std::vector<float> scale{1.25F, -0.75F, 0.0F, 1e-30F, 2.0F};
    std::vector<float> positive{0.5F, 1.25F, 2.0F, 0.75F, 1.5F};  ///< where a sum of weights divides
    std::vector<float> centroids;
    double temperature = 0.3;
    std::vector<std::uint8_t> allowed{1, 1, 0, 1, 1};
    std::vector<moe::ExpertId> forced{3, 0};

    static constexpr std::size_t n_experts = 5;  ///< that have a scale
    static constexpr std::size_t width = 3;      ///< of the centroids

    explicit HeldParameters(Draw& draw) : centroids(random_elements<float>(draw, n_experts * width, 1)) {}
};

struct GateComposition {
    std::string name;
    std::size_t n_experts;
    std::size_t n_logits;
    bool is_cosine;
    bool positive;  ///< which of the scales
    bool by_token;  ///< a token's choice does not depend on the others
    std::function<moe::AnyGate(const HeldParameters&)> gate;
    std::function<void(const HeldParameters&, const GateToken&, ExpectedGateGradients&)> add_expected;
};

namespace gate_gradients {

using moe::reference::Choice;
using moe::reference::TokenChoiceRule;
using moe::reference::Vector;

inline Vector wide(const std::vector<float>& values) { return {values.begin(), values.end()}; }

inline void add(Vector& sum, const Vector& values) {
    for (std::size_t i = 0; i < sum.size(); ++i) {
        sum[i] += values[i];
    }
}

/// Of a rule in which `choice` is what it weighed.
inline void add_scale(const TokenChoiceRule& rule, const Vector& logits, const Choice& choice, const Vector& d_weights,
                      ExpectedGateGradients& to) {
    add(to.scale, moe::reference::per_expert_scale_backward(rule, logits, choice, d_weights));
}

/// The rule of a TokenChoice and the gate itself.
template <class Score = moe::Softmax>
GateComposition token_choice(std::string name, moe::TokenChoice<Score> gate, TokenChoiceRule rule) {
    return {std::move(name),
            5,
            5,
            false,
            false,
            true,
            [gate](const HeldParameters& memory) {
                moe::TokenChoice<Score> with = gate;
                with.per_expert_scale = memory.scale;
                return moe::AnyGate(with);
            },
            [rule](const HeldParameters& memory, const GateToken& token, ExpectedGateGradients& to) {
                TokenChoiceRule with = rule;
                with.per_expert_scale = wide(memory.scale);
                add_scale(with, token.logits, token.choice, token.d_weights, to);
            }};
}

/// Sigmoids with positive scales: what most adaptors stand around here.
inline moe::TokenChoice<moe::Sigmoid> inner_gate(const HeldParameters& memory, int top_k = 3) {
    return {.top_k = top_k, .normalize = true, .scale = 1.5, .per_expert_scale = memory.positive};
}
inline TokenChoiceRule inner_rule(const HeldParameters& memory, std::size_t top_k = 3) {
    using namespace moe::reference;
    return {.top_k = top_k,
            .score = Score::sigmoid,
            .norm = Norm::sum,
            .scale = 1.5,
            .per_expert_scale = wide(memory.positive)};
}

inline GateComposition capacity(std::string name, moe::Normalize renormalize, moe::RenormalizeOver over) {
    return {
        std::move(name),
        5,
        5,
        false,
        true,
        false,
        [=](const HeldParameters& memory) {
            return moe::AnyGate(moe::Capacity<moe::TokenChoice<moe::Sigmoid>>{.gate = inner_gate(memory),
                                                                              .limit = moe::CapacityLimit::factor(0.8),
                                                                              .renormalize = renormalize,
                                                                              .renormalize_over = over});
        },
        [=](const HeldParameters& memory, const GateToken& token, ExpectedGateGradients& to) {
            const TokenChoiceRule rule = inner_rule(memory);
            const Choice all = moe::reference::before_drops(token.choice);
            Choice weighed = moe::reference::weighed(rule, token.logits, all.experts);
            weighed.experts = token.choice.experts;
            const TokenChoiceRule norm{.norm = renormalize.kind == moe::Normalize::Kind::none
                                                   ? moe::reference::Norm::none
                                                   : moe::reference::Norm::sum};
            add_scale(rule, token.logits, all,
                      moe::reference::normalized_after_drops_backward(norm, over == moe::RenormalizeOver::chosen,
                                                                      weighed, token.d_weights),
                      to);
        }};
}

/// What a gate chose before experts for which keep does not hold were removed.
template <class Keep>
void add_kept(const TokenChoiceRule& rule, const Vector& logits, bool renormalize, const GateToken& token,
              const Keep& keep, ExpectedGateGradients& to) {
    const Choice before = moe::reference::route(rule, logits);
    std::vector<bool> kept;
    for (const moe::ExpertId e : before.experts) {
        kept.push_back(keep(e));
    }
    add_scale(rule, logits, before, moe::reference::kept_backward(before, kept, renormalize, token.d_weights), to);
}

inline void add_cosine(const HeldParameters& memory, double least, const GateToken& token, ExpectedGateGradients& to) {
    const TokenChoiceRule rule = inner_rule(memory);
    const Vector logits =
        moe::reference::cosine_logits(token.logits, wide(memory.centroids), std::max(memory.temperature, least));
    add_scale(rule, logits, token.choice, token.d_weights, to);
    const Vector d_logits = moe::reference::gate_backward(rule, logits, token.choice, token.d_weights);
    const auto of_cosine =
        moe::reference::cosine_backward(token.logits, wide(memory.centroids), memory.temperature, least, d_logits);
    add(to.centroids, of_cosine.centroids);
    to.temperature += of_cosine.temperature;
}

inline moe::Cosine<moe::TokenChoice<moe::Sigmoid>> cosine_gate(const HeldParameters& memory, double least = 0.01) {
    return {.gate = inner_gate(memory),
            .centroids = moe::view(memory.centroids.data(), HeldParameters::n_experts, HeldParameters::width),
            .temperature = memory.temperature,
            .min_temperature = least};
}

}  // namespace gate_gradients

inline std::vector<GateComposition> gate_compositions() {
    using namespace gate_gradients;
    using moe::Normalize;
    using moe::WeightFrom;
    using moe::reference::Norm;
    using moe::reference::Score;
    using moe::reference::Source;
    const std::size_t width = HeldParameters::width;
    std::vector<GateComposition> all{
        token_choice("softmax", moe::TokenChoice<>{.top_k = 2}, {.top_k = 2}),
        token_choice("sum", moe::TokenChoice<>{.top_k = 3, .normalize = Normalize::sum(0.1), .scale = 1.5},
                     {.top_k = 3, .norm = Norm::sum, .norm_value = 0.1, .scale = 1.5}),
        token_choice("clamped sum", moe::TokenChoice<>{.top_k = 2, .normalize = Normalize::clamped_sum(0.6)},
                     {.top_k = 2, .norm = Norm::clamped_sum, .norm_value = 0.6}),
        token_choice<moe::Identity>("norm", {.top_k = 4, .normalize = Normalize::lp(2), .logit_softcap = 2},
                                    {.softcap = 2, .score = Score::identity, .norm = Norm::lp, .norm_value = 2}),
        token_choice("softmax of selected",
                     moe::TokenChoice<>{.top_k = 3, .weight_from = WeightFrom::softmax_of_selected},
                     {.top_k = 3, .weight_from = Source::softmax_of_selected}),
        token_choice("sigmoid of selected",
                     moe::TokenChoice<>{.top_k = 5, .normalize = true, .weight_from = WeightFrom::sigmoid_of_selected},
                     {.top_k = 5, .weight_from = Source::sigmoid_of_selected, .norm = Norm::sum}),
        capacity("capacity", Normalize::none(), moe::RenormalizeOver::kept),
        capacity("capacity, normalised over kept", true, moe::RenormalizeOver::kept),
        capacity("capacity, normalised over chosen", true, moe::RenormalizeOver::chosen),
    };
    all.push_back({"top k per group", 5, 5, false, false, true,
                   [](const HeldParameters& memory) {
                       return moe::AnyGate(moe::TopKPerGroup<>{
                           .n_groups = 1, .top_k = 2, .scale = 3, .per_expert_scale = memory.scale});
                   },
                   [](const HeldParameters& memory, const GateToken& token, ExpectedGateGradients& to) {
                       add_scale({.scale = 3, .per_expert_scale = wide(memory.scale)}, token.logits, token.choice,
                                 token.d_weights, to);
                   }});
    all.push_back({"masked", 5, 5, false, true, true,
                   [](const HeldParameters& memory) {
                       return moe::AnyGate(moe::Masked<moe::TokenChoice<moe::Sigmoid>>{
                           .gate = inner_gate(memory, 5), .allowed = memory.allowed, .renormalize = true});
                   },
                   [](const HeldParameters& memory, const GateToken& token, ExpectedGateGradients& to) {
                       Vector logits = token.logits;
                       logits[2] = -std::numeric_limits<double>::infinity();
                       add_kept(
                           inner_rule(memory, 5), logits, true, token, [](moe::ExpertId e) { return e != 2; }, to);
                   }});
    for (const bool renormalize : {false, true}) {
        all.push_back({"without null", 5, 5, false, true, true,
                       [=](const HeldParameters& memory) {
                           return moe::AnyGate(moe::WithoutNull<moe::TokenChoice<moe::Sigmoid>>{
                               .gate = inner_gate(memory), .first_null = 3, .renormalize = renormalize});
                       },
                       [=](const HeldParameters& memory, const GateToken& token, ExpectedGateGradients& to) {
                           add_kept(
                               inner_rule(memory), token.logits, renormalize, token,
                               [](moe::ExpertId e) { return e < 3; }, to);
                       }});
    }
    all.push_back({"forced", 5, 5, false, true, true,
                   [](const HeldParameters& memory) {
                       return moe::AnyGate(moe::Forced<moe::TokenChoice<moe::Sigmoid>>{
                           .gate = inner_gate(memory), .experts = moe::view(memory.forced.data(), 1, 2)});
                   },
                   [](const HeldParameters& memory, const GateToken& token, ExpectedGateGradients& to) {
                       add_scale(inner_rule(memory), token.logits, token.choice, token.d_weights, to);
                   }});
    all.push_back({"with shared", 7, 7, false, true, true,
                   [](const HeldParameters& memory) {
                       return moe::AnyGate(moe::WithShared{inner_gate(memory, 2), 2});
                   },
                   [](const HeldParameters& memory, const GateToken& token, ExpectedGateGradients& to) {
                       add_scale(moe::reference::rule_of_all(inner_rule(memory), 7), token.logits, token.choice,
                                 token.d_weights, to);
                   }});
    for (const double least : {0.01, 0.5}) {  // the temperature, 0.3, is below the second
        all.push_back({"cosine", 5, width, true, true, true,
                       [=](const HeldParameters& memory) { return moe::AnyGate(cosine_gate(memory, least)); },
                       [=](const HeldParameters& memory, const GateToken& token, ExpectedGateGradients& to) {
                           add_cosine(memory, least, token, to);
                       }});
    }
    all.push_back({"capacity around cosine", 5, width, true, true, false,
                   [](const HeldParameters& memory) {
                       return moe::AnyGate(moe::Capacity<moe::Cosine<moe::TokenChoice<moe::Sigmoid>>>{
                           .gate = cosine_gate(memory), .limit = moe::CapacityLimit::factor(0.8)});
                   },
                   [](const HeldParameters& memory, const GateToken& token, ExpectedGateGradients& to) {
                       GateToken before = token;
                       before.choice = moe::reference::before_drops(token.choice);
                       add_cosine(memory, 0.01, before, to);
                   }});
    return all;
}

/// A layer over memory of its own, and its passes.
template <class T>
struct GateNet {
    using Layer = moe::MoELayer<moe::Router<T, moe::AnyGate>, moe::ExpertBank<T, moe::AnyForm>>;

    static constexpr std::size_t d = 7;
    std::size_t n;
    std::size_t n_logits;
    BankWeights<T> experts;
    std::vector<T> router, x, dy;
    std::vector<std::uint8_t> valid;

    GateNet(Draw& draw, std::size_t n_tokens, std::size_t n_experts, std::size_t logits)
        : n(n_tokens),
          n_logits(logits),
          experts(draw, n_experts, d, 5, true, false),
          router(random_elements<T>(draw, n_logits * d, 1)),
          x(random_elements<T>(draw, n * d, 1)),
          dy(random_elements<T>(draw, n * d, 1)),
          valid(n, 1) {}

    [[nodiscard]] moe::ExpertBank<T, moe::AnyForm> bank() const { return {moe::AnyForm{}, experts.stacks()}; }
    template <class Gate>
    [[nodiscard]] auto layer(Gate gate) const {
        return moe::MoELayer{moe::Router<T, Gate>{moe::view(router.data(), n_logits, d), std::move(gate)}, bank()};
    }
    /// Tokens [first, first + count): forward, then backward without gradients of parameters.
    template <class AnyLayer>
    void run(const AnyLayer& any, moe::Tape<T>& tape, moe::Workspace& workspace, std::size_t first,
             std::size_t count) const {
        forward(any, tape, workspace, first, count);
        moe::backward(any, tape, moe::view(dy.data() + first * d, count, d), {}, {}, workspace);
    }
    template <class AnyLayer>
    std::vector<T> forward(const AnyLayer& any, moe::Tape<T>& tape, moe::Workspace& workspace, std::size_t first,
                           std::size_t count) const {
        std::vector<T> y(count * d);
        moe::ForwardOptions<T> options;
        options.valid = std::span(valid).subspan(first, count);
        options.first_position = first;
        moe::forward(any, moe::view(x.data() + first * d, count, d), moe::view(y.data(), count, d), tape, workspace,
                     moe::SerialExecutor{}, options);
        return y;
    }
};

/// Memory of all that there is.
template <class T>
struct GateSums {
    std::vector<T> scale = std::vector<T>(HeldParameters::n_experts);
    std::vector<T> centroids = std::vector<T>(HeldParameters::n_experts * HeldParameters::width);
    T temperature = 0;

    [[nodiscard]] moe::GateGradients<T> to(bool is_cosine) {
        moe::GateGradients<T> result{.per_expert_scale = scale};
        if (is_cosine) {
            result.centroids = moe::view(centroids.data(), HeldParameters::n_experts, HeldParameters::width);
            result.temperature = &temperature;
        }
        return result;
    }
    [[nodiscard]] std::vector<T> all() const {
        std::vector<T> result = scale;
        result.insert(result.end(), centroids.begin(), centroids.end());
        result.push_back(temperature);
        return result;
    }
};

}  // namespace moe_test
