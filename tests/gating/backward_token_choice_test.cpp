// The backward pass of TokenChoice: every score, source of weights, normalisation, scale and softcap.

#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/token_choice.hpp>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gating/backward_support.hpp"
#include "support/catch.hpp"

namespace moe_test::backward_token_choice_test {

namespace {

constexpr std::size_t n_experts = 7;

/// A user's score with a derivative of its own: l^2 + l / 2.
struct Square {
    template <std::floating_point T>
    void operator()(std::span<const T> logits, std::span<T> scores) const {
        for (std::size_t e = 0; e < logits.size(); ++e) {
            scores[e] = logits[e] * logits[e] + logits[e] / 2;
        }
    }
    template <std::floating_point T>
    void backward(std::span<const T> logits, std::span<const T> /*scores*/, std::span<const T> d_scores,
                  std::span<T> d_logits) const {
        for (std::size_t e = 0; e < logits.size(); ++e) {
            d_logits[e] += d_scores[e] == 0 ? T(0) : d_scores[e] * (2 * logits[e] + T(0.5));
        }
    }
};
static_assert(moe::DifferentiableScore<Square> && moe::DifferentiableScore<Square, double>);
static_assert(moe::DifferentiableGate<moe::TokenChoice<Square>>);

/// A user's score without one.
struct Cube {
    template <std::floating_point T>
    void operator()(std::span<const T> logits, std::span<T> scores) const {
        for (std::size_t e = 0; e < logits.size(); ++e) {
            scores[e] = logits[e] * logits[e] * logits[e];
        }
    }
};
static_assert(!moe::DifferentiableScore<Cube> && !moe::DifferentiableGate<moe::TokenChoice<Cube>>);

const std::vector<float> expert_scales{1, -0.5F, 2, 0, 0.25F, 1.5F, 3};

std::vector<moe::Normalize> normalizations() {
    return {moe::Normalize::none(),
            moe::Normalize::sum(),
            moe::Normalize::sum(0.3),
            moe::Normalize::clamped_sum(1e-9),
            moe::Normalize::clamped_sum(50),
            moe::Normalize::lp(0.5),
            moe::Normalize::lp(1),
            moe::Normalize::lp(2.5),
            moe::Normalize::lp(std::numeric_limits<double>::infinity())};
}

/// Away from 0, where norms have kinks; where sums of logits are divided by, above it.
std::vector<double> logits_for(Dice& dice, bool positive) {
    std::vector<double> logits = random_doubles(dice, n_experts, 0.2F, 3);
    for (double& logit : logits) {
        logit = !positive && dice.one_in(2) ? -logit : logit;
    }
    return logits;
}

template <class Score>
void compare_settings(Tally& tally, Dice& dice, const std::string& name, Score score, bool positive) {
    for (const moe::Normalize& normalize : normalizations()) {
        for (const int top_k : {1, 3, 7}) {
            for (const double softcap : {0.0, 2.5}) {
                for (const auto from : {moe::WeightFrom::score, moe::WeightFrom::softmax_of_selected,
                                        moe::WeightFrom::sigmoid_of_selected}) {
                    moe::TokenChoice<Score> gate{.score = score, .top_k = top_k, .normalize = normalize};
                    gate.scale = dice.pick(1.0, -2.5);
                    gate.logit_softcap = softcap;
                    gate.weight_from = from;
                    if (dice.one_in(2)) {
                        gate.per_expert_scale = expert_scales;
                    }
                    const bool sums = normalize.kind == moe::Normalize::Kind::sum ||
                                      normalize.kind == moe::Normalize::Kind::clamped_sum;
                    compare_token(tally,
                                  name + ", normalize " + std::to_string(static_cast<int>(normalize.kind)) + " " +
                                      std::to_string(normalize.value) + ", top " + std::to_string(top_k) +
                                      ", softcap " + std::to_string(softcap) + ", weights from " +
                                      std::to_string(static_cast<int>(from)),
                                  gate, logits_for(dice, positive && sums), n_experts, dice);
                }
            }
        }
    }
}

}  // namespace

TEST_CASE("Gradients of TokenChoice are those of its weights", "[gate_backward]") {
    Dice dice{1};
    Tally tally;
    for (int repeat = 0; repeat < 3; ++repeat) {
        for (int kind = 0; kind <= static_cast<int>(moe::ScoreKind::relu); ++kind) {
            const auto score = static_cast<moe::ScoreKind>(kind);
            const bool positive = score == moe::ScoreKind::identity || score == moe::ScoreKind::relu;
            compare_settings(tally, dice, "score " + std::to_string(kind), moe::RuntimeScore{score}, positive);
        }
        compare_settings(tally, dice, "a score of the user's", Square{}, true);
    }
    CHECK(tally.error == "");
    CHECK(tally.compared > 20000);
    CHECK(tally.learning > 10000);
    CHECK(tally.skipped < tally.compared / 50);
}

TEST_CASE("What moves the choice alone moves no gradient", "[gate_backward]") {
    const std::vector<float> bias{0, 0.125F, -1, 0.5F, 0, 0, 2};
    Dice dice{2};
    Tally tally;
    for (int i = 0; i < 100; ++i) {
        moe::TokenChoice<moe::Sigmoid> gate{.top_k = 2, .normalize = true, .scale = 2};
        gate.selection_bias = bias;
        compare_token(tally, "a bias", gate, logits_for(dice, false), n_experts, dice);
        const moe::TokenChoice<> grouped{.top_k = 2, .groups = {.n_groups = 7, .kept = 3, .score_members = 1}};
        compare_token(tally, "groups", grouped, logits_for(dice, false), n_experts, dice);
    }
    CHECK(tally.error == "");
    CHECK(tally.learning > 500);
    CHECK(tally.skipped < tally.compared / 50);
}

}  // namespace moe_test::backward_token_choice_test
