#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "moe/train/losses/entropy.hpp"
#include "moe/train/losses/importance.hpp"
#include "moe/train/losses/l1_loss.hpp"
#include "moe/train/losses/noisy_load.hpp"
#include "moe/train/losses/orthogonality.hpp"
#include "moe/train/losses/pooled_load_balance.hpp"
#include "moe/train/losses/z_loss.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"
#include "support/errors.hpp"
#include "train/losses_support.hpp"

namespace moe_test::losses_laws_test {

/// Laws of the losses, what a NaN reaches, what they refuse, and that they allocate nothing.
namespace {

using moe::CountsFrom;
using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;
using moe_test::LossCase;

constexpr std::size_t n_tokens = 14;
constexpr std::size_t n_experts = 5;
constexpr std::size_t n = n_tokens * n_experts;

/// Values and gradients of the losses of logits, one after the other.
template <class T>
struct Results {
    std::vector<double> values{};
    std::vector<std::vector<T>> gradients{};
};
enum : std::size_t { balance_softmax, balance_sigmoid, balance_scores, z, entropy, l1, n_losses };

template <class T>
Results<T> run(LossCase<T>& c) {
    Results<T> results;
    const int top_k = static_cast<int>(c.n_slots);
    for (std::size_t loss = 0; loss < n_losses; ++loss) {
        c.record();
        const auto value = [&]() -> double {
            switch (loss) {
                case balance_softmax: return moe::add_load_balance(c.tape, {.top_k = top_k}, c.workspace);
                case balance_sigmoid:
                    return moe::add_load_balance(c.tape, {.top_k = top_k, .score = moe::ScoreKind::sigmoid},
                                                 c.workspace);
                case balance_scores:
                    return moe::add_load_balance(c.tape, {.top_k = top_k, .counts_from = CountsFrom::scores},
                                                 c.workspace);
                case z: return moe::add_z_loss(c.tape, {});
                case entropy: return moe::add_entropy(c.tape, {});
                default: return moe::add_l1(c.tape, {.top_k = top_k}, c.workspace);
            }
        };
        results.values.push_back(value());
        results.gradients.push_back(c.d_logits());
    }
    c.record();
    return results;
}

}  // namespace

TEST_CASE("rows of gradients sum to 0 where a constant in the logits changes nothing", "[losses]") {
    LossCase<double> c(n_tokens, n_experts, 2, 21);
    const Results<double> results = run(c);
    for (const std::size_t loss : {balance_softmax, balance_scores, entropy}) {
        for (std::size_t t = 0; t < n_tokens; ++t) {
            double sum = 0;
            double size = 0;
            for (std::size_t e = 0; e < n_experts; ++e) {
                sum += results.gradients[loss][t * n_experts + e];
                size += std::abs(results.gradients[loss][t * n_experts + e]);
            }
            CHECK(size > 0);
            CHECK(std::abs(sum) <= 1e-14 * size + 1e-17);
        }
    }
    for (double& l : c.logits) {
        l += 0.75;
    }
    const Results<double> shifted = run(c);
    for (const std::size_t loss : {balance_softmax, balance_scores, entropy}) {
        CHECK(std::abs(shifted.values[loss] - results.values[loss]) <= 1e-13);
        CHECK(moe_test::nmse(shifted.gradients[loss], results.gradients[loss]) <= 1e-26);
    }
    for (const std::size_t loss : {balance_sigmoid, z, l1}) {
        CHECK(std::abs(shifted.values[loss] - results.values[loss]) > 1e-3);
    }
}

TEST_CASE("permuted experts have permuted gradients, permuted tokens theirs", "[losses]") {
    LossCase<double> c(n_tokens, n_experts, 2, 22);
    const Results<double> results = run(c);
    const std::size_t to[n_experts] = {3, 0, 4, 1, 2};
    LossCase<double> experts(n_tokens, n_experts, 2, 22), tokens(n_tokens, n_experts, 2, 22);
    for (std::size_t i = 0; i < n; ++i) {
        experts.logits[i / n_experts * n_experts + to[i % n_experts]] = c.logits[i];
        tokens.logits[n - n_experts - i / n_experts * n_experts + i % n_experts] = c.logits[i];
    }
    for (LossCase<double>* other : {&experts, &tokens}) {
        other->choose();
        other->record();
    }
    const Results<double> of_experts = run(experts);
    const Results<double> of_tokens = run(tokens);
    for (std::size_t loss = 0; loss < n_losses; ++loss) {
        INFO("loss " << loss);
        CHECK(std::abs(of_experts.values[loss] - results.values[loss]) <= 1e-13);
        CHECK(std::abs(of_tokens.values[loss] - results.values[loss]) <= 1e-13);
        std::vector<double> back(n);
        for (std::size_t i = 0; i < n; ++i) {
            back[i] = of_experts.gradients[loss][i / n_experts * n_experts + to[i % n_experts]];
        }
        CHECK(moe_test::nmse(back, results.gradients[loss]) <= 1e-26);
        for (std::size_t i = 0; i < n; ++i) {
            back[i] = of_tokens.gradients[loss][n - n_experts - i / n_experts * n_experts + i % n_experts];
        }
        CHECK(moe_test::same_bits(back, results.gradients[loss]));  // counts are whole numbers
    }
}

TEMPLATE_TEST_CASE("a NaN token poisons its own gradient and the value, no other token's gradient", "[losses]", float,
                   double) {
    LossCase<TestType> c(n_tokens, n_experts, 2, 23);
    const Results<TestType> clean = run(c);
    constexpr std::size_t bad = 6;
    c.logits[bad * n_experts + 1] = std::numeric_limits<TestType>::quiet_NaN();
    c.record();  // with the choices as they were
    const Results<TestType> results = run(c);
    for (const std::size_t loss : {balance_softmax, balance_sigmoid, z, entropy}) {
        INFO("loss " << loss);
        CHECK(std::isnan(results.values[loss]));
        for (std::size_t i = 0; i < n; ++i) {
            const TestType d = results.gradients[loss][i];
            CHECK((i / n_experts == bad ? std::isnan(d) : d == clean.gradients[loss][i]));
        }
    }
    // of scores: it is ranked last, like the gates do, and counted all the same
    moe::RoutingCounts counts;
    counts.reset(n_experts);
    counts.add(c.tape, CountsFrom::scores, 2);
    CHECK(counts.total() == 2 * n_tokens);
    // a weight that is NaN is in the sums of all
    c.weights[3] = std::numeric_limits<TestType>::quiet_NaN();
    c.record();
    CHECK(std::isnan(moe::add_importance(c.tape, {}, c.workspace)));
    for (const TestType d : c.d_weights()) {
        CHECK(std::isnan(d));
    }
}

TEST_CASE("a coefficient of 0 gives the value alone, and leaves gradients as they are, whatever it is", "[losses]") {
    LossCase<double> c(n_tokens, n_experts, 2, 29);
    c.logits[1] = std::numeric_limits<double>::quiet_NaN();
    c.weights[0] = std::numeric_limits<double>::quiet_NaN();
    c.record();
    CHECK(std::isnan(moe::add_load_balance(c.tape, {.coefficient = 0, .top_k = 2}, c.workspace)));
    CHECK(std::isnan(moe::add_importance(c.tape, {.coefficient = 0}, c.workspace)));
    CHECK(std::isnan(moe::add_z_loss(c.tape, {.coefficient = 0})));
    CHECK(std::isnan(moe::add_entropy(c.tape, {.coefficient = 0})));
    (void)moe::add_l1(c.tape, {.coefficient = 0, .top_k = 2}, c.workspace);
    CHECK(c.d_logits() == std::vector<double>(n, 0.0));
    CHECK(c.d_weights() == std::vector<double>(2 * n_tokens, 0.0));
}

TEST_CASE("counts from scores: ties go to the lower expert, -infinity and NaN come last, as gates have it",
          "[losses]") {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const std::vector<std::vector<double>> rows{{1, 2, 2, 1, 2},
                                                {0, 0, 0, 0, 0},
                                                {nan, -infinity, nan, -3, nan},
                                                {nan, nan, nan, nan, nan},
                                                {-infinity, infinity, -0.0, 0.0, -0.0}};
    for (const std::vector<double>& row : rows) {
        for (int k = 1; k <= 5; ++k) {
            LossCase<double> c(1, n_experts, static_cast<std::size_t>(k), 1);
            c.logits = row;
            c.record();
            moe::RoutingCounts counts;
            counts.reset(n_experts);
            counts.add(c.tape, CountsFrom::scores, k);
            std::vector<std::uint64_t> expected(n_experts, 0);
            for (const moe::ExpertId e : moe::reference::top_k(row, static_cast<std::size_t>(k))) {
                ++expected[static_cast<std::size_t>(e)];
            }
            CHECK(counts.counts == expected);
        }
    }
}

TEST_CASE("an orthonormal router costs nothing and is left alone, in any type of weights", "[losses]") {
    std::vector<moe::bfloat16> router(12, moe::to_bfloat16(0));
    router[1] = router[4] = router[11] = moe::to_bfloat16(1);  // 3 x 4
    std::vector<float> gradient(12, 0.0F);
    moe::Workspace workspace;
    for (const moe::OrthogonalityNorm norm : {moe::OrthogonalityNorm::squares, moe::OrthogonalityNorm::absolute}) {
        const auto weights = moe::stacked(std::as_const(router).data(), 1, 3, 4);
        const auto to = moe::stacked_gradients(gradient.data(), 1, 3, 4);
        CHECK(moe::add_orthogonality(weights, to, {.norm = norm}, workspace) == 0);
        CHECK(gradient == std::vector<float>(12, 0.0F));
    }
    router[11] = moe::to_bfloat16(2);
    const auto weights = moe::stacked(std::as_const(router).data(), 1, 3, 4);
    CHECK(moe::add_orthogonality(weights, {}, {}, workspace) == 9);  // (4 - 1)^2, without a gradient
    CHECK(moe::add_orthogonality(weights, {}, {.norm = moe::OrthogonalityNorm::absolute}, workspace) == 3);
}

TEST_CASE("losses add to what is there, and have the same bits every time", "[losses]") {
    LossCase<float> c(n_tokens, n_experts, 2, 24);
    const Results<float> results = run(c);
    c.tape.d_logits()(2, 3) = 5;
    (void)moe::add_z_loss(c.tape, {});
    CHECK(c.tape.d_logits()(2, 3) == 5 + results.gradients[z][2 * n_experts + 3]);
    const Results<float> again = run(c);
    for (std::size_t loss = 0; loss < n_losses; ++loss) {
        CHECK(again.values[loss] == results.values[loss]);
        CHECK(moe_test::same_bits(again.gradients[loss], results.gradients[loss]));
    }
}

TEST_CASE("losses refuse what cannot be, by name and value, before anything is written", "[losses]") {
    LossCase<float> c(n_tokens, n_experts, 2, 25);
    const auto refused = [](auto&& call, ErrorCode code, const std::string& text) {
        const auto error = error_of(call);
        INFO(error.text);
        CHECK(error.code == code);
        CHECK_THAT(error.text, contains(text));
    };
    const auto balance = [&](const moe::LoadBalance& options) {
        return [&c, options] { (void)moe::add_load_balance(c.tape, options, c.workspace); };
    };
    constexpr double infinite = std::numeric_limits<double>::infinity();
    const std::vector<std::uint64_t> four(4, 1), five(5, 1);
    const std::vector<std::size_t> lengths{3, 4};
    const std::vector<std::size_t> whole{n_tokens};
    refused(balance({}), ErrorCode::range, "top_k is 0");
    refused(balance({.top_k = -2}), ErrorCode::range, "top_k is -2");
    refused(balance({.coefficient = infinite, .top_k = 2}), ErrorCode::range, "coefficient is inf");
    refused(balance({.scale = infinite - infinite, .top_k = 2}), ErrorCode::range, "scale ");
    refused(balance({.coefficient = 1e300, .scale = 1e300, .top_k = 2}), ErrorCode::range, "product");
    refused(balance({.top_k = 2, .score = moe::ScoreKind::relu}), ErrorCode::range, "not number 5");
    refused(balance({.top_k = 2, .epsilon = -1}), ErrorCode::range, "epsilon is -1");
    refused(balance({.top_k = 6, .counts_from = CountsFrom::scores}), ErrorCode::range, "top_k is 6");
    refused(balance({.top_k = 2, .counts_from = static_cast<CountsFrom>(9)}), ErrorCode::range, "no value 9");
    refused(balance({.top_k = 2, .counts = four, .n_tokens = 20}), ErrorCode::shape, "4 counts for 5");
    refused(balance({.top_k = 2, .counts = five}), ErrorCode::range, "5 counts of 0 tokens");
    refused(balance({.top_k = 2, .n_tokens = 20}), ErrorCode::range, "0 counts of 20 tokens");
    refused(balance({.top_k = 2, .counts = five, .n_tokens = 13}), ErrorCode::range, "has 13 tokens");
    refused(balance({.top_k = 2, .lengths = lengths}), ErrorCode::shape, "2 lengths sum up to 7, the tape has 14");
    refused(balance({.top_k = 2, .counts = five, .n_tokens = 20, .lengths = whole}), ErrorCode::range, "1 sequences");
    refused([&] { (void)moe::add_l1(c.tape, {}, c.workspace); }, ErrorCode::range, "top_k is 0");
    refused([&] { (void)moe::add_l1(c.tape, {.top_k = 1, .counts = four, .n_tokens = 20}, c.workspace); },
            ErrorCode::shape, "4 counts");
    refused([&] { (void)moe::add_importance(c.tape, {.coefficient = infinite}, c.workspace); }, ErrorCode::range,
            "add_importance: the coefficient is inf");
    refused([&] { (void)moe::add_load(c.tape, moe::NoisyTopK{}, {}, c.workspace); }, ErrorCode::shape,
            "5 logits for 5 experts, this loss is of 2");
    CHECK(c.d_logits() == std::vector<float>(n, 0.0F));
    CHECK(c.d_weights() == std::vector<float>(2 * n_tokens, 0.0F));

    LossCase<float> noisy;
    noisy.n_experts = 5;
    noisy.n_logits = 10;
    noisy.n_slots = 1;
    noisy.logits.assign(30, 0.5F);
    noisy.weights.assign(3, 1.0F);
    noisy.choices.assign(3, 0);
    noisy.record();
    refused([&] { (void)moe::add_z_loss(noisy.tape, {}); }, ErrorCode::shape, "10 logits for 5 experts");
    refused([&] { (void)moe::add_entropy(noisy.tape, {}); }, ErrorCode::shape, "10 logits for 5 experts");
    refused([&] { (void)moe::add_load(noisy.tape, moe::NoisyTopK{.top_k = 6}, {}, noisy.workspace); }, ErrorCode::range,
            "top_k is 6");

    LossCase<float> given(n_tokens, n_experts, 2, 26);
    given.plan_was_given = true;
    given.record();
    refused([&] { (void)moe::add_load_balance(given.tape, {.top_k = 2}, given.workspace); }, ErrorCode::missing,
            "has no logits");
    refused([&] { (void)moe::add_z_loss(given.tape, {}); }, ErrorCode::missing, "has no logits");
    moe::RoutingCounts counts;
    refused([&] { counts.add(given.tape); }, ErrorCode::shape, "0 counts for 5 experts");
    counts.reset(5);
    refused([&] { counts.add(given.tape); }, ErrorCode::missing, "CountsFrom::plan");
    refused([&] { counts.add(given.tape, CountsFrom::scores, 2); }, ErrorCode::shape, "there are 0 for 5");
    CHECK(counts.total() == 0);
    counts.add(given.tape, CountsFrom::plan);
    CHECK(counts.total() == 2 * n_tokens);
    CHECK(moe::add_importance(given.tape, {}, given.workspace) > 0);  // whoever made the weights is told

    moe::Tape<float> empty;
    moe::Workspace workspace;
    refused([&] { (void)moe::add_load_balance(empty, {.top_k = 2}, workspace); }, ErrorCode::state,
            "add_load_balance: the tape holds no forward pass");
    refused([&] { (void)moe::add_importance(empty, {}, workspace); }, ErrorCode::state, "holds no forward pass");
    refused([&] { counts.add(empty); }, ErrorCode::state, "holds no forward pass");
    LossCase<float> fewer(n_tokens, 4, 2, 27);
    refused(
        [&] {
            (void)moe::add_pooled_load_balance(std::vector{&c.tape, &fewer.tape}, {}, workspace);
        },
        ErrorCode::shape, "4 experts, the first has 5");
    refused(
        [&] {
            (void)moe::add_pooled_load_balance(std::vector<moe::Tape<float>*>{&c.tape, nullptr}, {}, workspace);
        },
        ErrorCode::null_pointer, "null among 2 tapes");
    CHECK(c.d_logits() == std::vector<float>(n, 0.0F));

    std::vector<float> router(12, 0.5F), gradient(12, 0.0F);
    const auto weights = moe::stacked(std::as_const(router).data(), 1, 3, 4);
    refused(
        [&] { (void)moe::add_orthogonality(weights, moe::stacked_gradients(gradient.data(), 1, 4, 3), {}, workspace); },
        ErrorCode::shape, "are 1 x 4 x 3, they must be 1 x 3 x 4");
    refused(
        [&] { (void)moe::add_orthogonality(weights, moe::stacked_gradients(router.data(), 1, 3, 4), {}, workspace); },
        ErrorCode::layout, "overlaps");
    refused([&] { (void)moe::add_orthogonality(weights, {}, {.coefficient = infinite}, workspace); }, ErrorCode::range,
            "inf");
    refused(
        [&] { (void)moe::add_orthogonality(moe::stacked(std::as_const(router).data(), 2, 3, 2), {}, {}, workspace); },
        ErrorCode::shape, "stack of 2");
    CHECK(router == std::vector<float>(12, 0.5F));
    CHECK(gradient == std::vector<float>(12, 0.0F));
}

TEST_CASE("losses and counts allocate nothing once the workspace has grown", "[losses]") {
    LossCase<float> c(n_tokens, n_experts, 2, 28);
    LossCase<float> noisy;
    noisy.n_experts = 5;
    noisy.n_logits = 10;
    noisy.n_slots = 2;
    noisy.logits.assign(30, 0.5F);
    noisy.weights.assign(6, 1.0F);
    noisy.choices = {0, 1, 2, 3, 4, 0};
    noisy.record();
    const std::vector<moe::Tape<float>*> tapes{&c.tape};
    const std::vector<std::size_t> lengths{3, 11};
    const std::vector<float> router(12, 0.5F);
    std::vector<float> gradient(12, 0.0F);
    const auto weights = moe::stacked(router.data(), 1, 3, 4);
    const auto d_weights = moe::stacked_gradients(gradient.data(), 1, 3, 4);
    moe::RoutingCounts counts;
    moe::Workspace workspace;
    const auto all = [&] {
        double sum = 0;
        counts.reset(n_experts);
        counts.add(c.tape);
        counts.add(c.tape, CountsFrom::scores, 2);
        sum += moe::add_load_balance(c.tape, {.top_k = 2}, workspace);
        sum += moe::add_load_balance(c.tape, {.top_k = 2, .counts_from = CountsFrom::scores}, workspace);
        sum += moe::add_load_balance(c.tape, {.top_k = 2, .lengths = lengths}, workspace);
        sum += moe::add_load_balance(c.tape, {.top_k = 2, .counts = counts.counts, .n_tokens = counts.n_tokens},
                                     workspace);
        sum += moe::add_pooled_load_balance(tapes, {}, workspace);
        sum += moe::add_importance(c.tape, {}, workspace);
        sum += moe::add_load(noisy.tape, moe::NoisyTopK{}, {}, workspace);
        sum += moe::add_z_loss(c.tape, {});
        sum += moe::add_entropy(c.tape, {});
        sum += moe::add_l1(c.tape, {.top_k = 2}, workspace);
        return sum + moe::add_orthogonality(weights, d_weights, {}, workspace);
    };
    (void)all();
    const std::size_t before = moe_test::allocations();
    CHECK(std::isfinite(all()));
    const std::size_t after = moe_test::allocations();
    CHECK(after == before);
}

}  // namespace moe_test::losses_laws_test
