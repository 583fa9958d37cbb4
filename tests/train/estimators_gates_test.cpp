// Gates that draw, against the definition: what they choose, what they pass on, what they refuse.

#include <moe/gating/adaptors/annealed.hpp>
#include <moe/gating/adaptors/capacity.hpp>
#include <moe/gating/adaptors/forced.hpp>
#include <moe/gating/adaptors/masked.hpp>
#include <moe/gating/adaptors/sampled.hpp>
#include <moe/gating/adaptors/straight_through.hpp>
#include <moe/gating/any_gate.hpp>
#include <moe/gating/strategies/noisy_top_k.hpp>
#include <moe/gating/strategies/random_choice.hpp>
#include <moe/gating/strategies/reinmax.hpp>
#include <moe/gating/strategies/sparse_mixer.hpp>
#include <moe/gating/strategies/token_choice.hpp>
#include <moe/reference/backward/gate/estimators.hpp>
#include <moe/reference/backward/gate/sparse_mixer.hpp>
#include <moe/reference/strategies/threshold.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "gating/backward_support.hpp"
#include "gating/strategies/token_strategy.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::estimators_gates_test {

namespace {

using moe::Sampled;
using reference::Choice;
using reference::TokenChoiceRule;
using reference::Vector;
using Top = moe::TokenChoice<>;

constexpr double inf = std::numeric_limits<double>::infinity();

/// Some rows for a gate, with infinities and NaN now and then, each with its seed, step and position.
struct Row {
    Vector logits;
    std::uint64_t seed, step, position;
    int top_k;
    bool normalize;

    [[nodiscard]] moe::TokenContext context() const { return {-1, position}; }
    [[nodiscard]] Top gate() const { return {.top_k = top_k, .normalize = normalize}; }
    [[nodiscard]] TokenChoiceRule rule() const {
        return {.top_k = static_cast<std::size_t>(top_k),
                .norm = normalize ? reference::Norm::sum : reference::Norm::none};
    }
    [[nodiscard]] Vector noisy(double temperature = 1) const {
        return reference::gumbel_logits(logits, seed, step, position, temperature);
    }
};

template <class Hold>
void for_rows(std::uint64_t seed, std::size_t least, const Hold& hold) {
    Dice dice{seed};
    for (int i = 0; i < 2000; ++i) {
        const std::size_t n = least + dice.below(12);
        const int top_k = static_cast<int>(1 + dice.below(std::min<std::size_t>(n, 4)));
        const Vector logits = wide(random_logits(dice, n));
        hold(Row{logits, dice.below(5), dice.below(5), dice.below(1000), top_k, dice.one_in(2)}, dice);
    }
}

bool is_finite(const Vector& logits) {
    return std::all_of(logits.begin(), logits.end(), [](double l) { return std::isfinite(l) && std::abs(l) < 1e6; });
}

/// The gradient that a gate passes on, where all is finite: `expected` is called with what was chosen and d_weights.
template <class Gate, class Expected>
std::size_t compare_gradient(const Gate& gate, const Row& row, Dice& dice, const Expected& expected) {
    if (!is_finite(row.logits)) {
        return 0;
    }
    const Chosen<double> chosen = choose<double>(gate, row.logits, row.logits.size(), row.context());
    const Vector d_weights = random_doubles(dice, chosen.experts.size(), -1, 1);
    const Vector d_logits = gradient<double>(gate, row.logits, row.logits.size(), chosen, d_weights, row.context());
    const Vector of_definition = expected(Choice{chosen.experts, chosen.weights}, d_weights);
    const std::string error = difference(d_logits, of_definition, 1e-12);
    REQUIRE(error == "");
    const std::vector<float> narrow(row.logits.begin(), row.logits.end());
    const Chosen<float> in_float = choose<float>(gate, narrow, narrow.size(), row.context());
    if (in_float.experts == chosen.experts) {
        const std::vector<float> d_narrow(d_weights.begin(), d_weights.end());
        const std::vector<float> of_float =
            gradient<float>(gate, narrow, narrow.size(), in_float, d_narrow, row.context());
        const std::string float_error = difference(of_float, of_definition, 1e-4 * (1 + most(of_definition)));
        REQUIRE(float_error == "");
    }
    return most(d_logits) > 0 ? 1 : 0;
}

}  // namespace

TEST_CASE("Sampled chooses by the noise and weighs without it", "[estimators]") {
    static_assert(is_token_gate<Sampled<Top>> && moe::DifferentiableGate<Sampled<Top>, double>);
    static_assert(moe::WeighingGate<Sampled<Top>, double>);
    std::size_t drawn = 0;
    std::size_t learning = 0;
    for_rows(1, 1, [&](const Row& row, Dice& dice) {
        Sampled<Top> gate{.gate = row.gate(), .seed = row.seed, .step = row.step};
        const auto chosen = choose<double>(gate, row.logits, row.logits.size(), row.context());
        REQUIRE(disagreement(chosen, reference::sampled(row.rule(), row.logits, row.noisy()), row.logits.size()) == "");
        REQUIRE(repeats<double>(gate, row.logits, row.logits.size(), row.context()));
        const auto calm = choose<double>(row.gate(), row.logits, row.logits.size());
        drawn += chosen.experts != calm.experts;
        learning += compare_gradient(gate, row, dice, [&](const Choice& choice, const Vector& d) {
            return reference::gate_backward(row.rule(), row.logits, choice, d);
        });
        gate.training = false;
        REQUIRE(same_choice(choose<double>(gate, row.logits, row.logits.size(), row.context()), calm));
    });
    CHECK(drawn > 500);
    CHECK(learning > 500);
}

TEST_CASE("Annealed reads noisy logits over its temperature", "[estimators]") {
    static_assert(is_token_gate<moe::Annealed<Top>> && moe::DifferentiableGate<moe::Annealed<Top>, double>);
    std::size_t learning = 0;
    for_rows(2, 1, [&](const Row& row, Dice& dice) {
        const double temperature = dice.pick(0.25, 1.0, 3.0);
        moe::Annealed<Top> gate{.gate = row.gate(), .temperature = temperature, .seed = row.seed, .step = row.step};
        const auto chosen = choose<double>(gate, row.logits, row.logits.size(), row.context());
        const Vector noisy = row.noisy(temperature);
        REQUIRE(disagreement(chosen, reference::route(row.rule(), noisy), row.logits.size()) == "");
        REQUIRE(repeats<double>(gate, row.logits, row.logits.size(), row.context()));
        learning += compare_gradient(gate, row, dice, [&](const Choice& choice, const Vector& d) {
            return reference::annealed_backward(row.rule(), noisy, temperature, choice, d);
        });
        gate.training = false;
        Vector calm = row.logits;
        for (double& l : calm) {
            l /= temperature;
        }
        REQUIRE(same_choice(choose<double>(gate, row.logits, row.logits.size(), row.context()),
                            choose<double>(row.gate(), calm, calm.size())));
    });
    CHECK(learning > 500);
}

TEST_CASE("Annealed has the gradient of its weights", "[estimators]") {
    Dice dice{3};
    Tally tally;
    for (int i = 0; i < 200; ++i) {
        auto gate = moe::dense_to_sparse(0.7, 0.15);
        gate.seed = 5;
        gate.gate.normalize = i % 2 == 0;
        compare_token(tally, "dense to sparse", gate, random_doubles(dice, 6, -2, 2), 6, dice, {-1, dice.below(1000)});
        compare_token(tally, "noisy inside", moe::Annealed<moe::NoisyTopK>{.temperature = 2, .seed = 6},
                      random_doubles(dice, 12, -2, 2), 6, dice, {-1, dice.below(1000)});
        compare_token(tally, "two of them",
                      moe::Annealed<moe::Annealed<Top>>{.gate = {.gate = {.top_k = 2}}, .seed = 7},
                      random_doubles(dice, 6, -2, 2), 6, dice, {-1, dice.below(1000)});
    }
    CHECK(tally.error == "");
    CHECK(tally.compared > 3500);
    CHECK(tally.learning > 2000);
}

TEST_CASE("dense to sparse: all experts at first, one in the end", "[estimators]") {
    const Vector logits{0.5, -0.25, 1, 0, 0.75};
    const auto counted = [&](double temperature) {
        std::size_t experts = 0;
        for (std::uint64_t position = 0; position < 200; ++position) {
            const auto gate = moe::dense_to_sparse(temperature, 0.1);
            const auto chosen = choose<double>(gate, logits, 5, {-1, position});
            // The definition: those of the softmax above the threshold, or the best one.
            const Vector noisy = reference::gumbel_logits(logits, 0, 0, position, temperature);
            const Vector scores = reference::softmax(noisy);
            REQUIRE(chosen.experts == reference::above_threshold(scores, noisy, Vector(5, 0.1), 0, true, true));
            experts += chosen.experts.size();
        }
        return static_cast<double>(experts) / 200;
    };
    CHECK(counted(100) == 5);
    CHECK(counted(0.01) < 1.05);
    CHECK(counted(1) > 1.5);
    CHECK(counted(1) < 4);
    CHECK(moe::annealed_temperature(2, 0.25, 0, 7) == 2);
    CHECK(moe::annealed_temperature(2, 0.25, 4, 7) == 1);
    CHECK(moe::annealed_temperature(2, 0.25, 7, 7) == 0.25);
    CHECK(moe::annealed_temperature(2, 0.25, 0, 0) == 0.25);
    CHECK(message_of([] { (void)moe::annealed_temperature(2, 0, 1, 2); }) ==
          "annealed_temperature: from 2 to 0; both must be positive and finite");
}

TEST_CASE("StraightThrough weighs all alike and learns as the gate inside", "[estimators]") {
    using Through = moe::StraightThrough<Top>;
    static_assert(is_token_gate<Through> && moe::DifferentiableGate<Through, double>);
    std::size_t learning = 0;
    for_rows(4, 1, [&](const Row& row, Dice& dice) {
        const Through gate{.gate = row.gate(), .weight = 0.5};
        const auto chosen = choose<double>(gate, row.logits, row.logits.size());
        REQUIRE(disagreement(chosen, reference::straight_through(row.rule(), row.logits, 0.5)) == "");
        REQUIRE(repeats<double>(gate, row.logits, row.logits.size()));
        learning += compare_gradient(gate, row, dice, [&](const Choice& choice, const Vector& d) {
            return reference::gate_backward(row.rule(), row.logits, choice, d);
        });
    });
    CHECK(learning > 500);
    // Nothing inside that has no gradient gets one.
    CHECK(gradient<double>(moe::StraightThrough<moe::RandomChoice>{.gate = {.top_k = 2}}, {1, 2, 3}, {1, 1}) ==
          Vector(3, 0.0));
}

TEST_CASE("ReinMax gives what it drew the weight 1 and asks for all others", "[estimators]") {
    static_assert(is_token_gate<moe::ReinMax> && moe::DifferentiableGate<moe::ReinMax, double>);
    std::size_t learning = 0;
    for_rows(5, 1, [&](const Row& row, Dice& dice) {
        moe::ReinMax gate{
            .order = dice.pick(1, 2), .temperature = dice.pick(1.0, 1.5), .seed = row.seed, .step = row.step};
        const Choice expected = reference::reinmax(row.logits, row.noisy());
        const auto chosen = choose<double>(gate, row.logits, row.logits.size(), row.context());
        REQUIRE(disagreement(chosen, expected) == "");
        REQUIRE(repeats<double>(gate, row.logits, row.logits.size(), row.context()));
        learning += compare_gradient(gate, row, dice, [&](const Choice& choice, const Vector& d) {
            Vector g(row.logits.size(), 0.0);
            for (std::size_t i = 0; i < d.size(); ++i) {
                g[static_cast<std::size_t>(choice.experts[i])] = d[i];
            }
            return gate.order == 1 ? reference::straight_through_backward(row.logits, g)
                                   : reference::reinmax_backward(
                                         row.logits, static_cast<std::size_t>(choice.experts[0]), gate.temperature, g);
        });
        gate.training = false;
        const auto calm = choose<double>(gate, row.logits, row.logits.size(), row.context());
        REQUIRE(calm.experts == choose<double>(Top{.top_k = 1}, row.logits, row.logits.size()).experts);
        REQUIRE(calm.weights == Vector{1});
        REQUIRE(gradient<double>(gate, row.logits, row.logits.size(), calm, {1}) == Vector(row.logits.size(), 0.0));
    });
    CHECK(learning > 500);
}

TEST_CASE("SparseMixer in training draws from what is not masked", "[estimators]") {
    std::size_t drawn = 0;
    std::size_t learning = 0;
    for_rows(6, 2, [&](const Row& row, Dice& dice) {
        moe::SparseMixer gate{
            .jitter = dice.pick(0.01, 0.5, 100.0), .training = true, .seed = row.seed, .step = row.step};
        const std::size_t n = row.logits.size();
        const auto chosen = choose<double>(gate, row.logits, n, row.context());
        REQUIRE(chosen.experts.size() == 2);
        REQUIRE(chosen.experts[0] != chosen.experts[1]);
        REQUIRE(repeats<double>(gate, row.logits, n, row.context()));
        if (is_finite(row.logits)) {
            const Choice expected =
                reference::sparse_mixer_training(row.logits, gate.jitter, row.seed, row.step, row.position);
            REQUIRE(disagreement(chosen, expected, n) == "");
        }
        const auto of_definition = [&](const Choice& choice, const Vector& d) {
            return reference::sparse_mixer_backward(row.logits, gate.jitter, choice, d);
        };
        learning += compare_gradient(gate, row, dice, of_definition);
        // In evaluation, as it was before it could be trained.
        gate.training = false;
        const auto calm = choose<double>(gate, row.logits, n, row.context());
        drawn += calm.experts != chosen.experts;
        REQUIRE(same_choice(calm, choose<double>(moe::SparseMixer{.jitter = gate.jitter}, row.logits, n)));
        if (is_finite(row.logits)) {
            REQUIRE(disagreement(calm, reference::sparse_mixer(row.logits, gate.jitter), n) == "");
        }
        (void)compare_gradient(gate, row, dice, of_definition);
    });
    CHECK(drawn > 300);
    CHECK(learning > 300);
}

TEST_CASE("who is excluded is not drawn, and one expert is drawn always", "[estimators]") {
    const Vector logits{-inf, 1, -inf, 2, 0};
    for (std::uint64_t position = 0; position < 200; ++position) {
        const moe::TokenContext context{-1, position};
        const auto holds = [&](const auto& gate) {
            for (const moe::ExpertId e : choose<double>(gate, logits, 5, context).experts) {
                REQUIRE((e == 1 || e == 3 || e == 4));
            }
        };
        holds(Sampled<Top>{.gate = {.top_k = 3}});
        holds(moe::Annealed<Top>{.gate = {.top_k = 3}});
        holds(moe::ReinMax{});
        holds(moe::SparseMixer{.jitter = 10, .training = true});
    }
    CHECK(choose<double>(Sampled<Top>{.gate = {.top_k = 1}}, {7}).experts == Ids{0});
    CHECK(choose<double>(moe::ReinMax{}, {7}).weights == Vector{1});
    CHECK(gradient<double>(moe::ReinMax{}, {7}, {3}) == Vector{0});
    CHECK(choose<double>(moe::SparseMixer{.training = true}, {5, -inf}).experts == Ids{0, 1});
}

TEST_CASE("gates that draw stand inside other adaptors", "[estimators]") {
    const std::vector<std::uint8_t> allowed{1, 0, 1, 1, 0, 1};
    Dice dice{8};
    std::size_t learning = 0;
    for (int i = 0; i < 200; ++i) {
        const Vector logits = random_doubles(dice, 6, -2, 2);
        const moe::TokenContext context{-1, dice.below(1000)};
        Vector masked = logits;
        masked[1] = masked[4] = -inf;
        const auto compare = [&](const auto& inside) {
            const moe::Masked<std::decay_t<decltype(inside)>> gate{inside, allowed};
            const auto chosen = choose<double>(gate, logits, 6, context);
            REQUIRE(same_choice(chosen, choose<double>(inside, masked, 6, context)));
            const Vector d = random_doubles(dice, chosen.experts.size(), -1, 1);
            const Vector d_logits = gradient<double>(gate, logits, 6, chosen, d, context);
            REQUIRE(difference(d_logits, gradient<double>(inside, masked, 6, chosen, d, context), 0) == "");
            learning += most(d_logits) > 0;
        };
        compare(Sampled<Top>{.gate = {.top_k = 2, .normalize = true}, .seed = 1});
        compare(moe::Annealed<Top>{.gate = {.top_k = 2}, .temperature = 0.5});
        compare(moe::ReinMax{.seed = 2});
        compare(moe::StraightThrough<Sampled<Top>>{.gate = {.gate = {.top_k = 3}}});
    }
    CHECK(learning == 800);
    // A recorded choice replayed: the weights are those without noise.
    const Ids forced{2, 0};
    const Vector logits{0.5, 1, -1};
    const moe::Forced<Sampled<Top>> replay{.gate = {.gate = {.top_k = 2}}, .experts = moe::view(forced.data(), 1, 2)};
    const Vector p = reference::softmax(logits);
    CHECK(difference(choose<double>(replay, logits).weights, Vector{p[2], p[0]}, 1e-15) == "");
}

TEST_CASE("settings of gates that draw which cannot be", "[estimators]") {
    CHECK(refusal(moe::Annealed<Top>{.temperature = 0}, 4) ==
          "Annealed: temperature is 0, it must be positive and finite");
    CHECK(refusal(moe::Annealed<Top>{.temperature = inf}, 4) != "no error");
    CHECK(refusal(moe::ReinMax{.order = 3}, 4) == "ReinMax: order is 3, it must be 1 or 2");
    CHECK(refusal(moe::ReinMax{.temperature = -1}, 4) == "ReinMax: temperature is -1, it must be positive and finite");
    CHECK(refusal(moe::StraightThrough<Top>{.weight = inf}, 4) == "StraightThrough: weight is inf, it must be finite");
    for (const std::string& text :
         {refusal(Sampled<Top>{.gate = {.top_k = 5}}, 4), refusal(moe::Annealed<Top>{.gate = {.top_k = 5}}, 4),
          refusal(moe::StraightThrough<Top>{.gate = {.top_k = 5}}, 4)}) {
        CHECK_THAT(text, contains("top_k 5 exceeds"));
    }
}

}  // namespace moe_test::estimators_gates_test
