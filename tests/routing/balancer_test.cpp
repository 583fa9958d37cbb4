// The balancers: hand-computed steps, what they refuse, and that loads get equal on a skewed router.

#include <moe/gating/strategies/token_choice.hpp>
#include <moe/routing/expert_counts.hpp>
#include <moe/routing/quantile_balancer.hpp>
#include <moe/routing/sign_balancer.hpp>
#include <moe/routing/sparsity_controller.hpp>
#include <moe/routing/threshold_balancer.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gating/gate_support.hpp"
#include "gating/random_logits.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::balancer_test {

using moe_test::Dice;
using moe_test::difference;
using moe_test::message_of;
using Counts = std::vector<std::uint64_t>;
using Floats = std::vector<float>;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float inf = std::numeric_limits<float>::infinity();

moe::MatrixView<const float> matrix(const Floats& values, std::size_t cols) {
    return moe::view(values.data(), values.size() / cols, cols);
}

/// Scores in (0, 1) of a router that prefers its first experts by far.
Floats skewed_scores(std::uint64_t seed, std::size_t n_tokens, std::size_t n_experts) {
    Dice dice{seed};
    Floats scores(n_tokens * n_experts);
    for (std::size_t i = 0; i < scores.size(); ++i) {
        const double preference = 3.0 * static_cast<double>(i % n_experts) / static_cast<double>(n_experts);
        scores[i] = static_cast<float>(1 / (1 + std::exp(preference - static_cast<double>(dice.uniform(-1, 1)))));
    }
    return scores;
}

/// How many of the tokens take each expert.
Counts loads(const Floats& scores, std::size_t n_experts, int top_k, const Floats& bias) {
    const moe::TokenChoice<moe::Identity> gate{.top_k = top_k, .selection_bias = bias};
    Counts counts(n_experts, 0);
    for (auto row = scores.begin(); row != scores.end(); row += static_cast<std::ptrdiff_t>(n_experts)) {
        const Floats logits(row, row + static_cast<std::ptrdiff_t>(n_experts));
        for (const moe::ExpertId e : moe_test::choose<float>(gate, logits).experts) {
            ++counts[static_cast<std::size_t>(e)];
        }
    }
    return counts;
}

/// The greatest load above the mean, relative to the mean.
double violation(const Counts& counts) {
    double sum = 0;
    for (const std::uint64_t count : counts) {
        sum += static_cast<double>(count);
    }
    const auto most = static_cast<double>(*std::max_element(counts.begin(), counts.end()));
    return most * static_cast<double>(counts.size()) / sum - 1;
}

}  // namespace

TEST_CASE("counts of a plan are added to those before", "[balancer]") {
    moe::RoutingPlan<float> plan;
    const std::vector<moe::ExpertId> experts{0, 2, 2, -1, 0, 2};
    const Floats weights(6, 1.0F);
    plan.assign(moe::view(experts.data(), 3, 2), moe::view(weights.data(), 3, 2), 4);
    Counts counts{10, 0, 0, 1};
    moe::add_expert_counts(plan.view(), std::span<std::uint64_t>(counts));
    CHECK(counts == Counts{12, 0, 3, 1});
    counts.pop_back();
    CHECK(message_of([&] { moe::add_expert_counts(plan.view(), std::span<std::uint64_t>(counts)); }) ==
          "add_expert_counts: 3 counts for 4 experts");
}

TEST_CASE("the sign balancer moves each bias by its rate, towards the mean", "[balancer]") {
    moe::SignBalancer balancer{.rate = 0.5};
    balancer.reset(4);
    balancer.update(Counts{4, 2, 1, 1});  // the mean is 2
    CHECK(balancer.bias == Floats{-0.5F, 0, 0.5F, 0.5F});
    balancer.update(Counts{2, 2, 2, 3});  // the mean is 2.25
    CHECK(balancer.bias == Floats{0, 0.5F, 1, 0});
    balancer.update(Counts{0, 0, 0, 0});
    balancer.update(Counts{7, 7, 7, 7});
    CHECK(balancer.bias == Floats{0, 0.5F, 1, 0});
    const std::uint64_t huge = std::uint64_t{1} << 61U;  // one more or less is lost in a double
    balancer.update(Counts{huge + 1, huge, huge, huge - 1});
    CHECK(balancer.bias == Floats{-0.5F, 0.5F, 1, 0.5F});
    balancer.reset(2);
    CHECK(balancer.bias == Floats{0, 0});
}

TEST_CASE("the sign balancer makes the loads of a skewed router equal", "[balancer]") {
    moe::SignBalancer balancer{.rate = 0.01};
    balancer.reset(8);
    const double before = violation(loads(skewed_scores(1, 512, 8), 8, 2, balancer.bias));
    CHECK(before > 2);
    for (std::uint64_t step = 0; step < 120; ++step) {
        balancer.update(loads(skewed_scores(step, 512, 8), 8, 2, balancer.bias));
    }
    // The scores of the experts lie at most 0.7 apart, 70 steps; then each bias swings about its place by the rate.
    CHECK(violation(loads(skewed_scores(1000, 4096, 8), 8, 2, balancer.bias)) < 0.15);
}

TEST_CASE("the quantile balancer takes the quantile of each column above the cutoffs of the rows", "[balancer]") {
    // k = 1 of 3 experts: alpha is the second greatest of a row, 3, 2, 4; one token of three shall pass at each expert.
    const Floats scores{5, 3, 0,  //
                        6, 2, 1,  //
                        9, 4, 3};
    moe::QuantileBalancer balancer{.top_k = 1};
    balancer.reset(3);
    balancer.update(matrix(scores, 3));
    // Columns less alpha: (2, 4, 5), (0, 0, 0), (-3, -1, -1); the second greatest of each.
    CHECK(balancer.bias == Floats{-4, 0, 1});
    CHECK(loads(scores, 3, 1, balancer.bias) == Counts{2, 1, 0});  // token 1 is a tie of all three
    balancer.momentum = 0.5;
    // With the bias the rows are (1, 3, 1), (2, 2, 2), (5, 4, 4): alpha is 1, 2, 4, the columns less alpha are
    // (4, 4, 5), (2, 0, 0), (-1, -1, -1).
    balancer.update(matrix(scores, 3));
    CHECK(balancer.bias == Floats{-4, 0, 1});
}

TEST_CASE("one step of the quantile balancer makes the loads of a skewed router nearly equal", "[balancer]") {
    moe::QuantileBalancer balancer{.top_k = 2};
    balancer.reset(8);
    for (std::uint64_t step = 0; step < 10; ++step) {
        const Floats scores = skewed_scores(step, 512, 8);
        if (step == 0) {
            CHECK(violation(loads(scores, 8, 2, balancer.bias)) > 2);
        }
        balancer.update(matrix(scores, 8));
        if (step == 0) {
            CHECK(violation(loads(scores, 8, 2, balancer.bias)) < 1);
        }
    }
    CHECK(violation(loads(skewed_scores(1000, 4096, 8), 8, 2, balancer.bias)) < 0.15);
}

TEST_CASE("the threshold balancer lets the share of an expert pass", "[balancer]") {
    // K = 1 of 2 experts: two of four tokens pass, those above the third greatest score.
    const Floats scores{1, 8,  //
                        2, 5,  //
                        3, 6,  //
                        4, 7};
    moe::ThresholdBalancer balancer{.top_k = 1, .momentum = 0.75};
    balancer.reset(2, 100);
    CHECK(balancer.thresholds == Floats{100, 100});
    balancer.update(matrix(scores, 2));
    CHECK(balancer.thresholds == Floats{2, 6});  // not averaged with what was there before any batch
    balancer.update(matrix(Floats{6, 6, 6, 2, 10, 4, 10, 4}, 2));
    CHECK(balancer.thresholds == Floats{3, 5.5F});  // 0.75 * 2 + 0.25 * 6 and 0.75 * 6 + 0.25 * 4
    balancer.reset(2);
    balancer.update(matrix(scores, 2));
    CHECK(balancer.thresholds == Floats{2, 6});
}

TEST_CASE("thresholds learnt on some batches let the share of others pass", "[balancer]") {
    moe::ThresholdBalancer balancer{.top_k = 2, .momentum = 0.9};
    balancer.reset(8);
    for (std::uint64_t step = 0; step < 50; ++step) {
        balancer.update(matrix(skewed_scores(step, 256, 8), 8));
    }
    const Floats others = skewed_scores(1000, 4096, 8);
    Counts passing(8, 0);
    for (std::size_t i = 0; i < others.size(); ++i) {
        passing[i % 8] += others[i] > balancer.thresholds[i % 8] ? 1U : 0U;
    }
    for (const std::uint64_t count : passing) {
        CHECK((count > 922 && count < 1126));  // a quarter of 4096 tokens is 1024: within 10 %
    }
}

TEST_CASE("balancers leave out padding and tokens that are not finite; empty batches change nothing", "[balancer]") {
    const Floats clean{5, 3, 0, 6, 2, 1, 9, 4, 3};
    const Floats dirty{5, 3, 0, not_a_number, 9, 9, 6, 2, 1, 7, 7, 7, 9, 4, 3, 0, inf, 0};
    const std::vector<std::uint8_t> valid{1, 1, 1, 0, 1, 1};
    const std::vector<std::uint8_t> none(6, 0);
    const auto check = [&](auto balancer, auto result) {
        balancer.reset(3);
        const Floats at_first = result(balancer);
        balancer.update(matrix({}, 3));
        balancer.update(matrix(dirty, 3), none);
        CHECK(result(balancer) == at_first);
        auto other = balancer;
        balancer.update(matrix(dirty, 3), valid);
        other.update(matrix(clean, 3));
        CHECK(result(balancer) == result(other));
        CHECK(result(balancer) != at_first);
        // the same in double
        const std::vector<double> wide(clean.begin(), clean.end());
        auto third = other;
        third.reset(3);
        third.update(moe::view(wide.data(), 3, 3));
        CHECK(result(third) == result(other));
    };
    check(moe::QuantileBalancer{}, [](const auto& balancer) { return balancer.bias; });
    check(moe::ThresholdBalancer{}, [](const auto& balancer) { return balancer.thresholds; });
}

TEST_CASE("the sparsity controller turns lambda by a factor, up where too many experts are active", "[balancer]") {
    moe::SparsityController controller{.top_k = 2, .lambda = 1, .alpha = 2};
    CHECK(controller.update(21, 10) == 2);
    CHECK(controller.update(21, 10) == 4);
    CHECK(controller.update(20, 10) == 4);
    CHECK(controller.update(19, 10) == 2);
    CHECK(controller.update(0, 0) == 2);
    controller.lambda = std::numeric_limits<double>::max();
    CHECK(controller.update(100, 1) == std::numeric_limits<double>::max());
    controller.lambda = std::numeric_limits<double>::min();
    CHECK(controller.update(0, 1) == std::numeric_limits<double>::min());
}

TEST_CASE("the sparsity controller finds the lambda of a gate that gets sparser with it", "[balancer]") {
    moe::SparsityController controller{.top_k = 4};
    // 32 experts of 1000 tokens, of which lambda / (lambda + 1e-4) are turned off: 4 are left at lambda = 7e-4.
    const auto active = [&] { return static_cast<std::size_t>(32000 * 1e-4 / (controller.lambda + 1e-4)); };
    for (int step = 0; step < 80; ++step) {  // log(7e4) / log(1.2) = 61.2
        controller.update(active(), 1000);
    }
    CHECK(controller.lambda > 7e-4 / 1.21);
    CHECK(controller.lambda < 7e-4 * 1.21);
}

TEST_CASE("balancers refuse sizes and settings that cannot be", "[balancer]") {
    const Floats scores(12, 0.5F);
    const std::vector<std::uint8_t> valid(5, 1);
    CHECK(message_of([] {
              moe::SignBalancer{}.update(Counts{1, 2});
          }) == "SignBalancer: 2 counts for 0 experts; reset(n_experts) sets their number");
    moe::SignBalancer sign{.rate = -1};
    sign.reset(2);
    CHECK(message_of([&] {
              sign.update(Counts{1, 2});
          }) == "SignBalancer: rate is -1, it must be finite in float and not negative");
    const auto check = [&](auto balancer, const std::string& name) {
        balancer.reset(4);
        CHECK(message_of([&] { balancer.update(matrix(scores, 3)); }) ==
              name + ": scores are 4 x 3 for 4 experts; reset(n_experts) sets their number");
        CHECK(message_of([&] { balancer.update(matrix(scores, 4), valid); }) ==
              name + ": valid has 5 entries for 3 tokens");
        balancer.top_k = 4;
        CHECK(message_of([&] { balancer.update(matrix(scores, 4)); }) ==
              name + ": top_k is 4, it must be at least 1 and less than the 4 experts");
        balancer.top_k = 0;
        CHECK(message_of([&] { balancer.update(matrix(scores, 4)); }) ==
              name + ": top_k is 0, it must be at least 1 and less than the 4 experts");
        balancer.top_k = 1;
        balancer.momentum = 1;
        CHECK(message_of([&] { balancer.update(matrix(scores, 4)); }) ==
              name + ": momentum is 1, it must be at least 0 and less than 1");
    };
    check(moe::QuantileBalancer{}, "QuantileBalancer");
    check(moe::ThresholdBalancer{}, "ThresholdBalancer");
    using moe::SparsityController;
    CHECK(message_of([] { SparsityController{.top_k = 0}.update(1, 1); }) ==
          "SparsityController: top_k is 0, it must be at least 1");
    CHECK(message_of([] { SparsityController{.lambda = 0}.update(1, 1); }) ==
          "SparsityController: lambda is 0, it must be positive and finite");
    CHECK(message_of([] { SparsityController{.alpha = 1}.update(1, 1); }) ==
          "SparsityController: alpha is 1, it must be finite and above 1");
    CHECK(message_of([] { SparsityController{}.update(1, 0); }) == "SparsityController: 1 assignments of no tokens");
    CHECK_THAT(message_of([] { SparsityController{.top_k = 2}.update(1, std::numeric_limits<std::size_t>::max()); }),
               moe_test::contains("does not fit in std::size_t"));
}

}  // namespace moe_test::balancer_test
