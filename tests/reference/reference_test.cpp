// The definition itself, held against values worked out by hand.

#include <moe/reference/layer/layer.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::reference_test {

namespace reference = moe::reference;
using moe_test::difference;
using reference::Form;
using reference::Vector;
using Ids = std::vector<moe::ExpertId>;

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
const double log2_ = std::log(2.0);
const double log3_ = std::log(3.0);

/// d_model = d_ff = 1: gate(x) = x, up(x) = u x, down = 1.
reference::Expert scalar_expert(Form form, double up) {
    return {.d_model = 1, .d_ff = 1, .form = form, .gate = {1}, .up = {up}, .down = {1}};
}

/// Doubles, or triples: linear, so that sums are easy to follow. sigmoid_glu(g, u) with gate 0 is u / 2.
reference::Expert times(double factor) {
    return {.d_model = 1, .d_ff = 1, .form = Form::sigmoid_glu, .gate = {0}, .up = {2 * factor}, .down = {1}};
}

reference::Layer two_experts() {
    reference::Layer layer{.d_model = 1, .router = {1, -1}};
    layer.experts = {times(2), times(3)};
    return layer;
}

}  // namespace

TEST_CASE("reference scores", "[reference]") {
    CHECK(difference(reference::softmax({0, log2_, log3_}), Vector{1.0 / 6, 2.0 / 6, 3.0 / 6}, 1e-15) == "");
    CHECK(difference(reference::softmax({-1000, 1000}), Vector{0, 1}, 0) == "");
    CHECK(difference(Vector{reference::sigmoid(log3_), reference::sigmoid(-log3_)}, Vector{0.75, 0.25}, 1e-15) == "");
    CHECK(difference(Vector{reference::softplus(log3_), reference::softplus(-log3_)},
                     Vector{std::log(4.0), std::log(4.0 / 3)}, 1e-15) == "");
    CHECK(difference(reference::scores_of(reference::Score::sqrt_softplus, {0}), Vector{std::sqrt(log2_)}, 1e-15) ==
          "");
}

TEST_CASE("reference top_k: descending, ties to the lower index, NaN last", "[reference]") {
    CHECK(reference::top_k({1, 3, 2, 3}, 3) == Ids{1, 3, 2});
    CHECK(reference::top_k({0.0, -0.0, not_a_number, -inf}, 4) == Ids{0, 1, 3, 2});
    CHECK(reference::top_k({not_a_number, not_a_number}, 2) == Ids{0, 1});
}

TEST_CASE("reference route: groups, bias, weight and normalisation", "[reference]") {
    reference::TokenChoiceRule rule{.top_k = 2, .score = reference::Score::identity};
    rule.n_groups = 3;
    rule.groups_kept = 1;
    // Group sums of the best two: 9, 8, 7, though the single best is in the second.
    const Vector logits{5, 4, 8, 0, 3, 4};
    CHECK(reference::route(rule, logits).experts == Ids{0, 1});
    rule.group_members = 1;
    CHECK(reference::route(rule, logits).experts == Ids{2, 3});
    rule.selection_bias = {0, 0, -20, -20, 0, 9};
    rule.norm = reference::Norm::sum;
    rule.norm_value = 1;
    rule.scale = 2;
    rule.per_expert_scale = {1, 1, 1, 1, 1, 10};
    const reference::Choice choice = reference::route(rule, logits);
    CHECK(choice.experts == Ids{5, 4});
    CHECK(difference(choice.weights, Vector{10, 0.75}, 0) == "");
    rule.group_fill = 100;
    CHECK(reference::route(rule, logits).experts == Ids{0, 1});
}

TEST_CASE("reference route: what is looked at and what becomes the weight", "[reference]") {
    reference::TokenChoiceRule rule{.top_k = 2, .select_on = reference::Base::logits};
    rule.weight_from = reference::Source::softmax_of_selected;
    const Vector logits{0, log3_, 0.5, -9};
    CHECK(reference::route(rule, logits).experts == Ids{1, 2});
    rule.selection_bias = {1, 0, 0, 0};
    CHECK(difference(reference::route(rule, logits).weights, Vector{0.75, 0.25}, 1e-15) == "");
    rule.weight_from = reference::Source::sigmoid_of_selected;
    CHECK(difference(reference::route(rule, logits).weights, Vector{0.75, 0.5}, 1e-15) == "");
    rule.softcap = 1;
    CHECK(difference(reference::softcapped(rule, {100, -100, 0}), Vector{1, -1, 0}, 1e-15) == "");
}

TEST_CASE("reference normalisation", "[reference]") {
    reference::TokenChoiceRule rule;
    const auto with = [&](reference::Norm norm, double value, const Vector& weights) {
        rule.norm = norm;
        rule.norm_value = value;
        return reference::normalized(rule, weights);
    };
    CHECK(with(reference::Norm::none, 5, {3, 4}) == Vector{3, 4});
    CHECK(with(reference::Norm::sum, 1, {3, 4}) == Vector{0.375, 0.5});
    CHECK(with(reference::Norm::clamped_sum, 14, {3, 4}) == Vector{3.0 / 14, 4.0 / 14});
    CHECK(with(reference::Norm::clamped_sum, 1, {3, 4}) == Vector{3.0 / 7, 4.0 / 7});
    CHECK(difference(with(reference::Norm::lp, 2, {3, -4}), Vector{0.6, -0.8}, 1e-15) == "");
}

TEST_CASE("reference expert forms, gate log 3 and up 2 log 3", "[reference]") {
    const double u = 2 * log3_;
    const auto value = [&](Form form) { return reference::run(scalar_expert(form, 2), {log3_})[0]; };
    CHECK(std::abs(value(Form::swiglu) - 0.75 * log3_ * u) < 1e-15);
    CHECK(std::abs(value(Form::sigmoid_glu) - 0.75 * u) < 1e-15);
    CHECK(value(Form::reglu) == log3_ * u);
    CHECK(std::abs(value(Form::geglu_erf) - log3_ * u * 0.5 * std::erfc(-log3_ / std::sqrt(2.0))) < 1e-15);
    CHECK(std::abs(value(Form::geglu_tanh) - value(Form::geglu_erf)) < 2e-3);
    CHECK(value(Form::geglu_tanh) != value(Form::geglu_erf));
    CHECK(value(Form::relu) == u);
    CHECK(value(Form::relu_squared) == u * u);
    CHECK(std::abs(value(Form::silu) - 0.9 * u) < 1e-15);
    CHECK(value(Form::identity) == u);
    CHECK(std::abs(value(Form::gelu_erf) - u * 0.5 * std::erfc(-u / std::sqrt(2.0))) < 1e-15);
    CHECK(std::abs(value(Form::gelu_tanh) - value(Form::gelu_erf)) < 2e-3);
    CHECK(reference::run(scalar_expert(Form::relu, 1), {-2})[0] == 0);
    CHECK(reference::run(scalar_expert(Form::reglu, 1), {-2})[0] == 0);
}

TEST_CASE("the three clamps differ beyond the limit and agree inside", "[reference]") {
    const auto value = [](Form form, double g, double u) {
        reference::Expert expert = scalar_expert(form, 1);
        expert.limit = 2;
        expert.alpha = 1;
        return reference::hidden_value(expert, g, u);
    };
    const double silu2 = 2 * reference::sigmoid(2);
    CHECK(value(Form::clamp_a, 9, 9) == (2 + 1) * silu2);
    CHECK(value(Form::clamp_a, 9, -9) == (-2 + 1) * silu2);
    CHECK(value(Form::clamp_b, 9, -9) == -2 * silu2);
    CHECK(value(Form::clamp_c, 9, -9) == -4);
    CHECK(value(Form::clamp_b, -9, 1) == reference::silu(-9));
    CHECK(value(Form::clamp_b, 0.5, 1.5) == value(Form::swiglu, 0.5, 1.5));
    CHECK(value(Form::clamp_c, 0.5, 1.5) == value(Form::swiglu, 0.5, 1.5));
    CHECK(std::isnan(value(Form::clamp_a, not_a_number, 1)));
    CHECK(std::isnan(value(Form::clamp_c, 1, not_a_number)));
}

TEST_CASE("reference expert: shapes, biases and an activation of one's own", "[reference]") {
    reference::Expert expert{.d_model = 2, .d_ff = 3, .form = Form::reglu};
    expert.gate = {1, 0, 0, 1, 1, 1};
    expert.up = {1, 1, 2, 0, 0, 3};
    expert.down = {1, 2, 3, -1, 0, 1};
    expert.gate_bias = {0, 0, -4};
    expert.up_bias = {1, 0, 0};
    expert.down_bias = {0.5, -0.5};
    // x = (1, 2): gate (1, 2, -1), up (4, 2, 6), hidden (4, 4, 0)
    CHECK(reference::run(expert, {1, 2}) == Vector{12.5, -4.5});
    expert.custom = [](double g) { return g + 1; };
    // hidden (8, 6, 0)
    CHECK(reference::run(expert, {1, 2}) == Vector{20.5, -8.5});
}

TEST_CASE("reference layer: weights at the output and at the input", "[reference]") {
    reference::Layer layer = two_experts();
    layer.rule = {.top_k = 2};
    CHECK(difference(reference::combine(layer, {{1, 0}, {0.5, 0.25}}, {4}), Vector{6 + 2}, 1e-15) == "");
    layer.weight_at_input = true;
    CHECK(difference(reference::combine(layer, {{1, 0}, {0.5, 0.25}}, {4}), Vector{6 + 2}, 1e-15) == "");
    layer.experts[0].form = Form::relu_squared;  // (4 x)^2
    CHECK(difference(reference::combine(layer, {{0}, {0.5}}, {4}), Vector{64}, 1e-12) == "");
    layer.weight_at_input = false;
    CHECK(difference(reference::combine(layer, {{0}, {0.5}}, {4}), Vector{128}, 1e-12) == "");
    CHECK(reference::combine(layer, {{-1, -1}, {7, 7}}, {4}) == Vector{0});
}

TEST_CASE("reference layer: null experts stand behind the real ones", "[reference]") {
    reference::Layer layer = two_experts();
    layer.n_zero = 1;
    layer.n_identity = 2;
    layer.constants = {{100}, {1000}};
    REQUIRE(layer.n_experts() == 7);
    const auto alone = [&](moe::ExpertId e) { return reference::combine(layer, {{e}, {0.5}}, {4})[0]; };
    CHECK(alone(0) == 4);
    CHECK(alone(1) == 6);
    CHECK(alone(2) == 0);
    CHECK(alone(3) == 2);
    CHECK(alone(4) == 2);
    CHECK(alone(5) == 50);
    CHECK(alone(6) == 500);
    layer.mixes = {{0}, {0}};
    layer.mixes[0] = {log3_, 0};  // x = 4: e^(4 log 3) = 81 parts x to 1 part constant
    layer.mixes[1] = {1, 1};
    CHECK(difference(Vector{alone(5)}, Vector{0.5 * (81 * 4 + 100) / 82}, 1e-13) == "");
    CHECK(difference(Vector{alone(6)}, Vector{0.25 * (4 + 1000)}, 1e-13) == "");
}

TEST_CASE("reference layer: shared experts, scale and bias", "[reference]") {
    reference::Layer layer = two_experts();
    layer.routed_scale = 10;
    layer.shared = {times(1), times(0.5)};
    const reference::Choice choice{{0}, {0.5}};  // routed: 4, scaled: 40; shared: 4 and 2
    CHECK(reference::combine(layer, choice, {4}) == Vector{46});
    layer.shared_mode = reference::Shared::average;
    CHECK(reference::combine(layer, choice, {4}) == Vector{23});
    layer.shared_mode = reference::Shared::gated;
    layer.shared_gate = {log3_ / 4, -log3_ / 4};
    CHECK(difference(reference::combine(layer, choice, {4}), Vector{40 + 3 + 0.5}, 1e-14) == "");
    layer.output_bias = {0.25};
    CHECK(difference(reference::combine(layer, choice, {4}), Vector{43.75}, 1e-14) == "");
}

TEST_CASE("reference forward: every token, another router input, y = and y +=", "[reference]") {
    reference::Layer layer = two_experts();
    layer.rule = {.top_k = 1, .score = reference::Score::sigmoid};
    const Vector x{log3_, -log3_};
    Vector y;
    reference::forward(layer, x, x, y);
    CHECK(difference(y, Vector{0.75 * 2 * log3_, -0.75 * 3 * log3_}, 1e-14) == "");
    reference::forward(layer, x, x, y, true);
    CHECK(difference(y, Vector{1.5 * 2 * log3_, -1.5 * 3 * log3_}, 1e-14) == "");
    reference::forward(layer, x, {-log3_, log3_}, y);
    CHECK(difference(y, Vector{0.75 * 3 * log3_, -0.75 * 2 * log3_}, 1e-14) == "");
    layer.router_bias = {0, 100};
    reference::forward(layer, x, x, y);
    CHECK(difference(y, Vector{3 * log3_, -3 * log3_}, 1e-14) == "");
    Vector none;
    reference::forward(layer, {}, {}, none);
    CHECK(none.empty());
}

}  // namespace moe_test::reference_test
