// From the gradient of the weights to that of the logits, for every score, source, norm, scale and softcap.

#include <moe/reference/backward/gate/gate.hpp>

#include <cmath>
#include <limits>
#include <string>

#include "reference/backward/random_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::gate_backward_test {

namespace reference = moe::reference;
using moe_test::difference;
using moe_test::Differences;
using moe_test::Numbers;
using reference::Norm;
using reference::Score;
using reference::Source;
using reference::TokenChoiceRule;
using reference::Vector;

namespace {

std::string name_of(const TokenChoiceRule& rule) {
    return "score " + std::to_string(static_cast<int>(rule.score)) + ", source " +
           std::to_string(static_cast<int>(rule.weight_from)) + ", norm " +
           std::to_string(static_cast<int>(rule.norm)) + " " + std::to_string(rule.norm_value) +
           (rule.softcap > 0 ? ", softcap: " : ": ");
}

double sum_of(const Vector& values) {
    double sum = 0;
    for (const double v : values) {
        sum += v;
    }
    return sum;
}

/// d_logits of a rule that weighs `experts`.
Vector backward(const TokenChoiceRule& rule, const Vector& logits, const std::vector<moe::ExpertId>& experts,
                const Vector& d_weights) {
    return reference::gate_backward(rule, logits, {experts, {}}, d_weights);
}

}  // namespace

TEST_CASE("the gradient of the logits is that of central differences, by every rule", "[reference]") {
    Numbers draw(1);
    Differences differences(2);
    for (int i = 0; i < 4000;) {
        const std::size_t n_experts = draw.size(1, 6);
        TokenChoiceRule rule = moe_test::random_rule(draw, n_experts, moe_test::random_top_k(draw, n_experts));
        Vector logits = draw.normals(n_experts, 1.5);
        const reference::Choice choice = reference::route(rule, logits);
        if (!moe_test::divides_well(rule, logits, choice.experts)) {
            continue;
        }
        ++i;
        const Vector dw = draw.normals(rule.top_k);
        const auto f = [&] { return moe_test::sum_of_products(reference::route(rule, logits).weights, dw); };
        const Vector dl = reference::gate_backward(rule, logits, choice, dw);
        const Vector d_scale = reference::per_expert_scale_backward(rule, logits, choice, dw);
        differences.hold(name_of(rule) + "logits", logits, dl, f);
        if (!rule.per_expert_scale.empty()) {
            differences.hold(name_of(rule) + "scale", rule.per_expert_scale, d_scale, f);
        }
    }
    CHECK(differences.problem(10000) == "");
}

TEST_CASE("an expert that is named twice gets both gradients", "[reference]") {
    Numbers draw(3);
    Differences differences(4);
    for (int i = 0; i < 400; ++i) {
        TokenChoiceRule rule = moe_test::random_rule(draw, 4, 2);
        Vector logits = draw.normals(4);
        const std::vector<moe::ExpertId> experts{2, 0, 2};
        const Vector dw = draw.normals(3);
        if (moe_test::divides_well(rule, logits, experts)) {
            const auto f = [&] {
                return moe_test::sum_of_products(reference::weighed(rule, logits, experts).weights, dw);
            };
            differences.hold(name_of(rule), logits, backward(rule, logits, experts, dw), f);
        }
    }
    CHECK(differences.problem(600) == "");
}

TEST_CASE("softmax: the gradient of the logits sums to 0 over all experts", "[reference]") {
    Numbers draw(5);
    for (int i = 0; i < 300; ++i) {
        TokenChoiceRule rule{.top_k = draw.size(1, 5)};
        rule.norm = static_cast<Norm>(draw.size(0, 2));
        rule.weight_from = draw.coin() ? Source::score : Source::softmax_of_selected;
        rule.scale = 2.5;
        const Vector logits = draw.normals(5, 2);
        const reference::Choice choice = reference::route(rule, logits);
        const Vector dl = reference::gate_backward(rule, logits, choice, draw.normals(rule.top_k));
        CHECK(std::abs(sum_of(dl)) <= 1e-14);
        std::vector<bool> chosen(5, false);
        for (const moe::ExpertId e : choice.experts) {
            chosen[static_cast<std::size_t>(e)] = true;
        }
        const bool dense = rule.weight_from == Source::score && rule.norm == Norm::none;
        for (std::size_t e = 0; e < 5; ++e) {
            // Softmax over all, not normalised, moves the logits of those not chosen as well.
            const bool moves = chosen[e] ? rule.top_k > 1 || dense : dense;
            CHECK((std::abs(dl[e]) > 1e-12) == moves);
        }
    }
}

TEST_CASE("a constant added to all logits of a softmax changes no gradient", "[reference]") {
    Numbers draw(6);
    for (int i = 0; i < 100; ++i) {
        TokenChoiceRule rule = moe_test::random_rule(draw, 6, 2);
        rule.score = Score::softmax;
        rule.softcap = 0;
        rule.weight_from = draw.coin() ? Source::score : Source::softmax_of_selected;
        const Vector logits = draw.normals(6);
        Vector moved = logits;
        for (double& l : moved) {
            l += 0.75;
        }
        const auto experts = reference::route(rule, logits).experts;
        const Vector dw = draw.normals(2);
        const Vector dl = backward(rule, logits, experts, dw);
        CHECK(difference(backward(rule, moved, experts, dw), dl, 1e-12) == "");
    }
}

TEST_CASE("one expert whose weight is divided by itself teaches the router nothing", "[reference]") {
    Numbers draw(7);
    for (const Score score : {Score::softmax, Score::sigmoid, Score::sqrt_softplus}) {
        const Vector logits = draw.normals(4);
        const TokenChoiceRule divided{.score = score, .norm = Norm::sum};
        CHECK(difference(backward(divided, logits, {1}, {3.0}), Vector(4, 0.0), 1e-15) == "");
        const TokenChoiceRule plain{.score = score};
        CHECK(std::abs(backward(plain, logits, {1}, {3.0})[1]) > 0.01);
    }
    CHECK(backward({.weight_from = Source::softmax_of_selected}, {1, 2}, {1}, {3.0}) == Vector{0, 0});
}

TEST_CASE("the gradient is linear in that of the weights, and a bias of the selection has none", "[reference]") {
    Numbers draw(8);
    for (int i = 0; i < 200;) {
        TokenChoiceRule rule = moe_test::random_rule(draw, 6, 3);
        rule.n_groups = 1;
        rule.selection_bias = draw.normals(6, 0.3);
        const Vector logits = draw.normals(6);
        const reference::Choice choice = reference::route(rule, logits);
        if (!moe_test::divides_well(rule, logits, choice.experts)) {
            continue;
        }
        ++i;
        const Vector a = draw.normals(3);
        const Vector b = draw.normals(3);
        Vector sum(3);
        for (std::size_t s = 0; s < 3; ++s) {
            sum[s] = 2 * a[s] - 3 * b[s];
        }
        const Vector of_a = reference::gate_backward(rule, logits, choice, a);
        const Vector of_b = reference::gate_backward(rule, logits, choice, b);
        Vector expected(6);
        double size = 1;
        for (std::size_t e = 0; e < 6; ++e) {
            expected[e] = 2 * of_a[e] - 3 * of_b[e];
            size = std::max(size, std::abs(of_a[e]) + std::abs(of_b[e]));
        }
        CHECK(difference(reference::gate_backward(rule, logits, choice, sum), expected, 1e-13 * size) == "");
        for (double& bias : rule.selection_bias) {
            bias += 0.5;
        }
        CHECK(reference::route(rule, logits).experts == choice.experts);
        CHECK(reference::gate_backward(rule, logits, choice, a) == of_a);
    }
}

TEST_CASE("logits of -infinity get 0, and saturated ones no NaN", "[reference]") {
    const double inf = std::numeric_limits<double>::infinity();
    const Vector logits{0.5, -inf, 1};
    for (const Score score : {Score::softmax, Score::sigmoid, Score::sqrt_softplus, Score::identity, Score::relu}) {
        for (const double softcap : {0.0, 2.0}) {
            const Vector dl = backward({.softcap = softcap, .score = score}, logits, {2, 0}, {1.0, 2.0});
            CHECK(moe_test::all_finite(dl));
            CHECK(dl[1] == 0);
            CHECK(dl[0] != 0);
        }
        CHECK(moe_test::all_finite(backward({.score = score}, {-2000, 2000, 3}, {0, 1, 2}, {1.0, 1.0, 1.0})));
    }
    CHECK(backward({.score = Score::relu}, {0, 1e-300, -1}, {0, 1, 2}, {1.0, 1.0, 1.0}) == Vector{0, 1, 0});
}

TEST_CASE("NaN stays in the row of its token", "[reference]") {
    const Vector dl = backward({.norm = Norm::sum}, {0.5, std::numeric_limits<double>::quiet_NaN()}, {0}, {1.0});
    CHECK(std::isnan(dl[0]));
}

TEST_CASE("the norms, worked out by hand", "[reference]") {
    const auto of = [](Norm norm, double value, const Vector& c, const Vector& dw) {
        return reference::normalized_backward({.norm = norm, .norm_value = value}, c, dw);
    };
    CHECK(of(Norm::none, 7, {3, 4}, {1, 2}) == Vector{1, 2});
    // w = (3, 1) / 4, <dw, w> = 1: (2 - 1, -2 - 1) / 4
    CHECK(of(Norm::sum, 0, {3, 1}, {2, -2}) == Vector{0.25, -0.75});
    CHECK(of(Norm::sum, 4, {3, 1}, {2, -2}) == Vector{0.1875, -0.3125});
    CHECK(of(Norm::clamped_sum, 4, {3, 1}, {2, -2}) == Vector{0.25, -0.75});  // at the minimum it still moves
    CHECK(of(Norm::clamped_sum, 8, {3, 1}, {2, -2}) == Vector{0.25, -0.25});
    // w = (0.6, -0.8), <dw, w> = 1: (5 - 0.6, 2.5 + 0.8) / 5
    CHECK(difference(of(Norm::lp, 2, {3, -4}, {5, 2.5}), Vector{4.4 / 5, 3.3 / 5}, 1e-15) == "");
    CHECK(of(Norm::lp, INFINITY, {2, -4, 4}, {1, 0, 4}) == Vector{0.25, 1.125, 1});
    CHECK(difference(reference::normalized({.norm = Norm::lp, .norm_value = INFINITY}, {2, -4, 4}), Vector{0.5, -1, 1},
                     0) == "");
    CHECK(moe_test::all_finite(of(Norm::lp, 0.5, {0, 1}, {1, 1})));
}

}  // namespace moe_test::gate_backward_test
