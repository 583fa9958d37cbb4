// The losses that keep experts alive: their values at balance and at collapse, and their gradients.

#include <moe/reference/backward/gate/gate.hpp>
#include <moe/reference/backward/loss/load_balance.hpp>
#include <moe/reference/backward/loss/logits.hpp>
#include <moe/reference/backward/loss/orthogonality.hpp>
#include <moe/reference/backward/loss/variation.hpp>

#include <cmath>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "reference/backward/random_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::losses_test {

namespace reference = moe::reference;
using moe_test::difference;
using moe_test::Differences;
using moe_test::Numbers;
using reference::Choice;
using reference::LogitLoss;
using reference::Score;
using reference::Vector;

namespace {

constexpr std::size_t n_experts = 5;
constexpr std::size_t top_k = 2;

std::vector<Vector> random_logits(Numbers& draw, std::size_t n_tokens, std::size_t n_logits = n_experts) {
    std::vector<Vector> logits;
    for (std::size_t t = 0; t < n_tokens; ++t) {
        logits.push_back(draw.normals(n_logits, 1.5));
    }
    return logits;
}

std::vector<Choice> choices_of(const std::vector<Vector>& logits) {
    std::vector<Choice> choices;
    for (const Vector& row : logits) {
        choices.push_back(
            reference::route({.top_k = top_k, .weight_from = reference::Source::softmax_of_selected}, row));
    }
    return choices;
}

void hold(const std::string& what, std::vector<Vector>& logits, Differences& differences,
          const std::function<LogitLoss()>& loss) {
    const LogitLoss result = loss();
    REQUIRE(result.d_logits.size() == logits.size());
    for (std::size_t t = 0; t < logits.size(); ++t) {
        differences.hold(what, logits[t], result.d_logits[t], [&] { return loss().value; });
    }
}

/// `n_tokens` tokens whose choice is one expert after the other, with equal logits.
std::vector<Choice> in_turn(std::size_t n_tokens, std::size_t k) {
    std::vector<Choice> choices(n_tokens);
    for (std::size_t i = 0; i < n_tokens * k; ++i) {
        choices[i / k].experts.push_back(static_cast<moe::ExpertId>(i % n_experts));
    }
    return choices;
}

}  // namespace

TEST_CASE("the gradients of the losses of the logits are those of central differences", "[reference]") {
    Numbers draw(1);
    Differences differences(2);
    for (int i = 0; i < 60; ++i) {
        std::vector<Vector> logits = random_logits(draw, draw.one_of<std::size_t>({0, 1, 7}));
        const std::vector<Choice> choices = choices_of(logits);  // counts are constants
        const Vector counts = reference::counts_of(choices, n_experts);
        const double n_tokens = static_cast<double>(logits.size());
        for (const Score score : {Score::softmax, Score::sigmoid, Score::sqrt_softplus}) {
            for (const double epsilon : {0.0, 1e-3}) {
                const reference::LoadBalance rule{.top_k = 2, .score = score, .epsilon = epsilon};
                hold("load balance", logits, differences,
                     [&] { return reference::load_balance(rule, logits, counts, n_tokens); });
                hold("global load balance", logits, differences,
                     [&] { return reference::load_balance(rule, logits, counts, 20); });
                const std::vector<std::size_t> lengths{logits.size() / 2, logits.size() - logits.size() / 2};
                if (lengths[0] > 0) {
                    hold("sequence-wise", logits, differences,
                         [&] { return reference::sequence_load_balance(rule, logits, choices, lengths); });
                }
            }
        }
        hold("z", logits, differences, [&] { return reference::z_loss(logits); });
        hold("l1", logits, differences, [&] { return reference::l1_loss(logits, counts, 2, n_tokens); });
        hold("entropy", logits, differences, [&] { return reference::entropy_loss(logits); });
    }
    CHECK(differences.problem(4000) == "");
}

TEST_CASE("importance and load: through the weights, the noise and the threshold", "[reference]") {
    Numbers draw(3);
    Differences differences(4);
    for (std::uint64_t i = 0; i < 60; ++i) {
        const bool unbiased = draw.coin();
        std::vector<Vector> logits = random_logits(draw, draw.one_of<std::size_t>({1, 7}));
        hold("importance", logits, differences, [&] {
            const std::vector<Choice> choices = choices_of(logits);
            const reference::WeightLoss loss = reference::importance_loss(choices, n_experts, unbiased);
            LogitLoss result{loss.value, {}};
            for (std::size_t t = 0; t < logits.size(); ++t) {
                result.d_logits.push_back(reference::gate_backward(
                    {.weight_from = reference::Source::softmax_of_selected}, logits[t], choices[t], loss.d_weights[t]));
            }
            return result;
        });
        std::vector<Vector> two = random_logits(draw, draw.one_of<std::size_t>({1, 4}), 2 * n_experts);
        const std::size_t k = draw.one_of<std::size_t>({1, 2, n_experts - 1, n_experts});
        const auto load = [&](bool constant) {
            std::vector<Vector> noisy;
            for (std::size_t t = 0; t < two.size(); ++t) {
                noisy.push_back(reference::noisy_logits(two[t], 5, i, t));
            }
            return reference::load_loss(two, noisy, k, unbiased, constant);
        };
        hold("load", two, differences, [&] { return load(false); });
        const LogitLoss constant = load(true);
        CHECK((constant.d_logits[0] != load(false).d_logits[0]) == (k < n_experts));
    }
    CHECK(differences.problem(700) == "");
}

TEST_CASE("load with a threshold that is constant", "[reference]") {
    Numbers draw(5);
    Differences differences(6);
    for (std::uint64_t i = 0; i < 100; ++i) {
        Vector logits = draw.normals(2 * n_experts);
        const Vector h = reference::noisy_logits(logits, 5, i, 0);  // stays
        const Vector c = draw.normals(n_experts);
        const auto f = [&] {
            double sum = 0;
            for (std::size_t e = 0; e < n_experts; ++e) {
                sum += c[e] * reference::chance_of(logits, h, 2, e);
            }
            return sum;
        };
        differences.hold("load", logits, reference::chances_backward(logits, h, 2, c, true, 0.01), f);
    }
    CHECK(differences.problem(200) == "");
}

TEST_CASE("router orthogonality, by squares and by absolute values", "[reference]") {
    Numbers draw(7);
    Differences differences(8);
    for (int i = 0; i < 200; ++i) {
        const std::size_t rows = draw.size(1, 4);
        Vector router = draw.normals(rows * draw.size(1, 4));
        for (const auto distance : {reference::Distance::squares, reference::Distance::absolute}) {
            const auto loss = [&] { return reference::orthogonality_loss(router, rows, distance); };
            differences.hold("orthogonality", router, loss().d_router, [&] { return loss().value; });
        }
    }
    CHECK(differences.problem(800) == "");
    const auto none = reference::orthogonality_loss({0, 1, 1, 0}, 2, reference::Distance::absolute);
    CHECK(none.value == 0);
    CHECK(none.d_router == Vector(4, 0.0));
}

TEST_CASE("load balance: 1 at balance, E / K where all go to the same experts", "[reference]") {
    const std::vector<Vector> equal(10, Vector(n_experts, 0.7));
    for (const std::size_t k : {std::size_t{1}, std::size_t{2}}) {
        const Vector counts = reference::counts_of(in_turn(10, k), n_experts);
        CHECK(counts == Vector(n_experts, 2.0 * static_cast<double>(k)));
        for (const Score score : {Score::softmax, Score::sigmoid, Score::sqrt_softplus}) {
            const reference::LoadBalance rule{.top_k = static_cast<double>(k), .score = score};
            CHECK(std::abs(reference::load_balance(rule, equal, counts, 10).value - 1) < 1e-14);
        }
    }
    // A second softmax of the probabilities could not exceed 5 e / (e + 4).
    const std::vector<Vector> collapsed(10, Vector{50, 0, 0, 0, 0});
    const LogitLoss loss = reference::load_balance({}, collapsed, {10, 0, 0, 0, 0}, 10);
    CHECK(std::abs(loss.value - 5) < 1e-14);
}

TEST_CASE("load balance: the gradient of a token sums to 0, over softmax", "[reference]") {
    Numbers draw(9);
    const std::vector<Vector> logits = random_logits(draw, 20);
    const Vector counts = reference::counts_of(choices_of(logits), n_experts);
    for (const Vector& row : reference::load_balance({.top_k = 2}, logits, counts, 20).d_logits) {
        double sum = 0;
        for (const double d : row) {
            sum += d;
        }
        CHECK(std::abs(sum) < 1e-15);
    }
}

TEST_CASE("scores pushed towards 0 together do not lower the balance loss", "[reference]") {
    Numbers draw(10);
    const std::vector<Vector> logits = random_logits(draw, 20);
    const Vector counts = reference::counts_of(choices_of(logits), n_experts);
    for (const Score score : {Score::sigmoid, Score::sqrt_softplus}) {
        const reference::LoadBalance rule{.top_k = 2, .score = score};
        const double before = reference::load_balance(rule, logits, counts, 20).value;
        for (const double shift : {60.0, 900.0}) {
            std::vector<Vector> low = logits;
            for (Vector& row : low) {
                for (double& l : row) {
                    l -= shift;
                }
            }
            const LogitLoss loss = reference::load_balance(rule, low, counts, 20);
            CHECK(loss.value > 1);
            CHECK(loss.value > 0.9 * before);
            for (const Vector& row : loss.d_logits) {
                CHECK(moe_test::all_finite(row));
            }
        }
    }
}

TEST_CASE("micro-batches: the parts of a global batch add up, by value and by gradient", "[reference]") {
    Numbers draw(11);
    const std::vector<Vector> logits = random_logits(draw, 12);
    const Vector counts = reference::counts_of(choices_of(logits), n_experts);
    const LogitLoss whole = reference::load_balance({.top_k = 2}, logits, counts, 12);
    double sum = 0;
    for (std::ptrdiff_t part = 0; part < 12; part += 4) {
        const std::vector<Vector> micro(logits.begin() + part, logits.begin() + part + 4);
        const LogitLoss of_part = reference::load_balance({.top_k = 2}, micro, counts, 12);
        sum += of_part.value;
        CHECK(of_part.d_logits[1] == whole.d_logits[static_cast<std::size_t>(part) + 1]);
    }
    CHECK(std::abs(sum - whole.value) < 1e-14);
}

TEST_CASE("layers that lean to opposite sides: pooled they look balanced, by themselves not", "[reference]") {
    const std::vector<Vector> left(8, Vector{9, 0});
    const std::vector<Vector> right(8, Vector{0, 9});
    const std::vector<Choice> to_0(8, Choice{{0}, {1}});
    const std::vector<Choice> to_1(8, Choice{{1}, {1}});
    const double pooled = reference::pooled_load_balance({left, right}, {to_0, to_1}).value;
    CHECK(std::abs(pooled - 1) < 1e-14);
    const double apart =
        reference::load_balance({}, left, {8, 0}, 8).value + reference::load_balance({}, right, {0, 8}, 8).value;
    CHECK(apart > 3.9);
    // at balance it is K
    const std::vector<Choice> both(8, Choice{{0, 1}, {1, 1}});
    CHECK(std::abs(reference::pooled_load_balance({left, right}, {both, both}).value - 2) < 1e-14);
}

TEST_CASE("counts: of dropped choices too, of none where there is none, or of first choices", "[reference]") {
    const std::vector<Choice> choices{{{2, moe::dropped(0)}, {1, 1}}, {{moe::no_expert, 1}, {1, 1}}, {{}, {}}};
    CHECK(reference::counts_of(choices, 3) == Vector{1, 1, 1});
    CHECK(reference::counts_of(choices, 3, true) == Vector{0, 0, 1});
    // GShard's own form, mean over e of n_e / T * mean P_e times E^2: the loss of first choices
    Numbers draw(12);
    const std::vector<Vector> logits = random_logits(draw, 6);
    const Vector first = reference::counts_of(choices_of(logits), n_experts, true);
    double gshard = 0;
    for (std::size_t e = 0; e < n_experts; ++e) {
        double mean = 0;
        for (const Vector& row : logits) {
            mean += reference::softmax(row)[e] / 6;
        }
        gshard += first[e] / 6 * mean / n_experts * n_experts * n_experts;
    }
    CHECK(std::abs(reference::load_balance({}, logits, first, 6).value - gshard) < 1e-14);
}

TEST_CASE("variation: 0 at balance, E - 1 where one expert has all", "[reference]") {
    CHECK(reference::squared_variation({2, 2, 2}, false).value == 0);
    CHECK(reference::squared_variation({0, 6, 0}, false).value == 2);
    CHECK(reference::squared_variation({0, 6, 0}, true).value == 3);
    CHECK(reference::squared_variation({0, 0}, false).d_sums == Vector{0, 0});
    CHECK(reference::squared_variation({3}, true).value == 0);
    const std::vector<Choice> choices{{{1, moe::dropped(0)}, {0.5, 9}}, {{0, moe::no_expert}, {0.5, 9}}};
    const reference::WeightLoss loss = reference::importance_loss(choices, 2, false);
    CHECK(loss.value == 0);
    CHECK(loss.d_weights == std::vector<Vector>{{0, 0}, {0, 0}});
}

TEST_CASE("values of z, entropy and L1, worked out by hand", "[reference]") {
    const double log4 = std::log(4.0);
    CHECK(std::abs(reference::z_loss({{0, 0, 0, 0}, {900, -900, 0, 0}}).value - (log4 * log4 + 810000) / 2) < 1e-9);
    CHECK(std::abs(reference::entropy_loss({{3, 3, 3, 3}}).value - log4) < 1e-15);
    const LogitLoss sure = reference::entropy_loss({{0, 2000}});
    CHECK(sure.value == 0);
    CHECK(sure.d_logits[0] == Vector{0, 0});
    // 2 / (1 * 2^2) * (2 * (1 + 3) + 1 * 5)
    CHECK(reference::l1_loss({{1, 5}, {3, -1}}, {2, 1}, 1, 2).value == 6.5);
    CHECK(reference::l1_loss({{1, 5}, {3, 0}}, {2, 1}, 1, 2).d_logits[1] == Vector{1, 0});
}

}  // namespace moe_test::losses_test
