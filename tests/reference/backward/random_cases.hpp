#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include <moe/reference/layer/layer.hpp>

#include "differences.hpp"

/// Random rules, experts and layers for the gradients of the definition.
namespace moe_test {

/// `top_k` of `n_experts`, weighed in every way there is.
inline moe::reference::TokenChoiceRule random_rule(Numbers& draw, std::size_t n_experts, std::size_t top_k) {
    namespace reference = moe::reference;
    reference::TokenChoiceRule rule{.top_k = top_k};
    rule.softcap = draw.one_in(3) ? 1.5 : 0;
    rule.score = static_cast<reference::Score>(draw.size(0, 4));
    rule.select_on = static_cast<reference::Base>(draw.size(0, 2));
    rule.weight_from = draw.coin() ? reference::Source::score : static_cast<reference::Source>(draw.size(1, 2));
    rule.norm = static_cast<reference::Norm>(draw.size(0, 3));
    rule.norm_value = rule.norm == reference::Norm::sum           ? draw.one_of<double>({0, 1e-20, 0.3})
                      : rule.norm == reference::Norm::clamped_sum ? draw.one_of<double>({1e-12, 0.8})
                                                                  : draw.one_of<double>({1, 1.5, 2, 3, INFINITY});
    rule.scale = draw.one_in(3) ? 2.5 : 1;
    if (draw.one_in(3)) {
        rule.selection_bias = draw.normals(n_experts, 0.3);
    }
    if (draw.one_in(3)) {
        rule.per_expert_scale = draw.normals(n_experts);
    }
    if (n_experts % 2 == 0 && top_k <= n_experts / 2 && draw.coin()) {
        rule.n_groups = 2;
        rule.groups_kept = draw.size(1, 2);
        rule.group_members = draw.size(1, n_experts / 2);
        rule.group_fill = draw.coin() ? 0 : rule.group_fill;
    }
    return rule;
}

/// Whether the weights of a choice are far from a division by 0, where differences tell nothing.
inline bool divides_well(const moe::reference::TokenChoiceRule& rule, const moe::reference::Vector& logits,
                         const std::vector<moe::ExpertId>& experts) {
    moe::reference::TokenChoiceRule bare = rule;
    bare.norm = moe::reference::Norm::none;
    bare.scale = 1;
    bare.per_expert_scale.clear();
    return std::abs(moe::reference::divisor(rule, moe::reference::weighed(bare, logits, experts).weights)) > 0.05;
}

/// 1, 2 or all of `n_experts`.
inline std::size_t random_top_k(Numbers& draw, std::size_t n_experts) {
    return draw.one_of<std::size_t>({1, n_experts < 2 ? 1 : std::size_t{2}, n_experts});
}

/// One of the 13 forms, or an activation of one's own.
inline moe::reference::Expert random_expert(Numbers& draw, std::size_t d_model, std::size_t d_ff, std::size_t form,
                                            bool biases) {
    namespace reference = moe::reference;
    reference::Expert expert{.d_model = d_model, .d_ff = d_ff};
    expert.form = static_cast<reference::Form>(form % 13);
    expert.limit = 1.1;
    const bool gated = reference::is_gated(expert.form);
    expert.gate = draw.normals(gated ? d_ff * d_model : 0);
    expert.up = draw.normals(d_ff * d_model);
    expert.down = draw.normals(d_model * d_ff);
    expert.gate_bias = draw.normals(gated && biases ? d_ff : 0);
    expert.up_bias = draw.normals(biases ? d_ff : 0);
    expert.down_bias = draw.normals(biases ? d_model : 0);
    if (form >= 13) {
        expert.form = form % 2 == 0 ? reference::Form::swiglu : reference::Form::silu;
        expert.gate.resize(form % 2 == 0 ? d_ff * d_model : 0, 0.5);
        expert.gate_bias.resize(form % 2 == 0 && biases ? d_ff : 0, 0.5);
        expert.custom = [](double v) { return std::sin(v); };
        expert.custom_slope = [](double v) { return std::cos(v); };
    }
    return expert;
}
inline constexpr std::size_t n_forms = 15;

struct DrawnLayer {
    moe::reference::Layer layer{};
    moe::reference::Vector x{};
    moe::reference::Vector router_input{};  // where the router reads something else
    moe::reference::Vector dy{};
    bool reads_x = true;

    [[nodiscard]] const moe::reference::Vector& read() const { return reads_x ? x : router_input; }
    [[nodiscard]] std::size_t n_tokens() const { return x.size() / layer.d_model; }
};

/// Everything a layer may have, at sizes of 1 to 3. T in {0, 1, 7}.
inline DrawnLayer random_layer(Numbers& draw) {
    namespace reference = moe::reference;
    DrawnLayer c;
    reference::Layer& layer = c.layer;
    layer.d_model = draw.size(1, 3);
    const bool biases = draw.coin();
    const std::size_t form = draw.size(0, n_forms - 1);
    const std::size_t d_ff = draw.size(1, 3);
    for (std::size_t e = draw.size(1, 4); e > 0; --e) {
        layer.experts.push_back(random_expert(draw, layer.d_model, d_ff, form, biases));
    }
    if (draw.one_in(3)) {
        layer.n_zero = draw.size(0, 1);
        layer.n_identity = draw.size(0, 2);
        const bool mixed = draw.coin();
        for (std::size_t i = draw.size(0, 2); i > 0; --i) {
            layer.constants.push_back(draw.normals(layer.d_model));
            if (mixed) {
                layer.mixes.push_back(draw.normals(2 * layer.d_model));
            }
        }
    }
    if (draw.coin()) {
        layer.shared_mode = static_cast<reference::Shared>(draw.size(0, 2));
        for (std::size_t s = draw.size(1, 2); s > 0; --s) {
            layer.shared.push_back(random_expert(draw, layer.d_model, draw.size(1, 3), form, biases));
        }
        if (layer.shared_mode == reference::Shared::gated) {
            layer.shared_gate = draw.normals(layer.shared.size() * layer.d_model);
        }
    }
    layer.weight_at_input = draw.one_in(3);
    layer.routed_scale = draw.one_in(3) ? 2.5 : 1;
    layer.pass_unrouted = draw.one_in(4);
    layer.output_bias = draw.normals(draw.one_in(3) ? layer.d_model : 0);
    const std::size_t n_tokens = draw.one_of<std::size_t>({0, 1, 7, 7, 7});
    const std::size_t n_experts = layer.n_experts();
    c.reads_x = !draw.one_in(4);
    const std::size_t d_router = c.reads_x ? layer.d_model : draw.size(1, 3);
    c.x = draw.normals(n_tokens * layer.d_model);
    c.dy = draw.normals(n_tokens * layer.d_model);
    c.router_input = draw.normals(c.reads_x ? 0 : n_tokens * d_router);
    bool good = false;
    while (!good) {
        layer.rule = random_rule(draw, n_experts, random_top_k(draw, n_experts));
        layer.router = draw.normals(n_experts * d_router);
        layer.router_bias = draw.normals(draw.coin() ? n_experts : 0);
        good = true;
        for (std::size_t t = 0; t < n_tokens; ++t) {
            const auto first = c.read().begin() + static_cast<std::ptrdiff_t>(t * d_router);
            const reference::Vector logits =
                reference::linear(layer.router, layer.router_bias,
                                  reference::Vector(first, first + static_cast<std::ptrdiff_t>(d_router)), n_experts);
            good = good && divides_well(layer.rule, logits, reference::route(layer.rule, logits).experts);
        }
    }
    return c;
}

/// sum of <dy, y>.
inline double sum_of_products(const moe::reference::Vector& a, const moe::reference::Vector& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        sum += a[i] * b[i];
    }
    return sum;
}

}  // namespace moe_test
