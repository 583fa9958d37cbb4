// What the gradients of a layer have in common with those of another layer or another batch.

#include <moe/reference/backward/layer/layer.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "reference/backward/random_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::layer_laws_test {

namespace reference = moe::reference;
using moe_test::DrawnLayer;
using moe_test::Numbers;
using reference::LayerGradients;
using reference::Vector;

namespace {

LayerGradients backward(const DrawnLayer& c) { return reference::backward(c.layer, c.x, c.read(), c.dy); }

void append(Vector& to, const Vector& values) { to.insert(to.end(), values.begin(), values.end()); }

Vector flat(const reference::ExpertGradients& g) {
    Vector all;
    for (const Vector* part : {&g.gate, &g.up, &g.down, &g.gate_bias, &g.up_bias, &g.down_bias}) {
        append(all, *part);
    }
    return all;
}

/// The gradients of all parameters, one after the other.
Vector parameters_of(const LayerGradients& g) {
    Vector all;
    append(all, g.router);
    append(all, g.router_bias);
    append(all, g.per_expert_scale);
    for (const auto* experts : {&g.experts, &g.shared}) {
        for (const reference::ExpertGradients& expert : *experts) {
            append(all, flat(expert));
        }
    }
    for (const auto* vectors : {&g.constants, &g.mixes}) {
        for (const Vector& v : *vectors) {
            append(all, v);
        }
    }
    append(all, g.shared_gate);
    append(all, g.output_bias);
    return all;
}

Vector all_of(const LayerGradients& g) {
    Vector all = parameters_of(g);
    append(all, g.x);
    append(all, g.router_input);
    return all;
}

/// a is b, but for rounding.
bool same(const Vector& a, const Vector& b) { return moe_test::nmse(a, b) <= 1e-24; }

/// A layer of random experts only, at a rule with K = 2 of 4.
DrawnLayer plain_layer(Numbers& draw, std::size_t form, bool biases = false) {
    DrawnLayer c;
    c.layer.d_model = 3;
    for (int e = 0; e < 4; ++e) {
        c.layer.experts.push_back(moe_test::random_expert(draw, 3, 2, form, biases));
    }
    c.layer.rule = {.top_k = 2, .norm = reference::Norm::sum};
    c.layer.router = draw.normals(12);
    c.layer.router_bias = draw.normals(4);
    c.x = draw.normals(15);
    c.dy = draw.normals(15);
    return c;
}

}  // namespace

TEST_CASE("the gradients are linear in dy", "[reference]") {
    Numbers draw(1);
    for (int i = 0; i < 200; ++i) {
        DrawnLayer c = moe_test::random_layer(draw);
        const Vector a = all_of(backward(c));
        const Vector dy = c.dy;
        c.dy = draw.normals(dy.size());
        const Vector b = all_of(backward(c));
        for (std::size_t j = 0; j < dy.size(); ++j) {
            c.dy[j] = 2 * dy[j] - 3 * c.dy[j];
        }
        Vector sum(a.size());
        for (std::size_t j = 0; j < a.size(); ++j) {
            sum[j] = 2 * a[j] - 3 * b[j];
        }
        CHECK(same(all_of(backward(c)), sum));
    }
}

TEST_CASE("experts in another order: gradients in that order", "[reference]") {
    Numbers draw(2);
    for (int i = 0; i < 100; ++i) {
        const DrawnLayer c = plain_layer(draw, draw.size(0, moe_test::n_forms - 1), draw.coin());
        DrawnLayer other = c;
        const std::vector<std::size_t> order{2, 0, 3, 1};
        for (std::size_t e = 0; e < 4; ++e) {
            other.layer.experts[e] = c.layer.experts[order[e]];
            other.layer.router_bias[e] = c.layer.router_bias[order[e]];
            std::copy_n(c.layer.router.begin() + static_cast<std::ptrdiff_t>(3 * order[e]), 3,
                        other.layer.router.begin() + static_cast<std::ptrdiff_t>(3 * e));
        }
        const LayerGradients expected = backward(c);
        const LayerGradients actual = backward(other);
        CHECK(same(actual.x, expected.x));
        Vector router;  // whole: the rows of experts nobody chose are 0 but for rounding
        for (std::size_t e = 0; e < 4; ++e) {
            CHECK(same(flat(actual.experts[e]), flat(expected.experts[order[e]])));
            append(router, reference::row_of(expected.router, order[e], 3));
        }
        CHECK(same(actual.router, router));
    }
}

TEST_CASE("a batch is the sum of its tokens, each with the dx it has alone", "[reference]") {
    Numbers draw(3);
    for (int i = 0; i < 100; ++i) {
        DrawnLayer c = moe_test::random_layer(draw);
        const LayerGradients batch = backward(c);
        const std::size_t n_tokens = c.n_tokens();
        Vector sum(parameters_of(batch).size(), 0.0);
        DrawnLayer one = c;
        for (std::size_t t = 0; t < n_tokens; ++t) {
            one.x = reference::row_of(c.x, t, c.layer.d_model);
            one.dy = reference::row_of(c.dy, t, c.layer.d_model);
            one.router_input = reference::row_of(c.router_input, t, c.router_input.size() / n_tokens);
            const LayerGradients alone = backward(one);
            CHECK(alone.x == reference::row_of(batch.x, t, c.layer.d_model));
            reference::add_scaled(sum, 1, parameters_of(alone));
        }
        CHECK(same(sum, parameters_of(batch)));
    }
}

TEST_CASE("a scale in the gate is a scale of the layer", "[reference]") {
    Numbers draw(4);
    for (int i = 0; i < 50; ++i) {
        DrawnLayer in_gate = plain_layer(draw, draw.size(0, moe_test::n_forms - 1), true);
        DrawnLayer in_layer = in_gate;
        in_gate.layer.rule.scale = 2.5;
        in_layer.layer.routed_scale = 2.5;
        CHECK(same(all_of(backward(in_gate)), all_of(backward(in_layer))));
    }
}

TEST_CASE("for a linear expert the weight is the same at either end", "[reference]") {
    Numbers draw(5);
    for (int i = 0; i < 50; ++i) {
        DrawnLayer at_output = plain_layer(draw, 12);
        for (reference::Expert& expert : at_output.layer.experts) {
            expert.custom = [](double v) { return v; };
            expert.custom_slope = [](double) { return 1.0; };
        }
        DrawnLayer at_input = at_output;
        at_input.layer.weight_at_input = true;
        CHECK(same(all_of(backward(at_output)), all_of(backward(at_input))));
    }
}

TEST_CASE("equal experts with equal rows of the router: equal gradients where all are chosen", "[reference]") {
    Numbers draw(6);
    for (std::size_t form = 0; form < moe_test::n_forms; ++form) {
        DrawnLayer c = plain_layer(draw, form, true);
        c.layer.rule = {.top_k = 4};
        c.layer.experts[3] = c.layer.experts[1];
        c.layer.router_bias[3] = c.layer.router_bias[1];
        std::copy_n(c.layer.router.begin() + 3, 3, c.layer.router.begin() + 9);
        const LayerGradients g = backward(c);
        CHECK(same(flat(g.experts[3]), flat(g.experts[1])));
        CHECK(same(reference::row_of(g.router, 3, 3), reference::row_of(g.router, 1, 3)));
        CHECK(!same(flat(g.experts[0]), flat(g.experts[1])));
    }
}

TEST_CASE("an identity expert is an expert that copies, a constant one that ignores x", "[reference]") {
    Numbers draw(7);
    DrawnLayer with_null = plain_layer(draw, 0);
    with_null.layer.experts.pop_back();
    with_null.layer.n_identity = 1;
    DrawnLayer copying = with_null;
    copying.layer.n_identity = 0;
    reference::Expert copy{.d_model = 3, .d_ff = 3, .form = reference::Form::silu};
    copy.custom = [](double v) { return v; };
    copy.custom_slope = [](double) { return 1.0; };
    copy.up = copy.down = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    copying.layer.experts.push_back(copy);
    CHECK(same(backward(with_null).x, backward(copying).x));
    CHECK(same(backward(with_null).router, backward(copying).router));

    with_null.layer.n_identity = 0;
    with_null.layer.constants = {draw.normals(3)};
    copying.layer.experts.back().up.assign(9, 0.0);
    copying.layer.experts.back().down_bias = with_null.layer.constants[0];
    CHECK(same(backward(with_null).x, backward(copying).x));
    CHECK(same(backward(with_null).router, backward(copying).router));
    CHECK(same(backward(with_null).constants[0], backward(copying).experts.back().down_bias));
}

TEST_CASE("what a router reads: the gradient goes to x where it is x, else to what it read", "[reference]") {
    Numbers draw(8);
    const DrawnLayer c = plain_layer(draw, 0);
    const Vector copy = c.x;
    const LayerGradients together = backward(c);
    const LayerGradients apart = reference::backward(c.layer, c.x, copy, c.dy);
    CHECK(together.router_input.empty());
    REQUIRE(apart.router_input.size() == c.x.size());
    Vector sum = apart.x;
    reference::add_scaled(sum, 1, apart.router_input);
    CHECK(same(sum, together.x));
    CHECK(!same(apart.x, together.x));
}

}  // namespace moe_test::layer_laws_test
