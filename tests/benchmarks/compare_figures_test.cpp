// What the comparison of routing strategies computes from counts and draws by itself.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <string_view>
#include <vector>

#include "support/catch.hpp"

#include "../../benchmarks/compare/collapse.hpp"
#include "../../benchmarks/compare/load.hpp"
#include "../../benchmarks/compare/logits.hpp"
#include "../../benchmarks/compare/sign_balancing.hpp"

using namespace compare;

namespace {

constexpr double tolerance = 1e-14;

/// How often each expert has the greatest logit of a row.
std::vector<double> favourites(const std::vector<float>& logits, std::size_t n_experts) {
    std::vector<double> counts(n_experts);
    for (auto row = logits.begin(); row != logits.end(); row += static_cast<std::ptrdiff_t>(n_experts)) {
        const auto end = row + static_cast<std::ptrdiff_t>(n_experts);
        ++counts[static_cast<std::size_t>(std::max_element(row, end) - row)];
    }
    return counts;
}

}  // namespace

TEST_CASE("Unevenness of 6, 2, 0 and 0 tokens, by hand") {
    const Unevenness load = unevenness({6, 2, 0, 0});
    // mean 2, squares of the differences 16, 0, 4, 4
    REQUIRE(load.max_violation == 2.0);
    REQUIRE(std::abs(load.variation - std::sqrt(6.0) / 2) < tolerance);
    // half the mean of |a - b| over the 16 ordered pairs, 40 / 16, over the mean
    REQUIRE(std::abs(load.gini - 0.625) < tolerance);
    REQUIRE(std::abs(load.entropy + (0.75 * std::log(0.75) + 0.25 * std::log(0.25)) / std::log(4.0)) < tolerance);
    REQUIRE(load.dead == 2.0);
    REQUIRE(load.share == std::vector{0.75, 0.25, 0.0, 0.0});
}

TEST_CASE("Unevenness of even loads, of one expert, of no tokens and of no experts") {
    const Unevenness even = unevenness({5, 5, 5});
    REQUIRE(even.max_violation == 0.0);
    REQUIRE(even.variation == 0.0);
    REQUIRE(std::abs(even.gini) < tolerance);
    REQUIRE(std::abs(even.entropy - 1) < tolerance);
    REQUIRE(even.dead == 0.0);
    REQUIRE(unevenness({7}).entropy == 1.0);
    REQUIRE(unevenness({7}).gini == 0.0);
    const Unevenness nothing = unevenness({0, 0});
    REQUIRE(nothing.share == std::vector{0.0, 0.0});
    REQUIRE(nothing.max_violation == 0.0);
    REQUIRE(nothing.dead == 2.0);
    REQUIRE(unevenness({}).share.empty());
}

TEST_CASE("A load counter counts choices, drops and weights") {
    const std::array<moe::ExpertId, 6> experts{1, 0, moe::dropped(1), moe::no_expert, 1, moe::dropped(0)};
    const std::array<float, 6> weights{0.75F, 0.25F, 9.0F, 9.0F, 0.5F, 9.0F};
    const auto choices = moe::view(experts.data(), 3, 2);
    std::array<moe::ExpertId, 6> kept = experts;
    std::ranges::replace_if(
        kept, [](moe::ExpertId e) { return e < 0; }, moe::no_expert);
    moe::RoutingPlan<float> plan;
    plan.assign(moe::view(static_cast<const moe::ExpertId*>(kept.data()), 3, 2), moe::view(weights.data(), 3, 2), 3);
    LoadCounter load;
    load.on_plan({plan, {}, choices, {}});
    REQUIRE(load.counts == std::vector<std::size_t>{1, 2, 0});
    REQUIRE(load.tokens == 3);
    REQUIRE(load.assignments == 3);
    REQUIRE(load.dropped == 2);
    REQUIRE(load.routed_tokens == 2);
    REQUIRE(load.largest_weights == 1.25);
    REQUIRE(load.dropped_share() == 0.4);
    LoadCounter both;
    both.add(load);
    both.add(load);
    REQUIRE(both.counts == std::vector<std::size_t>{2, 4, 0});
    REQUIRE(both.dropped == 4);
    REQUIRE(both.largest_weights == 2.5);
    REQUIRE(LoadCounter{}.dropped_share() == 0.0);
}

TEST_CASE("The sign rule moves biases towards the mean, and those at the mean not") {
    std::vector<float> bias{0.5F, 0.5F, 0.5F};
    balance_by_sign(std::vector<std::size_t>{1, 3, 2}, 0.25, bias);
    REQUIRE(bias == std::vector{0.75F, 0.25F, 0.5F});
    balance_by_sign(std::vector<std::size_t>{0, 0, 1}, 0.25, bias);  // the mean is a third
    REQUIRE(bias == std::vector{1.0F, 0.5F, 0.25F});
}

TEST_CASE("Random logits have the favourites of their distribution, and rows of their own") {
    constexpr std::size_t n_tokens = 20000;
    constexpr std::size_t n_experts = 8;
    const auto sorted = [&](Distribution distribution) {
        std::vector<double> counts = favourites(random_logits(distribution, n_tokens, n_experts, 3), n_experts);
        std::ranges::sort(counts, std::ranges::greater{});
        return counts;
    };
    // five standard deviations of a count of n draws with probability p
    const auto near = [](double count, double p) {
        return std::abs(count - n_tokens * p) < 5 * std::sqrt(n_tokens * p * (1 - p));
    };
    const double harmonic = 1 + 1 / 2.0 + 1 / 3.0 + 1 / 4.0 + 1 / 5.0 + 1 / 6.0 + 1 / 7.0 + 1 / 8.0;
    for (std::size_t rank = 0; rank < n_experts; ++rank) {
        REQUIRE(near(sorted(Distribution::uniform)[rank], 1.0 / n_experts));
        REQUIRE(near(sorted(Distribution::zipf)[rank], 1 / (static_cast<double>(rank + 1) * harmonic)));
        REQUIRE(near(sorted(Distribution::one_hot)[rank], rank == 0 ? 0.9 : 0.1 / (n_experts - 1)));
    }
    const auto few = random_logits(Distribution::zipf, 10, n_experts, 3);
    const auto many = random_logits(Distribution::zipf, 20, n_experts, 3);
    REQUIRE(std::equal(few.begin(), few.end(), many.begin()));
    REQUIRE(random_logits(Distribution::zipf, 10, n_experts, 4) != few);
    REQUIRE(std::ranges::all_of(many, [](float logit) { return std::isfinite(logit); }));
}

TEST_CASE("A router that strengthens what it uses collapses, and does not where the sign rule balances it") {
    constexpr std::size_t steps = 60;
    for (const std::uint64_t seed : {1U, 2U, 3U}) {
        const std::vector<CollapseRow> rows = collapse(seed, steps);
        REQUIRE(rows.size() == 2 * steps);
        for (std::size_t i = 0; i < rows.size(); ++i) {
            REQUIRE(rows[i].run == (i < steps ? "without balancing" : "sign bias"));
            REQUIRE(rows[i].step == i % steps);
            REQUIRE(std::abs(std::accumulate(rows[i].load.begin(), rows[i].load.end(), 0.0) - 1) < 1e-12);
        }
        REQUIRE(rows[0].load == rows[steps].load);  // the same beginning
        REQUIRE(rows[0].max_violation > 0.5);
        REQUIRE(rows[steps - 1].max_violation > 6.5);  // 7: all tokens take the same two of 16
        REQUIRE(rows[2 * steps - 1].max_violation < 0.6);
        REQUIRE(collapse(seed, 3)[2].load == rows[2].load);
    }
    REQUIRE(collapse(1, 5)[4].load != collapse(2, 5)[4].load);
}
