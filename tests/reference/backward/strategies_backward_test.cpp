// Every strategy of gating/ but TokenChoice: the gradient of its weights, with the choice as it is.

#include <moe/reference/backward/gate/noisy_top_k.hpp>
#include <moe/reference/backward/gate/pairs.hpp>
#include <moe/reference/backward/gate/product_keys.hpp>
#include <moe/reference/backward/gate/sparse_mixer.hpp>
#include <moe/reference/chosen_weights.hpp>
#include <moe/reference/strategies/balanced_assignment.hpp>
#include <moe/reference/strategies/expert_choice.hpp>
#include <moe/reference/strategies/sinkhorn.hpp>
#include <moe/reference/strategies/threshold.hpp>
#include <moe/reference/strategies/top_k_per_group.hpp>
#include <moe/reference/strategies/top_p.hpp>

#include <functional>
#include <numeric>
#include <string>

#include "reference/backward/random_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::strategies_backward_test {

namespace reference = moe::reference;
using moe_test::Differences;
using moe_test::Numbers;
using reference::Choice;
using reference::Score;
using reference::TokenChoiceRule;
using reference::Vector;

namespace {

constexpr std::size_t n_experts = 6;

/// <weights, d>, where there may be more d than weights.
double weigh(const Choice& choice, const Vector& d) { return moe_test::sum_of_products(choice.weights, d); }

Vector first_of(const Vector& values, std::size_t count) {
    return Vector(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count));
}

using Chooser = std::function<std::vector<moe::ExpertId>(const Vector& scores, const Vector& logits)>;

/// A gate that weighs with scores, normalised and scaled, whatever it chooses.
void hold_chooser(const std::string& what, const Chooser& choose, Numbers& draw, Differences& differences) {
    for (int i = 0; i < 300;) {
        TokenChoiceRule rule = moe_test::random_rule(draw, n_experts, 1);
        rule.softcap = 0;
        rule.weight_from = reference::Source::score;
        Vector logits = draw.normals(n_experts);
        const auto choice = [&] {
            const Vector scores = reference::scores_of(rule.score, logits);
            const std::vector<moe::ExpertId> experts = choose(scores, logits);
            return Choice{experts, reference::chosen_weights(rule, experts, scores)};
        };
        const Choice chosen = choice();
        if (!moe_test::divides_well(rule, logits, chosen.experts)) {
            continue;
        }
        ++i;
        const Vector dw = draw.normals(n_experts);
        const Vector dl = reference::gate_backward(rule, logits, chosen, first_of(dw, chosen.experts.size()));
        differences.hold(what, logits, dl, [&] { return weigh(choice(), dw); });
    }
}

/// A gate of a whole batch: `choose` gives the choices of all rows, whose weights have the gradient of `rule`.
void hold_batch(const std::string& what, const TokenChoiceRule& rule, Numbers& draw, Differences& differences,
                const std::function<std::vector<Choice>(const std::vector<Vector>&)>& choose) {
    for (int i = 0; i < 60; ++i) {
        std::vector<Vector> logits;
        std::vector<Vector> dw;
        for (std::size_t t = draw.size(1, 7); t > 0; --t) {
            logits.push_back(draw.normals(n_experts));
            dw.push_back(draw.normals(n_experts));
        }
        const std::vector<Choice> choices = choose(logits);
        for (std::size_t t = 0; t < logits.size(); ++t) {
            const Vector dl =
                reference::gate_backward(rule, logits[t], choices[t], first_of(dw[t], choices[t].experts.size()));
            differences.hold(what, logits[t], dl, [&] {
                const std::vector<Choice> now = choose(logits);
                double sum = 0;
                for (std::size_t u = 0; u < now.size(); ++u) {
                    sum += weigh(now[u], dw[u]);
                }
                return sum;
            });
        }
    }
}

}  // namespace

TEST_CASE("gates that weigh with scores whatever they choose", "[reference]") {
    Numbers draw(1);
    Differences differences(2);
    hold_chooser(
        "dense",
        [](const Vector& scores, const Vector&) {
            std::vector<moe::ExpertId> all(scores.size());
            std::iota(all.begin(), all.end(), moe::ExpertId{0});
            return all;
        },
        draw, differences);
    hold_chooser(
        "top-p",
        [](const Vector& scores, const Vector& logits) { return reference::top_p(scores, logits, 0.6, 4, true); }, draw,
        differences);
    hold_chooser(
        "threshold",
        [](const Vector& scores, const Vector& logits) {
            return reference::above_threshold(scores, logits, Vector(n_experts, 0.1), 0, true, true);
        },
        draw, differences);
    hold_chooser(
        "top-k per group",
        [](const Vector& scores, const Vector& logits) {
            return reference::top_k_per_group(scores, logits, 3, 1, true);
        },
        draw, differences);
    hold_chooser(
        "hash",
        [](const Vector&, const Vector&) {
            return std::vector<moe::ExpertId>{4, 1, 4};
        },
        draw, differences);
    CHECK(differences.problem(3000) == "");
}

TEST_CASE("gates of whole batches: what balances them is constant", "[reference]") {
    Numbers draw(3);
    Differences differences(4);
    for (const Score score : {Score::softmax, Score::sigmoid, Score::sqrt_softplus}) {
        hold_batch("expert choice", {.score = score}, draw, differences, [&](const std::vector<Vector>& logits) {
            std::vector<Vector> scores;
            for (const Vector& row : logits) {
                scores.push_back(reference::scores_of(score, row));
            }
            return reference::expert_choice(scores, 2, 4);
        });
    }
    for (const std::size_t k : {std::size_t{1}, std::size_t{2}}) {
        hold_batch(
            "sinkhorn", {.score = k == 1 ? Score::sigmoid : Score::softmax}, draw, differences,
            [&](const std::vector<Vector>& logits) { return reference::sinkhorn({.top_k = k}, logits, n_experts); });
    }
    hold_batch(
        "balanced assignment", {.score = Score::sigmoid}, draw, differences, [](const std::vector<Vector>& logits) {
            std::vector<Choice> choices;
            for (const moe::ExpertId e :
                 reference::balanced_assignment(reference::finite_benefits(logits), n_experts)) {
                choices.push_back({{e}, {reference::sigmoid(logits[choices.size()][static_cast<std::size_t>(e)])}});
            }
            return choices;
        });
    CHECK(differences.problem(2000) == "");
}

TEST_CASE("top-n by threshold: those that were let go stay in the divisor", "[reference]") {
    Numbers draw(5);
    Differences differences(6);
    std::size_t n_lost = 0;
    for (std::uint64_t i = 0; i < 400; ++i) {
        Vector logits = draw.normals(n_experts);
        const Vector dw = draw.normals(3);
        const bool deterministic = draw.coin();
        const auto choice = [&] { return reference::top_n_threshold(logits, 3, 0.3, deterministic, i); };
        const Choice chosen = choice();
        n_lost += static_cast<std::size_t>(chosen.experts.size() < 3);
        const Vector dl = reference::top_n_threshold_backward(logits, 3, chosen, first_of(dw, chosen.experts.size()));
        differences.hold("top-n threshold", logits, dl, [&] { return weigh(choice(), dw); });
    }
    CHECK(n_lost > 100);
    CHECK(differences.problem(800) == "");
}

TEST_CASE("GShard's two experts: the second is in the divisor where its draw was lost too", "[reference]") {
    Numbers draw(7);
    Differences differences(8);
    std::size_t n_lost = 0;
    for (std::uint64_t i = 0; i < 600; ++i) {
        Vector logits = draw.normals(n_experts);
        const Vector dw = draw.normals(2);
        const auto policy = static_cast<reference::Second>(draw.size(0, 3));
        const TokenChoiceRule rule{.norm = draw.coin() ? reference::Norm::sum : reference::Norm::none};
        const auto choice = [&] { return reference::gshard(policy, rule.norm == reference::Norm::sum, logits, i); };
        const Choice chosen = choice();
        const bool lost = chosen.experts.size() < 2;
        n_lost += static_cast<std::size_t>(lost);
        const Vector dl =
            reference::gshard_backward(rule, policy, logits, i, chosen, first_of(dw, chosen.experts.size()));
        differences.hold("gshard", logits, dl, [&] { return weigh(choice(), dw); });
        if (lost && rule.norm == reference::Norm::sum) {
            const moe::ExpertId second = reference::two_experts(policy, logits, i).experts[1];
            CHECK(dl[static_cast<std::size_t>(second)] != 0);
        }
    }
    CHECK(n_lost > 60);
    CHECK(differences.problem(1200) == "");
}

TEST_CASE("noisy top-k: through the noise to the clean logits and the deviations", "[reference]") {
    Numbers draw(9);
    Differences differences(10);
    for (std::uint64_t i = 0; i < 400; ++i) {
        Vector logits = draw.normals(2 * n_experts);
        const std::size_t k = draw.one_of<std::size_t>({1, 2, n_experts});
        const Vector dw = draw.normals(k);
        const auto h = [&] { return reference::noisy_logits(logits, 1, 2, i); };
        const Choice chosen = reference::choose_top_k(h(), k);
        const Vector dh = reference::choose_top_k_backward(h(), chosen, dw);
        const Vector dl = reference::noisy_logits_backward(logits, 1, 2, i, dh);
        differences.hold("noisy top-k", logits, dl, [&] { return weigh(reference::choose_top_k(h(), k), dw); });
    }
    CHECK(differences.problem(800) == "");
}

TEST_CASE("SparseMixer: a softmax a round, among those not masked", "[reference]") {
    Numbers draw(11);
    Differences differences(12);
    std::size_t n_masked = 0;
    for (int i = 0; i < 400; ++i) {
        const double jitter = draw.one_of<double>({0.01, 0.3, 2});
        Vector logits = draw.normals(n_experts);
        const Vector dw = draw.normals(2);
        const Choice chosen = reference::sparse_mixer(logits, jitter);
        for (const double l : reference::unmasked(logits, jitter)) {
            n_masked += static_cast<std::size_t>(reference::excluded(l));
        }
        const Vector dl = reference::sparse_mixer_backward(logits, jitter, chosen, dw);
        differences.hold("sparse mixer", logits, dl,
                         [&] { return weigh(reference::sparse_mixer(logits, jitter), dw); });
    }
    CHECK(n_masked > 400);
    CHECK(n_masked < 2000);
    CHECK(differences.problem(800) == "");
}

TEST_CASE("product keys: a half's logit gets what all its experts get", "[reference]") {
    Numbers draw(13);
    Differences differences(14);
    for (int i = 0; i < 400; ++i) {
        const std::size_t n = draw.size(1, 5);
        const std::size_t k = draw.size(1, n);
        const bool relu = draw.coin();
        Vector logits = draw.normals(2 * n);
        const Vector dw = draw.normals(k);
        const Choice chosen = reference::product_keys(logits, k, relu);
        const Vector dl = reference::product_keys_backward(logits, chosen, relu, dw);
        differences.hold("product keys", logits, dl,
                         [&] { return weigh(reference::product_keys(logits, k, relu), dw); });
    }
    CHECK(differences.problem(800) == "");
}

}  // namespace moe_test::strategies_backward_test
