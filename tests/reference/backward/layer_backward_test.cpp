// A whole layer: every gradient of random layers, with everything a layer may have, against central differences.

#include <moe/reference/backward/layer/layer.hpp>

#include <cstddef>
#include <string>
#include <vector>

#include "reference/backward/random_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::layer_backward_test {

namespace reference = moe::reference;
using moe_test::Differences;
using moe_test::DrawnLayer;
using moe_test::Numbers;
using reference::Vector;

namespace {

void hold_experts(const std::string& what, std::vector<reference::Expert>& experts,
                  const std::vector<reference::ExpertGradients>& gradients, Differences& differences,
                  const std::function<double()>& f) {
    for (std::size_t e = 0; e < experts.size(); ++e) {
        differences.hold(what + " gate", experts[e].gate, gradients[e].gate, f);
        differences.hold(what + " up", experts[e].up, gradients[e].up, f);
        differences.hold(what + " down", experts[e].down, gradients[e].down, f);
        differences.hold(what + " gate bias", experts[e].gate_bias, gradients[e].gate_bias, f);
        differences.hold(what + " up bias", experts[e].up_bias, gradients[e].up_bias, f);
        differences.hold(what + " down bias", experts[e].down_bias, gradients[e].down_bias, f);
    }
}

/// Holds all gradients of `c`, with losses whose gradients by the logits are `extra`.
void hold(DrawnLayer& c, const std::vector<Vector>& extra, Differences& differences) {
    reference::Layer& layer = c.layer;
    const auto f = [&] {
        Vector y;
        reference::forward(layer, c.x, c.read(), y);
        double sum = moe_test::sum_of_products(y, c.dy);
        for (std::size_t t = 0; t < extra.size(); ++t) {
            const std::size_t d_router = c.read().size() / c.n_tokens();
            sum += moe_test::sum_of_products(reference::router_logits(layer, reference::row_of(c.read(), t, d_router)),
                                             extra[t]);
        }
        return sum;
    };
    const reference::LayerGradients gradients = reference::backward(layer, c.x, c.read(), c.dy, extra);
    differences.hold("x", c.x, gradients.x, f);
    differences.hold("router input", c.router_input, gradients.router_input, f);
    differences.hold("router", layer.router, gradients.router, f);
    differences.hold("router bias", layer.router_bias, gradients.router_bias, f);
    differences.hold("per-expert scale", layer.rule.per_expert_scale, gradients.per_expert_scale, f);
    hold_experts("expert", layer.experts, gradients.experts, differences, f);
    hold_experts("shared", layer.shared, gradients.shared, differences, f);
    differences.hold("shared gate", layer.shared_gate, gradients.shared_gate, f);
    differences.hold("output bias", layer.output_bias, gradients.output_bias, f);
    for (std::size_t i = 0; i < layer.constants.size(); ++i) {
        differences.hold("constant", layer.constants[i], gradients.constants[i], f);
    }
    for (std::size_t i = 0; i < layer.mixes.size(); ++i) {
        differences.hold("mix", layer.mixes[i], gradients.mixes[i], f);
    }
}

}  // namespace

TEST_CASE("every gradient of a layer is that of central differences", "[reference]") {
    Numbers draw(1);
    Differences differences(2);
    for (int i = 0; i < 1500; ++i) {
        DrawnLayer c = moe_test::random_layer(draw);
        std::vector<Vector> extra;
        for (std::size_t t = 0; t < c.n_tokens() && i % 3 == 0; ++t) {
            extra.push_back(draw.normals(c.layer.n_experts()));
        }
        hold(c, extra, differences);
    }
    CHECK(differences.problem(30000) == "");
}

TEST_CASE("an expert without tokens has gradients of 0, in their full size", "[reference]") {
    Numbers draw(3);
    std::size_t n_idle = 0;
    for (int i = 0; i < 200; ++i) {
        const DrawnLayer c = moe_test::random_layer(draw);
        const auto gradients = reference::backward(c.layer, c.x, c.read(), c.dy);
        REQUIRE(gradients.experts.size() == c.layer.experts.size());
        REQUIRE(gradients.x.size() == c.x.size());
        std::vector<bool> used(c.layer.n_experts(), false);
        for (std::size_t t = 0; t < c.n_tokens(); ++t) {
            const std::size_t d_router = c.read().size() / c.n_tokens();
            for (const moe::ExpertId e : reference::route(c.layer, reference::row_of(c.read(), t, d_router)).experts) {
                used[static_cast<std::size_t>(e)] = true;
            }
        }
        for (std::size_t e = 0; e < c.layer.experts.size(); ++e) {
            const reference::Expert& expert = c.layer.experts[e];
            CHECK(gradients.experts[e].up.size() == expert.up.size());
            CHECK(gradients.experts[e].down_bias.size() == expert.down_bias.size());
            if (!used[e]) {
                ++n_idle;
                CHECK(gradients.experts[e].up == Vector(expert.up.size(), 0.0));
                CHECK(gradients.experts[e].down == Vector(expert.down.size(), 0.0));
                CHECK(gradients.experts[e].gate_bias == Vector(expert.gate_bias.size(), 0.0));
            }
        }
    }
    CHECK(n_idle > 50);
}

TEST_CASE("a token that no expert took: passed on, or nothing but shared experts and bias", "[reference]") {
    Numbers draw(4);
    DrawnLayer c = moe_test::random_layer(draw);
    reference::Layer& layer = c.layer;
    layer.d_model = 1;
    layer.experts = {moe_test::random_expert(draw, 1, 2, 0, true)};
    layer.n_zero = layer.n_identity = 0;
    layer.constants.clear();
    layer.mixes.clear();
    layer.shared.clear();
    layer.shared_mode = reference::Shared::add;
    layer.shared_gate.clear();
    layer.output_bias = {0.5};
    layer.rule = {};
    layer.router = {1};
    layer.router_bias.clear();
    const Vector x{2, 3, 4};
    const Vector dy{10, 20, 40};
    const std::vector<reference::Choice> choices{{{moe::dropped(0)}, {0.5}}, {{}, {}}, {{moe::no_expert}, {0.5}}};
    const auto gate = [](std::size_t, const Vector& logits, const Vector& d_weights) {
        for (const double d : d_weights) {
            CHECK(d == 0);
        }
        return Vector(logits.size(), 0.0);
    };
    layer.pass_unrouted = true;
    auto gradients = reference::backward(layer, x, x, dy, choices, gate);
    CHECK(gradients.x == dy);
    CHECK(gradients.output_bias == Vector{70});
    CHECK(gradients.experts[0].up == Vector{0, 0});
    // padding is not passed on, but has the bias
    gradients = reference::backward(layer, x, x, dy, choices, gate, {}, {true, false, true});
    CHECK(gradients.x == Vector{10, 0, 40});
    CHECK(gradients.output_bias == Vector{70});
    layer.pass_unrouted = false;
    gradients = reference::backward(layer, x, x, dy, choices, gate);
    CHECK(gradients.x == Vector{0, 0, 0});
}

TEST_CASE("padding: whatever it holds and chose, router and experts do not learn of it", "[reference]") {
    Numbers draw(5);
    for (int i = 0; i < 100; ++i) {
        DrawnLayer c = moe_test::random_layer(draw);
        c.layer.shared.clear();
        c.layer.shared_mode = reference::Shared::add;
        c.layer.shared_gate.clear();
        c.layer.rule.per_expert_scale.clear();
        c.reads_x = true;
        c.layer.router = draw.normals(c.layer.n_experts() * c.layer.d_model);
        const std::size_t d = c.layer.d_model;
        c.layer.rule.norm = reference::Norm::none;
        std::vector<reference::Choice> choices;
        for (std::size_t t = 0; t < c.n_tokens(); ++t) {
            choices.push_back(reference::route(c.layer, reference::row_of(c.x, t, d)));
        }
        const auto gate = [&](std::size_t t, const Vector& logits, const Vector& d_weights) {
            return reference::gate_backward(c.layer.rule, logits, choices[t], d_weights);
        };
        const auto expected = reference::backward(c.layer, c.x, c.x, c.dy, choices, gate);
        Vector x = c.x;
        Vector dy = c.dy;
        const std::size_t n_tokens = c.n_tokens();
        std::vector<bool> valid(n_tokens, true);
        for (std::size_t t = 0; t < 2; ++t) {
            x.insert(x.end(), d, 1e3);
            dy.insert(dy.end(), d, 7.0);
            choices.push_back({{0}, {1e3}});
            valid.push_back(false);
        }
        const auto padded = reference::backward(c.layer, x, x, dy, choices, gate, {}, valid);
        CHECK(padded.router == expected.router);
        CHECK(padded.router_bias == expected.router_bias);
        CHECK(padded.experts[0].up == expected.experts[0].up);
        CHECK(Vector(padded.x.begin(), padded.x.begin() + static_cast<std::ptrdiff_t>(n_tokens * d)) == expected.x);
        CHECK(reference::row_of(padded.x, n_tokens, d) == Vector(d, 0.0));
        CHECK(padded.logits.back() == Vector(c.layer.n_experts(), 0.0));
    }
}

}  // namespace moe_test::layer_backward_test
