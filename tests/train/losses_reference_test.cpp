#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "moe/reference/backward/loss/logits.hpp"
#include "moe/reference/backward/loss/orthogonality.hpp"
#include "moe/reference/backward/loss/variation.hpp"
#include "moe/train/losses/entropy.hpp"
#include "moe/train/losses/importance.hpp"
#include "moe/train/losses/l1_loss.hpp"
#include "moe/train/losses/noisy_load.hpp"
#include "moe/train/losses/orthogonality.hpp"
#include "moe/train/losses/pooled_load_balance.hpp"
#include "support/catch.hpp"
#include "train/losses_support.hpp"

namespace moe_test::losses_reference_test {

/// Every loss against its definition, on random batches with padding, drops and empty slots.
namespace {

namespace reference = moe::reference;
using moe_test::Draw;
using moe_test::gradient_difference;
using moe_test::LossCase;

constexpr double coefficient = 0.3;
constexpr double scale = 0.7;
constexpr double factor = coefficient * scale;

/// Values are sums in double of what is in the tape.
bool close(double value, double expected) { return std::abs(value - expected) <= 1e-12 * (1 + std::abs(expected)); }

/// Random sizes, one expert and one token among them, with padding in half of the cases.
template <class T>
struct RandomCase : LossCase<T> {
    explicit RandomCase(std::uint64_t seed) : RandomCase(Draw(seed), seed) {}

private:
    RandomCase(Draw draw, std::uint64_t seed)
        : RandomCase(draw, seed, seed % 5 == 0 ? std::size_t{1} : draw.size(2, 17)) {}
    RandomCase(Draw draw, std::uint64_t seed, std::size_t experts)
        : LossCase<T>(draw.size(1, 23), experts, draw.size(1, std::min<std::size_t>(experts, 4)), seed) {
        if (seed % 2 == 0) {
            for (std::size_t t = 0; t < this->n_tokens(); ++t) {
                this->valid.push_back(draw.size(0, 3) == 0 ? 0 : 1);
            }
        }
        for (T& weight : this->weights) {
            weight = std::abs(weight) + T(0.1);
        }
        this->drop(seed);
        this->record();
    }
};

template <class T>
reference::Vector counts_of_scores(const LossCase<T>& c) {
    reference::Vector counts(c.n_experts, 0.0);
    for (const reference::Vector& row : c.reference_logits()) {
        for (const moe::ExpertId e : reference::top_k(row, c.n_slots)) {
            counts[static_cast<std::size_t>(e)] += 1;
        }
    }
    return counts;
}

/// Without those dropped.
template <class T>
reference::Vector counts_of_plan(const LossCase<T>& c) {
    std::vector<reference::Choice> choices = c.reference_choices();
    for (reference::Choice& choice : choices) {
        for (moe::ExpertId& e : choice.experts) {
            e = e < 0 ? moe::no_expert : e;
        }
    }
    return reference::counts_of(choices, c.n_experts);
}

}  // namespace

TEMPLATE_TEST_CASE("load balance: every score, source of counts and epsilon", "[losses]", float, double) {
    const moe::ScoreKind kinds[] = {moe::ScoreKind::softmax, moe::ScoreKind::sigmoid, moe::ScoreKind::sqrt_softplus};
    const reference::Score scores[] = {reference::Score::softmax, reference::Score::sigmoid,
                                       reference::Score::sqrt_softplus};
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        RandomCase<TestType> c(seed);
        for (std::size_t s = 0; s < 3; ++s) {
            for (const moe::CountsFrom from : {moe::CountsFrom::choices, moe::CountsFrom::plan,
                                               moe::CountsFrom::first_choice, moe::CountsFrom::scores}) {
                INFO("seed " << seed << ", score " << s << ", counts from " << static_cast<int>(from));
                const bool first_only = from == moe::CountsFrom::first_choice;
                reference::Vector counts = reference::counts_of(c.reference_choices(), c.n_experts, first_only);
                if (from == moe::CountsFrom::plan) {
                    counts = counts_of_plan(c);
                } else if (from == moe::CountsFrom::scores) {
                    counts = counts_of_scores(c);
                }
                const reference::LoadBalance rule{first_only ? 1.0 : static_cast<double>(c.n_slots), scores[s],
                                                  seed % 3 == 0 ? 0.5 : 0.0};
                const auto logits = c.reference_logits();
                const auto expected = reference::load_balance(rule, logits, counts, static_cast<double>(logits.size()));
                c.record();
                const double value = moe::add_load_balance(c.tape,
                                                           {.coefficient = coefficient,
                                                            .scale = scale,
                                                            .top_k = static_cast<int>(c.n_slots),
                                                            .score = kinds[s],
                                                            .epsilon = rule.epsilon,
                                                            .counts_from = from},
                                                           c.workspace);
                REQUIRE(close(value, expected.value));
                REQUIRE(gradient_difference(c, expected.d_logits, factor).empty());
            }
        }
    }
}

TEMPLATE_TEST_CASE("load balance by sequence: the mean over sequences, empty ones among them", "[losses]", float,
                   double) {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        RandomCase<TestType> c(seed);
        Draw draw(seed + 1000);
        std::vector<std::size_t> rows, tokens;
        for (std::size_t left = c.n_tokens(), first = 0; left > 0;) {
            const std::size_t length = draw.size(0, left);
            std::size_t n_valid = 0;
            for (std::size_t t = first; t < first + length; ++t) {
                n_valid += c.tape.is_valid(t) ? 1U : 0U;
            }
            rows.push_back(length);
            tokens.push_back(n_valid);
            first += length;
            left -= length;
        }
        const auto expected = reference::sequence_load_balance({.top_k = static_cast<double>(c.n_slots)},
                                                               c.reference_logits(), c.reference_choices(), tokens);
        const double value = moe::add_load_balance(
            c.tape, {.coefficient = coefficient, .scale = scale, .top_k = static_cast<int>(c.n_slots), .lengths = rows},
            c.workspace);
        INFO("seed " << seed);
        // the definition divides by T^2 = 0 for a sequence of no tokens, and multiplies with none
        REQUIRE(close(value, expected.value));
        REQUIRE(gradient_difference(c, expected.d_logits, factor).empty());
    }
}

TEMPLATE_TEST_CASE("pooled load balance: all layers as one batch", "[losses]", float, double) {
    for (std::uint64_t seed = 1; seed < 20; ++seed) {
        LossCase<TestType> a(7, 5, 2, seed), b(4, 5, 2, seed + 100), c(11, 5, 2, seed + 200);
        b.valid = {1, 0, 1, 1};
        b.record();
        std::vector<std::vector<reference::Vector>> logits;
        std::vector<std::vector<reference::Choice>> choices;
        for (const LossCase<TestType>* layer : {&a, &b, &c}) {
            logits.push_back(layer->reference_logits());
            choices.push_back(layer->reference_choices());
        }
        const auto expected = reference::pooled_load_balance(logits, choices);
        const double value = moe::add_pooled_load_balance(std::vector{&a.tape, &b.tape, &c.tape},
                                                          {.coefficient = coefficient, .scale = scale}, a.workspace);
        REQUIRE(close(value, expected.value));
        auto row = expected.d_logits.begin();
        for (LossCase<TestType>* layer : {&a, &b, &c}) {
            const auto end = row + static_cast<std::ptrdiff_t>(layer->reference_logits().size());
            REQUIRE(gradient_difference(*layer, {row, end}, factor).empty());
            row = end;
        }
    }
}

TEMPLATE_TEST_CASE("importance: of the weights of the plan, in its order", "[losses]", float, double) {
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        RandomCase<TestType> c(seed);
        for (const bool unbiased : {false, true}) {
            c.record();
            const auto choices = c.reference_choices();
            const auto expected = reference::importance_loss(choices, c.n_experts, unbiased);
            reference::Vector by_assignment;
            double sum = 0;
            for (std::size_t t = 0; t < choices.size(); ++t) {
                for (std::size_t slot = 0; slot < choices[t].experts.size(); ++slot) {
                    if (choices[t].experts[slot] >= 0) {
                        by_assignment.push_back(factor * expected.d_weights[t][slot]);
                        sum += choices[t].weights[slot];
                    }
                }
            }
            const double value = moe::add_importance(
                c.tape, {.coefficient = coefficient, .scale = scale, .unbiased = unbiased}, c.workspace);
            INFO("seed " << seed);
            REQUIRE(close(value, expected.value));
            // a gradient is the difference of two terms of this size, E / (E - 1) <= 2
            const double terms = factor * 4 * static_cast<double>(c.n_experts * c.n_experts) / sum;
            const double epsilon = static_cast<double>(std::numeric_limits<TestType>::epsilon());
            REQUIRE((by_assignment.empty() ||
                     moe_test::difference(c.d_weights(), by_assignment, (epsilon + 1e-12) * terms).empty()));
        }
    }
}

TEMPLATE_TEST_CASE("load: chances of a noisy top k, through the threshold or not", "[losses]", float, double) {
    for (std::uint64_t seed = 1; seed < 60; ++seed) {
        Draw draw(seed);
        LossCase<TestType> c;
        c.n_experts = seed % 7 == 0 ? 1 : draw.size(2, 9);
        c.n_slots = draw.size(1, c.n_experts);
        c.n_logits = 2 * c.n_experts;
        const std::size_t n = draw.size(1, 12);
        c.logits = moe_test::random_elements<TestType>(draw, n * c.n_logits, 1.5);
        c.weights.assign(n * c.n_slots, TestType(0.5));
        c.choose();
        for (std::size_t t = 0; t < n; ++t) {
            c.valid.push_back(draw.size(0, 4) == 0 ? 0 : 1);
            c.positions.push_back(100 - 3 * t);
        }
        const moe::NoisyTopK gate{.top_k = static_cast<int>(c.n_slots), .seed = seed, .step = 5};
        c.record();
        std::vector<reference::Vector> noisy;
        for (std::size_t t = 0; t < n; ++t) {
            std::vector<TestType> h(c.n_experts);
            gate.add_noise<TestType>(c.tape.logits().row_span(t), c.positions[t], h);
            if (c.tape.is_valid(t)) {
                noisy.emplace_back(h.begin(), h.end());  // rounded as the gate compares them
            }
        }
        if (noisy.empty()) {
            continue;
        }
        for (const bool constant : {false, true}) {
            c.record();
            const auto expected = reference::load_loss(c.reference_logits(), noisy, c.n_slots, seed % 2 == 0, constant);
            const double value = moe::add_load(c.tape, gate,
                                               {.coefficient = coefficient,
                                                .scale = scale,
                                                .unbiased = seed % 2 == 0,
                                                .threshold_is_constant = constant},
                                               c.workspace);
            INFO("seed " << seed);
            REQUIRE(close(value, expected.value));
            // the definition finds the noise as (H - l) / s, which has lost what rounding H lost: |H| / s is below 80
            const double relative = 80 * static_cast<double>(std::numeric_limits<TestType>::epsilon());
            REQUIRE(gradient_difference(c, expected.d_logits, factor, relative + 1e-11).empty());
        }
    }
}

TEMPLATE_TEST_CASE("z, entropy and L1 losses", "[losses]", float, double) {
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        RandomCase<TestType> c(seed);
        if (seed % 7 == 1) {
            c.logits[0] = -std::numeric_limits<TestType>::infinity();  // an expert that was masked
            c.logits[0] = c.n_experts == 1 ? TestType(0) : c.logits[0];
            c.record();
        }
        INFO("seed " << seed);
        const auto logits = c.reference_logits();
        const auto z = reference::z_loss(logits);
        REQUIRE(close(moe::add_z_loss(c.tape, {.coefficient = coefficient, .scale = scale}), z.value));
        REQUIRE(gradient_difference(c, z.d_logits, factor).empty());
        c.record();
        const auto entropy = reference::entropy_loss(logits);
        REQUIRE(close(moe::add_entropy(c.tape, {.coefficient = coefficient, .scale = scale}), entropy.value));
        REQUIRE(gradient_difference(c, entropy.d_logits, factor).empty());
        c.record();
        reference::Vector positive(c.n_experts, 0.0);
        for (const reference::Vector& row : logits) {
            for (std::size_t e = 0; e < row.size(); ++e) {
                positive[e] += row[e] > 0 ? 1 : 0;
            }
        }
        const auto l1 = reference::l1_loss(logits, positive, 3, static_cast<double>(logits.size()));
        REQUIRE(close(moe::add_l1(c.tape, {.coefficient = coefficient, .scale = scale, .top_k = 3}, c.workspace),
                      l1.value));
        REQUIRE(gradient_difference(c, l1.d_logits, factor).empty());
    }
}

TEMPLATE_TEST_CASE("orthogonality of a router in any storage order, added to what is there", "[losses]", float,
                   double) {
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
        Draw draw(seed);
        const std::size_t n = draw.size(1, 9);
        const std::size_t d = draw.size(1, 13);
        const auto router = moe_test::random_elements<TestType>(draw, n * d, 1);
        const auto before = moe_test::random_elements<TestType>(draw, n * d, 1);
        moe::Workspace workspace;
        for (const bool absolute : {false, true}) {
            const auto expected =
                reference::orthogonality_loss({router.begin(), router.end()}, n,
                                              absolute ? reference::Distance::absolute : reference::Distance::squares);
            std::vector<TestType> gradient = before;
            const double value = moe::add_orthogonality(
                moe::stacked(router.data(), 1, n, d), moe::stacked_gradients(gradient.data(), 1, n, d),
                {.coefficient = coefficient,
                 .norm = absolute ? moe::OrthogonalityNorm::absolute : moe::OrthogonalityNorm::squares},
                workspace);
            INFO("seed " << seed << ", " << n << " x " << d);
            REQUIRE(close(value, expected.value));
            reference::Vector sum;
            double greatest = 1;
            for (std::size_t i = 0; i < gradient.size(); ++i) {
                sum.push_back(static_cast<double>(before[i]) + coefficient * expected.d_router[i]);
                greatest = std::max(greatest, std::abs(sum[i]) + std::abs(expected.d_router[i]));
            }
            const double epsilon = static_cast<double>(std::numeric_limits<TestType>::epsilon());
            REQUIRE(moe_test::difference(gradient, sum, (epsilon + 1e-13) * greatest).empty());
            // (d, n), as a file may have it: the same numbers, so the same bits
            std::vector<TestType> transposed(n * d), there(n * d, TestType(0)), here(n * d, TestType(0));
            for (std::size_t i = 0; i < n * d; ++i) {
                transposed[i % d * n + i / d] = router[i];
            }
            const moe::Orthogonality options{.norm = moe::OrthogonalityNorm::squares};
            const double same = moe::add_orthogonality(
                moe::transpose(moe::stacked(std::as_const(transposed).data(), 1, d, n)),
                moe::transpose(moe::stacked_gradients(there.data(), 1, d, n)), options, workspace);
            REQUIRE(same == moe::add_orthogonality(moe::stacked(router.data(), 1, n, d),
                                                   moe::stacked_gradients(here.data(), 1, n, d), options, workspace));
            for (std::size_t i = 0; i < n * d; ++i) {
                REQUIRE(there[i % d * n + i / d] == here[i]);
            }
        }
    }
}

TEMPLATE_TEST_CASE("no tokens, and padding alone, have the loss 0 and no gradient", "[losses]", float, double) {
    LossCase<TestType> none(0, 4, 2, 1);
    LossCase<TestType> padding(3, 4, 2, 2);
    padding.valid = {0, 0, 0};
    std::fill(padding.logits.begin(), padding.logits.end(), std::numeric_limits<TestType>::quiet_NaN());
    padding.record();
    const std::vector<std::uint64_t> counts{5, 0, 2, 1};
    for (LossCase<TestType>* c : {&none, &padding}) {
        auto& tape = c->tape;
        CHECK(moe::add_load_balance(tape, {.top_k = 2}, c->workspace) == 0);
        CHECK(moe::add_load_balance(tape, {.top_k = 2, .counts = counts, .n_tokens = 4}, c->workspace) == 0);
        CHECK(moe::add_pooled_load_balance(std::vector{&tape}, {}, c->workspace) == 0);
        CHECK(moe::add_importance(tape, {}, c->workspace) == 0);
        CHECK(moe::add_z_loss(tape, {}) == 0);
        CHECK(moe::add_entropy(tape, {}) == 0);
        CHECK(moe::add_l1(tape, {.top_k = 2}, c->workspace) == 0);
        CHECK(c->d_logits() == std::vector<TestType>(c->logits.size(), TestType(0)));
    }
    CHECK(moe::add_pooled_load_balance(std::vector<moe::Tape<TestType>*>{}, {}, none.workspace) == 0);
    moe::RoutingCounts of_padding;  // a global batch of padding alone
    of_padding.reset(4);
    of_padding.add(padding.tape);
    const moe::LoadBalance global{.top_k = 2, .counts = of_padding.counts, .n_tokens = of_padding.n_tokens};
    CHECK(moe::add_load_balance(padding.tape, global, padding.workspace) == 0);
}

}  // namespace moe_test::losses_reference_test
