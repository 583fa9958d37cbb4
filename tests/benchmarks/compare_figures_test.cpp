// What the comparison of routing strategies computes from counts and draws by itself.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <string_view>
#include <vector>

#include "support/catch.hpp"

#include "../../benchmarks/compare/collapse.hpp"
#include "../../benchmarks/compare/load_shares.hpp"
#include "../../benchmarks/compare/logits.hpp"

namespace moe_test::compare_figures_test {

using namespace compare;

namespace {

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

TEST_CASE("Shares of 6, 2, 0 and 0 tokens, and of none") {
    REQUIRE(load_shares(std::vector{6U, 2U, 0U, 0U}) == std::vector{0.75, 0.25, 0.0, 0.0});
    REQUIRE(load_shares(std::vector{0U, 0U}) == std::vector{0.0, 0.0});
    REQUIRE(load_shares(std::vector<unsigned>{}).empty());
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

}  // namespace moe_test::compare_figures_test
