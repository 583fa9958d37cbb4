// What holds for the backward pass of every gate: closed forms, infinities, NaN, AnyGate; moe::Numeric, moe::Detached.

#include <moe/gating/adaptors/capacity.hpp>
#include <moe/gating/adaptors/masked.hpp>
#include <moe/gating/any_gate.hpp>
#include <moe/gating/archetype.hpp>
#include <moe/gating/backward_rules.hpp>
#include <moe/gating/strategies/dense.hpp>
#include <moe/gating/strategies/expert_choice.hpp>
#include <moe/gating/strategies/sparse_mixer.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/train/detached.hpp>
#include <moe/train/numeric_gate.hpp>

#include <cmath>
#include <limits>
#include <vector>

#include "gating/backward_support.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::backward_gates_test {

namespace {

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

double sum(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) {
        sum += value;
    }
    return sum;
}

/// A user's gate in float, that weighs the experts of even index by the squares of their logits, and can tell a weight.
struct Squares {
    int max_per_token(int n_experts) const { return (n_experts + 1) / 2; }
    int select(std::span<const float> logits, moe::Selection out) const {
        int count = 0;
        for (std::size_t e = 0; e < logits.size(); e += 2) {
            out.experts[static_cast<std::size_t>(count++)] = static_cast<moe::ExpertId>(e);
        }
        weigh(logits, out.experts.first(static_cast<std::size_t>(count)), out);
        return count;
    }
    void weigh(std::span<const float> logits, std::span<const moe::ExpertId> experts, moe::Selection out) const {
        for (std::size_t slot = 0; slot < experts.size(); ++slot) {
            const float l = logits[static_cast<std::size_t>(experts[slot])];
            out.weights[slot] = l * l;
        }
    }
};

/// The same with its derivative.
struct DifferentiableSquares : Squares {
    void backward(std::span<const float> logits, moe::Chosen<float> chosen, std::span<const float> d_weights,
                  std::span<float> d_logits) const {
        for (std::size_t slot = 0; slot < chosen.experts.size(); ++slot) {
            const auto e = static_cast<std::size_t>(chosen.experts[slot]);
            chosen.scratch[slot] = 2 * logits[e];
            d_logits[e] += d_weights[slot] * chosen.scratch[slot];
        }
    }
};
static_assert(!moe::DifferentiableGate<Squares> && moe::DifferentiableGate<DifferentiableSquares>);
static_assert(!moe::DifferentiableGate<moe::Masked<Squares>>);

}  // namespace

TEST_CASE("The weight of a single expert that is normalised teaches nothing", "[gate_backward]") {
    const std::vector<double> logits{1, -2, 0.5};
    for (const auto& normalize : {moe::Normalize::sum(), moe::Normalize::lp(1)}) {
        const moe::TokenChoice<> gate{.top_k = 1, .normalize = normalize, .scale = 3};
        CHECK(gradient<double>(gate, logits, {7}) == std::vector<double>(3));
    }
    const moe::TokenChoice<> selected{.top_k = 1, .weight_from = moe::WeightFrom::softmax_of_selected};
    CHECK(gradient<double>(selected, logits, {7}) == std::vector<double>(3));
}

TEST_CASE("A softmax that is not normalised teaches those that were not chosen", "[gate_backward]") {
    const std::vector<double> logits{1, -2, 0.5};
    std::vector<double> p(3);
    moe::Softmax{}(std::span<const double>(logits), std::span<double>(p));
    const auto d_logits = gradient<double>(moe::TokenChoice<>{.top_k = 1}, logits, {2});
    const std::vector<double> expected{2 * p[0] * (1 - p[0]), -2 * p[0] * p[1], -2 * p[0] * p[2]};
    CHECK(difference(d_logits, expected, 1e-15) == "");
    CHECK(sum(d_logits) == Approx(0).margin(1e-15));
    // a sigmoid teaches the chosen alone
    const auto alone = gradient<double>(moe::TokenChoice<moe::Sigmoid>{.top_k = 1}, logits, {2});
    CHECK(alone[0] == Approx(2 * std::exp(-1.0) / std::pow(1 + std::exp(-1.0), 2)));
    CHECK(alone[1] == 0);
    CHECK(alone[2] == 0);
}

TEST_CASE("Rows of a softmax's gradient sum to 0", "[gate_backward]") {
    Dice dice{1};
    for (int i = 0; i < 200; ++i) {
        const auto logits = random_doubles(dice, 9, -3, 3);
        const auto d_weights = random_doubles(dice, 3, -1, 1);
        moe::TokenChoice<> gate{.top_k = 3};
        CHECK(std::abs(sum(gradient(gate, logits, d_weights))) < 1e-15);
        gate.normalize = true;
        CHECK(std::abs(sum(gradient(gate, logits, d_weights))) < 1e-15);
        gate.weight_from = moe::WeightFrom::softmax_of_selected;
        CHECK(std::abs(sum(gradient(gate, logits, d_weights))) < 1e-15);
    }
}

TEST_CASE("Gradients are linear in those of the weights, and added", "[gate_backward]") {
    const moe::AnyGate gates[] = {moe::TokenChoice<>{.top_k = 2, .normalize = true, .logit_softcap = 2},
                                  moe::SparseMixer{.jitter = 0.5}, moe::Dense<moe::Sigmoid>{}};
    const std::vector<double> logits{1, 0.5, -2, 1.25};
    for (const moe::AnyGate& gate : gates) {
        const auto chosen = choose<double>(gate, logits);
        std::vector<double> d_weights(chosen.experts.size(), 0.5);
        d_weights[0] = -2;
        const auto once = gradient(gate, logits, 4, chosen, d_weights);
        std::vector<double> d_logits{4, 8, 16, 32};
        add_gradient(gate, logits, 4, chosen, d_weights, d_logits);
        for (std::size_t e = 0; e < 4; ++e) {
            CHECK(d_logits[e] == Approx(static_cast<double>(4U << e) + once[e]));
        }
        for (double& d : d_weights) {
            d *= -4;
        }
        const auto fourfold = gradient(gate, logits, 4, chosen, d_weights);
        for (std::size_t e = 0; e < 4; ++e) {
            CHECK(fourfold[e] == -4 * once[e]);
        }
    }
}

TEST_CASE("A logit of -infinity gets no gradient and gives no NaN", "[gate_backward]") {
    const std::vector<double> logits{1, -inf, 0.5, -inf};
    for (int kind = 0; kind <= static_cast<int>(moe::ScoreKind::relu); ++kind) {
        const auto score = static_cast<moe::ScoreKind>(kind);
        for (const double softcap : {0.0, 3.0}) {
            // among the chosen is an excluded one; the sum of identities over it would be NaN
            const bool identity = score == moe::ScoreKind::identity;
            moe::TokenChoice<moe::RuntimeScore> gate{.score = {score}, .top_k = identity ? 2 : 3};
            gate.normalize = !identity;
            gate.logit_softcap = softcap;
            const std::vector<double> d_weights{1, -2, 3};
            const std::vector<double> d(d_weights.begin(), d_weights.begin() + gate.top_k);
            INFO(kind << " " << softcap);
            const auto d_logits = gradient(gate, logits, d);
            CHECK(d_logits[1] == 0);
            CHECK(d_logits[3] == 0);
            CHECK(std::isfinite(d_logits[0] + d_logits[2]));
            CHECK((score == moe::ScoreKind::uniform) == (d_logits[0] == 0));
            CHECK((score == moe::ScoreKind::uniform) == (d_logits[2] == 0));
        }
    }
    const moe::TokenChoice<> selected{.top_k = 3, .weight_from = moe::WeightFrom::softmax_of_selected};
    const auto d_logits = gradient<double>(selected, logits, {1, 2, 3});
    CHECK(d_logits[0] == Approx(-d_logits[2]));
    CHECK(d_logits[1] == 0);
}

TEST_CASE("Saturated scores keep their small gradients", "[gate_backward]") {
    const auto slope_at = [](auto gate, float l) { return gradient<float>(gate, {l, -50}, {1})[0]; };
    CHECK(slope_at(moe::TokenChoice<moe::Sigmoid>{.top_k = 1}, 30) == Approx(std::exp(-30.0)).epsilon(1e-6));
    CHECK(slope_at(moe::TokenChoice<moe::SqrtSoftplus>{.top_k = 1}, -40) == Approx(std::exp(-20.0) / 2).epsilon(1e-5));
    moe::TokenChoice<moe::Identity> capped{.top_k = 1};
    capped.logit_softcap = 2;
    CHECK(slope_at(capped, 30) == Approx(4 * std::exp(-30.0)).epsilon(1e-5));
    CHECK(gradient<float>(moe::TokenChoice<moe::SqrtSoftplus>{.top_k = 2}, {-200, -300}, {1, 1}) ==
          std::vector<float>{0, 0});
}

TEST_CASE("Greatest values that tie share the gradient of their norm", "[gate_backward]") {
    const moe::Dense<moe::Identity> gate{.normalize = moe::Normalize::lp(inf)};
    // w = l / max|l| with two of size 2: each gets half of -<d, w> / 2
    const auto d_logits = gradient<double>(gate, {2, -2, 1}, {1, 1, 4});
    CHECK(difference(d_logits, std::vector<double>{0.5 - 0.5, 0.5 + 0.5, 2}, 1e-15) == "");
}

TEST_CASE("NaN stays in its token, and is not hidden", "[gate_backward]") {
    const moe::TokenChoice<> gate{.top_k = 2, .normalize = true};
    const auto d_logits = gradient<double>(gate, {1, not_a_number, 2}, {1, 2});
    CHECK(std::isnan(d_logits[0]));
    const auto from_above = gradient<double>(gate, {1, 0, 2}, {not_a_number, 2});
    CHECK(std::isnan(from_above[0]));
    CHECK(std::isnan(from_above[2]));
    // scratch that a NaN token left changes nothing for the next
    std::vector<double> scratch(moe::backward_scratch_size(3));
    const std::vector<moe::ExpertId> experts{2, 0};
    const std::vector<double> weights{0.5, 0.5};
    const std::vector<double> d{1, 2};
    std::vector<double> first(3);
    std::vector<double> second(3);
    const std::vector<double> bad{1, not_a_number, 2};
    const std::vector<double> good{1, 0, 2};
    moe::gate_backward<double>(gate, bad, {experts, weights, {}, {}, scratch}, d, first);
    moe::gate_backward<double>(gate, good, {experts, weights, {}, {}, scratch}, d, second);
    CHECK(second == gradient<double>(gate, good, d));
}

TEST_CASE("A derivative written in float serves a layer in double", "[gate_backward]") {
    const std::vector<double> logits{1, 2, -0.5, 4, 0.25};
    CHECK(gradient<double>(DifferentiableSquares{}, logits, {1, 2, 4}) == std::vector<double>{2, 0, -2, 0, 2});
    std::vector<double> d_logits{1e-9, 0, 1, 0, 0};  // what is there is not rounded
    add_gradient<double>(DifferentiableSquares{}, logits, 5, choose<double>(DifferentiableSquares{}, logits), {0, 2, 4},
                         d_logits);
    CHECK(d_logits == std::vector<double>{1e-9, 0, -1, 0, 2});
}

TEST_CASE("An AnyGate knows whether it passes gradients on", "[gate_backward]") {
    const std::vector<double> logits{1, -2, 0.5};
    const moe::TokenChoice<> choice{.top_k = 2};
    const moe::AnyGate held = choice;
    CHECK(held.has_backward());
    CHECK(gradient<double>(held, logits, {1, 2}) == gradient<double>(choice, logits, {1, 2}));
    const moe::AnyGate batch = moe::ExpertChoice<>{};
    CHECK(moe::gate_has_backward(batch));
    const moe::AnyGate without = Squares{};
    CHECK(!moe::gate_has_backward(without));
    CHECK(!moe::gate_has_backward(Squares{}));
    CHECK(!moe::gate_has_backward(moe::Capacity<moe::AnyGate>{.gate = without}));
    CHECK(moe::gate_has_backward(moe::Capacity<moe::AnyGate>{.gate = held}));
    CHECK(moe::gate_has_backward(moe::AnyGate(moe::Detached{Squares{}})));
    CHECK(message_of([&] {
              (void)gradient<double>(without, logits, {1, 2});
          }) ==
          "AnyGate: the gate held has no backward: write `void backward(...) const`, or wrap it in moe::Numeric or "
          "moe::Detached");
}

TEST_CASE("A batch gate inside a Capacity that normalises must tell its weights", "[gate_backward]") {
    const moe::Capacity<moe::AnyGate> gate{.gate = moe::ExpertChoice<>{}, .renormalize = true};
    CHECK_THAT(message_of([&] {
                   (void)gradient<double>(gate, {1, 2}, 2, {{1}, {0.5}}, {1});
               }),
               contains("the batch gate inside does not tell them: write `void weigh("));
}

TEST_CASE("Numeric finds what the derivative says", "[gate_backward]") {
    Dice dice{6};
    const moe::TokenChoice<> gate{.top_k = 3, .normalize = moe::Normalize::sum(0.1), .scale = 2, .logit_softcap = 5};
    const moe::Numeric numeric{gate};
    for (int i = 0; i < 50; ++i) {
        auto logits = random_doubles(dice, 7, -2, 2);
        logits[dice.below(7)] = dice.one_in(2) ? -inf : 1;
        const auto d_weights = random_doubles(dice, 3, -1, 1);
        CHECK(choose<double>(numeric, logits) == choose<double>(gate, logits));
        const auto exact = gradient(gate, logits, d_weights);
        CHECK(most(exact) > 1e-3);
        CHECK(difference(gradient(numeric, logits, d_weights), exact, 1e-8 * most(exact) + 1e-9) == "");
        const std::vector<float> narrow(logits.begin(), logits.end());
        const auto in_float = gradient(numeric, narrow, std::vector<float>(d_weights.begin(), d_weights.end()));
        for (std::size_t e = 0; e < 7; ++e) {
            CHECK(static_cast<double>(in_float[e]) == Approx(exact[e]).margin(1e-6));
        }
    }
    CHECK(difference(gradient<double>(moe::Numeric{Squares{}}, {1, 2, -0.5, 4, 0.25}, {1, 2, 4}),
                     std::vector<double>{2, 0, -2, 0, 2}, 1e-3) == "");
    const std::vector<std::uint8_t> allowed{1, 1, 1, 0};
    const moe::Masked<moe::Numeric<moe::TokenChoice<>>> masked{numeric, allowed};
    CHECK(gradient<double>(masked, {1, 2, 0.5, 4}, {1, 2, 4})[3] == 0);
}

TEST_CASE("Detached passes nothing on and chooses as before", "[gate_backward]") {
    const std::vector<double> logits{1, -2, 0.5, 0};
    const moe::Detached gate{moe::TokenChoice<>{.top_k = 2}};
    CHECK(choose<double>(gate, logits) == choose<double>(moe::TokenChoice<>{.top_k = 2}, logits));
    CHECK(gradient<double>(gate, logits, {1, 2}) == std::vector<double>(4));
    const moe::Detached any{moe::AnyGate(Squares{})};
    CHECK(choose<double>(any, logits) == choose<double>(Squares{}, logits));
    CHECK(moe::gate_has_backward(any));
    CHECK(gradient<double>(any, logits, {1, 2}) == std::vector<double>(4));
    const moe::Detached batch{moe::ExpertChoice<>{}};
    CHECK(moe::is_batch_gate(batch));
    CHECK(choose_batch<double>(batch, logits, 2, 2).experts ==
          choose_batch<double>(moe::ExpertChoice<>{}, logits, 2, 2).experts);
    const std::vector<std::uint8_t> allowed(4, 1);
    const moe::Masked<moe::Detached<Squares>> masked{{}, allowed};
    CHECK(gradient<double>(masked, logits, {1, 2}) == std::vector<double>(4));
}

}  // namespace moe_test::backward_gates_test
