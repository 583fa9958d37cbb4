#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "gating/gate_support.hpp"
#include "moe/core/half.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "moe/routing/sign_balancer.hpp"
#include "moe/routing/sparsity_controller.hpp"
#include "moe/train/losses/entropy.hpp"
#include "moe/train/losses/importance.hpp"
#include "moe/train/losses/l1_loss.hpp"
#include "moe/train/losses/noisy_load.hpp"
#include "moe/train/losses/pooled_load_balance.hpp"
#include "moe/train/losses/z_loss.hpp"
#include "support/catch.hpp"
#include "train/losses_support.hpp"

namespace moe_test::losses_bugs_test {

/// What went wrong with these losses and with balancers in public, a test for each kind.
namespace {

using moe::CountsFrom;
using moe_test::LossCase;

/// n tokens whose logits of the experts `busy` are `high`, of all others 0, and whose choices are `busy`.
template <class T>
void send_to(LossCase<T>& c, std::size_t n, std::size_t n_experts, const std::vector<moe::ExpertId>& busy, T high) {
    c.n_experts = c.n_logits = n_experts;
    c.n_slots = busy.size();
    c.logits.assign(n * n_experts, T(0));
    c.weights.assign(n * busy.size(), T(1) / static_cast<T>(busy.size()));
    c.choices.clear();
    for (std::size_t t = 0; t < n; ++t) {
        for (const moe::ExpertId e : busy) {
            c.logits[t * n_experts + static_cast<std::size_t>(e)] = high;
            c.choices.push_back(e);
        }
    }
    c.record();
}

/// Every token prefers k experts of its own, all in turn: perfect balance, each by its own logits.
template <class T>
void balance(LossCase<T>& c, std::size_t rounds, std::size_t n_experts, std::size_t k) {
    c.n_experts = c.n_logits = n_experts;
    c.n_slots = k;
    const std::size_t n = rounds * n_experts;
    c.logits.assign(n * n_experts, T(-2));
    c.weights.assign(n * k, T(1) / static_cast<T>(k));
    c.choices.clear();
    for (std::size_t t = 0; t < n; ++t) {
        for (std::size_t slot = 0; slot < k; ++slot) {
            const std::size_t e = (t + slot) % n_experts;
            c.logits[t * n_experts + e] = T(1.5);
            c.choices.push_back(static_cast<moe::ExpertId>(e));
        }
    }
    c.record();
}

bool is_about(double value, double expected) { return std::abs(value - expected) <= 1e-12 * (1 + expected); }

/// All losses of a case, one after the other: values, then the gradients of logits and weights.
template <class T>
std::vector<T> all_losses(LossCase<T>& c, double coefficient = 0.5, double scale = 1) {
    const int k = static_cast<int>(c.n_slots);
    std::vector<T> result;
    const auto take = [&](double value) {
        result.push_back(static_cast<T>(value));
        for (const std::vector<T>& part : {c.d_logits(), c.d_weights()}) {
            result.insert(result.end(), part.begin(), part.end());
        }
        c.record();
    };
    for (const CountsFrom from :
         {CountsFrom::choices, CountsFrom::plan, CountsFrom::first_choice, CountsFrom::scores}) {
        take(moe::add_load_balance(
            c.tape, {.coefficient = coefficient, .scale = scale, .top_k = k, .counts_from = from}, c.workspace));
    }
    take(moe::add_importance(c.tape, {.coefficient = coefficient, .scale = scale}, c.workspace));
    take(moe::add_z_loss(c.tape, {.coefficient = coefficient, .scale = scale}));
    take(moe::add_entropy(c.tape, {.coefficient = coefficient, .scale = scale}));
    take(moe::add_l1(c.tape, {.coefficient = coefficient, .scale = scale, .top_k = k}, c.workspace));
    return result;
}

}  // namespace

TEST_CASE("softmax twice: saturated logits on one expert cost all that an imbalance can", "[losses]") {
    LossCase<float> c;
    send_to<float>(c, 5, 8, {3}, 40);
    CHECK(is_about(moe::add_load_balance(c.tape, {.top_k = 1}, c.workspace), 8));  // a second softmax: 2.2 at most
    send_to<float>(c, 5, 8, {3, 5}, 40);
    CHECK(is_about(moe::add_load_balance(c.tape, {.top_k = 2}, c.workspace), 4));
}

TEMPLATE_TEST_CASE("padding counted: garbage behind the tokens changes no bit of any loss", "[losses]", float, double) {
    LossCase<TestType> c(13, 7, 3, 1);
    const std::vector<TestType> expected = all_losses(c);
    LossCase<TestType> padded(13, 7, 3, 1);
    padded.valid.assign(13, 1);
    padded.valid.insert(padded.valid.end(), 4, 0);
    padded.logits.resize(17 * 7, std::numeric_limits<TestType>::quiet_NaN());
    padded.weights.resize(17 * 3, std::numeric_limits<TestType>::quiet_NaN());
    padded.choices.resize(17 * 3, 2);
    padded.record();
    std::vector<TestType> actual = all_losses(padded);
    // without the rows of padding, which are 0
    for (std::size_t at = 0; at < actual.size();) {
        const auto rows = actual.begin() + static_cast<std::ptrdiff_t>(at + 1 + 13 * 7);
        REQUIRE(std::all_of(rows, rows + 4 * 7, [](TestType d) { return d == 0; }));
        actual.erase(rows, rows + 4 * 7);
        at += 1 + 13 * 7 + 13 * 3;
    }
    CHECK(moe_test::same_bits(actual, expected));
}

TEST_CASE("layers pooled: two layers may cancel out in the pooled loss, never in a sum of losses", "[losses]") {
    LossCase<double> a, b;
    send_to<double>(a, 6, 2, {0}, 3);
    send_to<double>(b, 6, 2, {1}, 3);
    const double sum = moe::add_load_balance(a.tape, {.top_k = 1}, a.workspace) +
                       moe::add_load_balance(b.tape, {.top_k = 1}, b.workspace);
    CHECK(sum > 3.8);
    a.record();
    b.record();
    CHECK(is_about(moe::add_pooled_load_balance(std::vector{&a.tape, &b.tape}, {}, a.workspace), 1));
    CHECK(moe_test::difference(a.d_logits(), std::vector<double>(12, 0.0), 1e-15).empty());  // and nothing is learned
}

TEMPLATE_TEST_CASE("coefficient unused: doubling it doubles a gradient exactly, 0 leaves it alone", "[losses]", float,
                   double) {
    LossCase<TestType> c(9, 6, 2, 4);
    const std::vector<TestType> once = all_losses(c, 0.3);
    const std::vector<TestType> twice = all_losses(c, 0.6);
    const std::vector<TestType> by_scale = all_losses(c, 0.3, 2);
    const std::vector<TestType> value_alone = all_losses(c, 0);
    CHECK(moe_test::same_bits(twice, by_scale));
    const std::size_t block = 1 + 9 * 6 + 9 * 2;
    REQUIRE(once.size() == 8 * block);
    std::size_t moved = 0;
    for (std::size_t i = 0; i < once.size(); ++i) {
        const bool is_value = i % block == 0;
        REQUIRE(twice[i] == (is_value ? once[i] : 2 * once[i]));
        REQUIRE(value_alone[i] == (is_value ? once[i] : TestType(0)));
        moved += !is_value && once[i] != 0 ? 1U : 0U;
    }
    CHECK(moved > 7 * 9);
}

TEMPLATE_TEST_CASE("not normalised over micro-batches: M equal ones at 1/M are the whole batch", "[losses]", float,
                   double) {
    LossCase<TestType> part(6, 5, 2, 7);
    for (const std::size_t m : {1U, 2U, 4U}) {
        LossCase<TestType> whole(6 * m, 5, 2, 8);
        for (std::size_t i = 0; i < m; ++i) {
            std::copy(part.logits.begin(), part.logits.end(),
                      whole.logits.begin() + static_cast<std::ptrdiff_t>(i * part.logits.size()));
        }
        whole.choose();
        whole.record();
        part.record();
        const double expected = moe::add_load_balance(whole.tape, {.coefficient = 1e-2, .top_k = 2}, whole.workspace);
        const double value = moe::add_load_balance(
            part.tape, {.coefficient = 1e-2, .scale = 1 / static_cast<double>(m), .top_k = 2}, part.workspace);
        CHECK(is_about(value, expected));
        std::vector<TestType> repeated;
        for (std::size_t i = 0; i < m; ++i) {
            const std::vector<TestType> gradient = part.d_logits();
            repeated.insert(repeated.end(), gradient.begin(), gradient.end());
        }
        CHECK(moe_test::nmse(repeated, whole.d_logits()) <= 1e-13);
    }
}

TEST_CASE("micro-batches of unequal loads: with the counts of all they are the whole batch, in two sweeps",
          "[losses]") {
    LossCase<double> whole(29, 6, 2, 11);
    whole.valid.assign(29, 1);
    whole.valid[3] = whole.valid[20] = 0;
    whole.drop(5);
    whole.record();
    const double expected = moe::add_load_balance(whole.tape, {.top_k = 2}, whole.workspace);
    std::vector<LossCase<double>> parts(3);
    const std::size_t ends[] = {0, 4, 5, 29};
    moe::RoutingCounts counts;
    counts.reset(6);
    for (std::size_t i = 0; i < 3; ++i) {
        const auto cut = [&](auto& from, auto& to, std::size_t width) {
            to.assign(from.begin() + static_cast<std::ptrdiff_t>(ends[i] * width),
                      from.begin() + static_cast<std::ptrdiff_t>(ends[i + 1] * width));
        };
        parts[i].n_experts = parts[i].n_logits = 6;
        parts[i].n_slots = 2;
        cut(whole.logits, parts[i].logits, 6);
        cut(whole.choices, parts[i].choices, 2);
        cut(whole.weights, parts[i].weights, 2);
        cut(whole.valid, parts[i].valid, 1);
        parts[i].record();
        counts.add(parts[i].tape);
    }
    CHECK(counts.n_tokens == 27);
    double value = 0;
    std::vector<double> gradients;
    for (LossCase<double>& part : parts) {
        value += moe::add_load_balance(part.tape, {.top_k = 2, .counts = counts.counts, .n_tokens = counts.n_tokens},
                                       part.workspace);
        const std::vector<double> d = part.d_logits();
        gradients.insert(gradients.end(), d.begin(), d.end());
    }
    CHECK(is_about(value, expected));
    CHECK(moe_test::same_bits(gradients, whole.d_logits()));
}

TEST_CASE("P over the top k only: against closed form, and an imbalance costs more than balance", "[losses]") {
    LossCase<double> c;
    send_to<double>(c, 4, 5, {1, 2}, 1);
    // n = (0, 4, 4, 0, 0), P of the two e / (2 e + 3): 5 / (2 16) * 2 * 4 * 4 P
    const double p = std::exp(1.0) / (2 * std::exp(1.0) + 3);
    const double value = moe::add_load_balance(c.tape, {.top_k = 2}, c.workspace);
    CHECK(is_about(value, 5 * p));  // P over the two: 2.5, whatever the others have
    const std::vector<double> d = c.d_logits();
    CHECK(std::abs(d[0] + 5.0 / 32 * p * std::exp(-1.0) * 8 * p) <= 1e-15);
    CHECK(std::abs(d[1] - 5.0 / 32 * p * (4 - 8 * p)) <= 1e-15);
    balance(c, 2, 5, 2);
    CHECK(value > moe::add_load_balance(c.tape, {.top_k = 2}, c.workspace) + 0.1);
}

TEST_CASE("counts ignore groups and bias: those of the choices are the plan's, those of scores are told apart",
          "[losses]") {
    LossCase<float> c(31, 8, 2, 3);
    const std::vector<float> bias{0, 0, 3, 0, 0, 3, 0, 0};
    const moe::TokenChoice<moe::Sigmoid> gate{.top_k = 2, .selection_bias = bias, .groups = {.n_groups = 4, .kept = 2}};
    std::vector<moe::ExpertId> unbiased = c.choices;
    c.choices.clear();
    for (std::size_t t = 0; t < 31; ++t) {
        const auto row = c.tape.logits().row_span(t);
        const auto chosen = moe_test::choose<float>(gate, std::vector<float>(row.begin(), row.end()));
        c.choices.insert(c.choices.end(), chosen.experts.begin(), chosen.experts.end());
    }
    c.record();
    moe::RoutingCounts choices, plan, scores;
    for (moe::RoutingCounts* counts : {&choices, &plan, &scores}) {
        counts->reset(8);
    }
    choices.add(c.tape);
    plan.add(c.tape, CountsFrom::plan);
    scores.add(c.tape, CountsFrom::scores, 2);
    CHECK(choices.counts == plan.counts);
    std::vector<std::uint64_t> by_hand(8, 0);
    for (const moe::ExpertId e : unbiased) {
        ++by_hand[static_cast<std::size_t>(e)];
    }
    CHECK(scores.counts == by_hand);
    CHECK(scores.counts != choices.counts);
    CHECK(choices.counts[2] + choices.counts[5] > 25);
    const double of_choices = moe::add_load_balance(c.tape, {.top_k = 2}, c.workspace);
    const double of_scores =
        moe::add_load_balance(c.tape, {.top_k = 2, .counts_from = CountsFrom::scores}, c.workspace);
    CHECK(of_choices != of_scores);
}

TEST_CASE("counts after capacity: what is dropped still counts", "[losses]") {
    LossCase<double> c(17, 4, 2, 9);
    const double before = moe::add_load_balance(c.tape, {.top_k = 2}, c.workspace);
    const std::vector<double> gradient = c.d_logits();
    const double of_plan = moe::add_load_balance(c.tape, {.top_k = 2, .counts_from = CountsFrom::plan}, c.workspace);
    CHECK(of_plan == before);
    for (std::size_t i = 0; i < c.choices.size(); i += 3) {
        c.choices[i] = moe::dropped(c.choices[i]);
    }
    c.record();
    CHECK(moe::add_load_balance(c.tape, {.top_k = 2}, c.workspace) == before);
    CHECK(moe_test::same_bits(c.d_logits(), gradient));
    CHECK(moe::add_load_balance(c.tape, {.top_k = 2, .counts_from = CountsFrom::plan}, c.workspace) < 0.8 * before);
}

TEMPLATE_TEST_CASE("epsilon lets small scores cheat: with 0 nothing is gained by logits of -60 or -800", "[losses]",
                   float, double) {
    for (const moe::ScoreKind score : {moe::ScoreKind::sigmoid, moe::ScoreKind::sqrt_softplus}) {
        LossCase<TestType> c;
        send_to<TestType>(c, 6, 4, {2}, 1);
        const double at_zero = moe::add_load_balance(c.tape, {.top_k = 1, .score = score}, c.workspace);
        for (const TestType shift : {TestType(-60), TestType(-800)}) {
            send_to<TestType>(c, 6, 4, {2}, 1);
            for (TestType& l : c.logits) {
                l += shift;
            }
            c.record();
            const double shifted = moe::add_load_balance(c.tape, {.top_k = 1, .score = score}, c.workspace);
            CHECK(shifted >= at_zero);
            CHECK(shifted < 4);
            double row = 0;
            for (std::size_t e = 0; e < 4; ++e) {
                row += std::abs(static_cast<double>(c.d_logits()[e]));
            }
            CHECK(row > 1e-3);  // it still pushes
            c.record();
            const double cheated =
                moe::add_load_balance(c.tape, {.top_k = 1, .score = score, .epsilon = 1e-9}, c.workspace);
            CHECK(cheated < 0.01);
        }
    }
}

TEST_CASE("first choices only: that is another loss, told apart at top 2", "[losses]") {
    LossCase<double> c;
    send_to<double>(c, 3, 4, {0, 1}, 2);
    for (std::size_t t = 0; t < 3; ++t) {
        c.logits[t * 4] = 3;  // first 0, then 1
    }
    c.record();
    const double sum = std::exp(3.0) + std::exp(2.0) + 2;
    const double both = moe::add_load_balance(c.tape, {.top_k = 2}, c.workspace);
    const double first = moe::add_load_balance(c.tape, {.counts_from = CountsFrom::first_choice}, c.workspace);
    CHECK(is_about(both, 4.0 / 2 * (std::exp(3.0) + std::exp(2.0)) / sum));
    CHECK(is_about(first, 4 * std::exp(3.0) / sum));
}

TEMPLATE_TEST_CASE("value at balance: as documented, for every convention", "[losses]", float, double) {
    for (const std::size_t k : {1U, 2U, 3U}) {
        LossCase<TestType> c;
        balance(c, 4, 6, k);
        const int top_k = static_cast<int>(k);
        const auto value = [&](moe::LoadBalance options) {
            options.top_k = top_k;
            return moe::add_load_balance(c.tape, options, c.workspace);
        };
        CHECK(is_about(value({}), 1));
        CHECK(is_about(value({.counts_from = CountsFrom::plan}), 1));
        CHECK(is_about(value({.counts_from = CountsFrom::scores}), 1));
        CHECK(is_about(value({.counts_from = CountsFrom::first_choice}), 1));
        CHECK(is_about(value({.score = moe::ScoreKind::sigmoid}), 1));
        CHECK(is_about(value({.score = moe::ScoreKind::sqrt_softplus}), 1));
        const std::vector<std::size_t> lengths{6, 12, 6};
        CHECK(is_about(value({.lengths = lengths}), 1));
        CHECK(is_about(moe::add_pooled_load_balance(std::vector{&c.tape}, {}, c.workspace), static_cast<double>(k)));
        CHECK(moe::add_importance(c.tape, {}, c.workspace) <= 1e-12);
        CHECK(is_about(moe::add_l1(c.tape, {.top_k = top_k}, c.workspace), 1.5 * static_cast<double>(k)));
        send_to<TestType>(c, 5, 6, {0, 1, 2, 3, 4, 5}, 0);
        CHECK(is_about(moe::add_z_loss(c.tape, {}), std::log(6.0) * std::log(6.0)));
        CHECK(is_about(moe::add_entropy(c.tape, {}), std::log(6.0)));
        send_to<TestType>(c, 5, 6, {2}, 1);
        CHECK(is_about(moe::add_importance(c.tape, {}, c.workspace), 5));
        CHECK(is_about(moe::add_importance(c.tape, {.unbiased = true}, c.workspace), 6));
    }
}

TEST_CASE("bias in 16 bits: steps of 1e-3 from 1 arrive in ours, and would not in bfloat16", "[losses][balancer]") {
    moe::SignBalancer balancer;
    balancer.bias = {1.0F, 1.0F};
    const std::vector<std::uint64_t> counts{3, 1};
    moe::bfloat16 narrow = moe::to_bfloat16(1.0F);
    for (int step = 0; step < 100; ++step) {
        balancer.update(counts);
        narrow = moe::to_bfloat16(moe::to_float(narrow) + 1e-3F);
    }
    CHECK(std::abs(static_cast<double>(balancer.bias[0]) - 0.9) <= 1e-5);
    CHECK(std::abs(static_cast<double>(balancer.bias[1]) - 1.1) <= 1e-5);
    CHECK(moe::to_float(narrow) == 1.0F);
}

TEST_CASE("counters in few bits: 2^24 + 1 tokens differ from 2^24, for balancers and losses", "[losses][balancer]") {
    constexpr std::uint64_t many = std::uint64_t{1} << 24U;
    REQUIRE(static_cast<float>(many + 1) == static_cast<float>(many));
    LossCase<float> c;
    send_to<float>(c, 1, 2, {1}, 0);
    moe::RoutingCounts counts;
    counts.reset(2);
    counts.counts = {many, many};
    counts.n_tokens = 2 * many;
    counts.add(c.tape);
    CHECK(counts.counts == std::vector<std::uint64_t>{many, many + 1});
    CHECK(counts.n_tokens == 2 * many + 1);
    CHECK(counts.total() == 2 * many + 1);
    moe::SignBalancer balancer{.rate = 0.5};
    balancer.reset(2);
    balancer.update(counts.counts);
    CHECK(balancer.bias == std::vector<float>{0.5F, -0.5F});
    moe::SparsityController controller{.lambda = 1, .alpha = 2};
    CHECK(controller.update(counts.total(), counts.n_tokens) == 1);  // one a token, as wanted
    CHECK(controller.update(counts.total() + 1, counts.n_tokens) == 2);
    (void)moe::add_load_balance(c.tape, {.top_k = 1, .counts = counts.counts, .n_tokens = counts.n_tokens},
                                c.workspace);
    CHECK(c.d_logits()[0] < 0);  // E / T^2 * 1/2 * -1/2
    CHECK(c.d_logits()[1] == -c.d_logits()[0]);
}

}  // namespace moe_test::losses_bugs_test
