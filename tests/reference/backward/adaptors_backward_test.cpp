// Gates around a gate: from the gradient of the weights they give, through the gate inside, to that of the logits.

#include <moe/reference/backward/gate/adaptors.hpp>
#include <moe/reference/backward/gate/cosine.hpp>

#include <limits>
#include <string>

#include "reference/backward/random_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::adaptors_backward_test {

namespace reference = moe::reference;
using moe_test::difference;
using moe_test::Differences;
using moe_test::Numbers;
using reference::Choice;
using reference::Norm;
using reference::Score;
using reference::TokenChoiceRule;
using reference::Vector;

namespace {

constexpr std::size_t n_experts = 6;

/// A rule whose weights are positive, so that sums divide well.
TokenChoiceRule positive_rule(Numbers& draw, std::size_t top_k) {
    TokenChoiceRule rule = moe_test::random_rule(draw, n_experts, top_k);
    rule.score = draw.one_of<Score>({Score::softmax, Score::sigmoid, Score::sqrt_softplus});
    rule.per_expert_scale.clear();
    rule.n_groups = 1;
    return rule;
}

Vector first_of(const Vector& values, std::size_t count) {
    return Vector(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count));
}

std::size_t index(moe::ExpertId e) { return static_cast<std::size_t>(e); }

}  // namespace

TEST_CASE("a mask: experts that are not allowed get 0, those removed stay in the norm inside", "[reference]") {
    Numbers draw(1);
    Differences differences(2);
    for (int i = 0; i < 600; ++i) {
        const TokenChoiceRule rule = positive_rule(draw, draw.size(1, n_experts));
        const bool renormalize = draw.coin();
        Vector logits = draw.normals(n_experts);
        const Vector dw = draw.normals(n_experts);
        std::vector<bool> allowed;
        for (std::size_t e = 0; e < n_experts; ++e) {
            allowed.push_back(e == 2 || draw.coin());
        }
        Vector seen = logits;
        for (std::size_t e = 0; e < n_experts; ++e) {
            seen[e] = allowed[e] ? logits[e] : -std::numeric_limits<double>::infinity();
        }
        const Choice inner = reference::route(rule, seen);
        std::vector<bool> kept;
        std::size_t n_kept = 0;
        for (const moe::ExpertId e : inner.experts) {
            kept.push_back(allowed[index(e)]);
            n_kept += static_cast<std::size_t>(kept.back());
        }
        const Vector d_inner = reference::kept_backward(inner, kept, renormalize, first_of(dw, n_kept));
        const Vector dl = reference::gate_backward(rule, seen, inner, d_inner);
        differences.hold("masked", logits, dl, [&] {
            return moe_test::sum_of_products(reference::masked(rule, logits, allowed, renormalize).weights, dw);
        });
        for (std::size_t e = 0; e < n_experts; ++e) {
            CHECK((allowed[e] || dl[e] == 0));
        }
    }
    CHECK(differences.problem(1200) == "");
}

TEST_CASE("without null experts: their logits still share in what the gate inside divides by", "[reference]") {
    Numbers draw(3);
    Differences differences(4);
    for (int i = 0; i < 600; ++i) {
        const TokenChoiceRule rule = positive_rule(draw, draw.size(1, n_experts));
        const bool renormalize = draw.coin();
        const std::size_t first = draw.size(1, 3);
        const std::size_t end = draw.size(first, n_experts);
        Vector logits = draw.normals(n_experts);
        const Vector dw = draw.normals(n_experts);
        const Choice inner = reference::route(rule, logits);
        std::vector<bool> kept;
        std::size_t n_kept = 0;
        for (const moe::ExpertId e : inner.experts) {
            kept.push_back(index(e) < first || index(e) >= end);
            n_kept += static_cast<std::size_t>(kept.back());
        }
        const Vector d_inner = reference::kept_backward(inner, kept, renormalize, first_of(dw, n_kept));
        differences.hold("without null", logits, reference::gate_backward(rule, logits, inner, d_inner), [&] {
            const Choice choice = reference::without_null(reference::route(rule, logits), first, end, renormalize);
            return moe_test::sum_of_products(choice.weights, dw);
        });
    }
    CHECK(differences.problem(1200) == "");
}

TEST_CASE("shared experts that the router weighs", "[reference]") {
    Numbers draw(5);
    Differences differences(6);
    for (int i = 0; i < 600; ++i) {
        const std::size_t n_shared = draw.size(1, 2);
        TokenChoiceRule rule = positive_rule(draw, draw.size(1, n_experts - n_shared));
        rule.selection_bias.clear();
        if (draw.coin()) {
            rule.per_expert_scale = draw.normals(n_experts - n_shared);
        }
        Vector logits = draw.normals(n_experts);
        const Choice choice = reference::with_shared(rule, logits, n_shared);
        const Vector dw = draw.normals(choice.experts.size());
        differences.hold("with shared", logits, reference::with_shared_backward(rule, logits, choice, dw), [&] {
            return moe_test::sum_of_products(reference::with_shared(rule, logits, n_shared).weights, dw);
        });
    }
    CHECK(differences.problem(1200) == "");
}

TEST_CASE("capacity: weights normalised over those kept, or over all chosen", "[reference]") {
    Numbers draw(7);
    Differences differences(8);
    std::size_t n_dropped = 0;
    for (int i = 0; i < 300; ++i) {
        const TokenChoiceRule rule = positive_rule(draw, draw.size(1, 3));
        const bool over_chosen = draw.coin();
        const TokenChoiceRule after{.norm = static_cast<Norm>(draw.size(0, 2)), .norm_value = 1e-9};
        const reference::CapacityRule limit{
            .places = 2,
            .queue = draw.one_of<reference::Queue>({reference::Queue::position, reference::Queue::weight})};
        std::vector<Vector> logits;
        std::vector<Vector> dw;
        for (std::size_t t = 0; t < 5; ++t) {
            logits.push_back(draw.normals(n_experts));
            dw.push_back(draw.normals(rule.top_k));
        }
        const auto choose = [&] {
            std::vector<Choice> choices;
            for (const Vector& row : logits) {
                choices.push_back(reference::route(rule, row));
            }
            reference::drop_group(limit, n_experts, 0, choices.size(), choices);
            return choices;
        };
        const auto f = [&] {
            double sum = 0;
            const std::vector<Choice> choices = choose();
            for (std::size_t t = 0; t < choices.size(); ++t) {
                const Choice choice = reference::normalized_after_drops(after, over_chosen, choices[t]);
                for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
                    sum += choice.experts[slot] >= 0 ? choice.weights[slot] * dw[t][slot] : 0;
                }
            }
            return sum;
        };
        const std::vector<Choice> choices = choose();
        for (std::size_t t = 0; t < choices.size(); ++t) {
            bool dropped = false;
            for (const moe::ExpertId e : choices[t].experts) {
                dropped = dropped || e < 0;
            }
            n_dropped += static_cast<std::size_t>(dropped);
            Vector d_weights = dw[t];
            for (std::size_t slot = 0; slot < d_weights.size(); ++slot) {
                if (choices[t].experts[slot] < 0) {
                    d_weights[slot] = std::numeric_limits<double>::quiet_NaN();  // nobody may read it
                }
            }
            const Vector inner = reference::normalized_after_drops_backward(after, over_chosen, choices[t], d_weights);
            differences.hold("capacity", logits[t],
                             reference::gate_backward(rule, logits[t], reference::before_drops(choices[t]), inner), f);
        }
    }
    CHECK(n_dropped > 200);
    CHECK(differences.problem(3000) == "");
}

TEST_CASE("a choice that was dropped from those kept is as if it had not been made", "[reference]") {
    const TokenChoiceRule rule{.top_k = 3, .score = Score::sigmoid};
    const Vector logits{0.3, -0.4, 1, 0.6};
    Choice choice = reference::route(rule, logits);
    REQUIRE(choice.experts == std::vector<moe::ExpertId>{2, 3, 0});
    choice.experts[1] = moe::dropped(3);
    const TokenChoiceRule sum{.norm = Norm::sum};
    const Vector kept = reference::normalized_after_drops_backward(sum, false, choice, {1, 5, -2});
    CHECK(kept[1] == 0);
    const Choice without{{2, 0}, {choice.weights[0], choice.weights[2]}};
    const Vector expected = reference::normalized_after_drops_backward(sum, false, without, {1, -2});
    CHECK(Vector{kept[0], kept[2]} == expected);
    CHECK(reference::normalized_after_drops_backward(sum, true, choice, {1, 5, -2})[1] != 0);
    CHECK(reference::before_drops(choice).experts == std::vector<moe::ExpertId>{2, 3, 0});
}

TEST_CASE("cosine: projection, centroids and temperature", "[reference]") {
    Numbers draw(9);
    Differences differences(10);
    for (int i = 0; i < 400; ++i) {
        const std::size_t width = draw.size(1, 4);
        Vector z = draw.normals(width);
        Vector centroids = draw.normals(3 * width);
        const double least = 0.3;
        double temperature = draw.one_of<double>({0.1, 0.5, 2});
        const Vector dl = draw.normals(3);
        const auto f = [&] {
            return moe_test::sum_of_products(reference::cosine_logits(z, centroids, std::max(temperature, least)), dl);
        };
        const reference::CosineGradients gradients = reference::cosine_backward(z, centroids, temperature, least, dl);
        differences.hold("z", z, gradients.z, f);
        differences.hold("centroids", centroids, gradients.centroids, f);
        differences.hold("temperature", temperature, gradients.temperature, f);
    }
    CHECK(differences.problem(2000) == "");
    CHECK(reference::cosine_backward({0, 0}, {1, 2}, 1, 0.01, {3}).z == Vector{0, 0});
    CHECK(reference::cosine_backward({1, 2}, {0, 0}, 1, 0.01, {3}).centroids == Vector{0, 0});
    CHECK(reference::cosine_backward({1, 2}, {1, 0}, 0.3, 0.3, {3}).temperature == 0);
}

}  // namespace moe_test::adaptors_backward_test
