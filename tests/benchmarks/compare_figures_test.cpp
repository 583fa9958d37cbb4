// What the comparison of routing strategies computes from counts and draws by itself.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "support/catch.hpp"

#include "../../benchmarks/compare/collapse.hpp"
#include "../../benchmarks/compare/collapse_task.hpp"
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

/// Means over the last rows of a run.
struct End {
    static constexpr std::size_t n_rows = 6;

    std::size_t rows = 0;
    double loss = 0;
    double max_violation = 0;
    double effective = 0;
    double router_norm = 0;

    void add(const CollapseRow& row) {
        ++rows;
        loss += row.loss / n_rows;
        max_violation += row.max_violation / n_rows;
        effective += row.effective / n_rows;
        router_norm += row.router_norm / n_rows;
    }
};

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

TEST_CASE("The error of a prediction over that of 0, and its gradient") {
    const std::vector<float> target{3, 0, -4};
    std::vector<float> gradient(3);
    REQUIRE(relative_error(std::vector<float>(3), target, gradient) == 1.0);
    REQUIRE(relative_error(target, target, gradient) == 0.0);
    REQUIRE(gradient == std::vector<float>(3));
    REQUIRE(relative_error(std::vector<float>{3, 5, -4}, target, gradient) == 1.0);
    REQUIRE(gradient == std::vector<float>{0, 0.4F, 0});  // 2 * 5 / 25
}

TEST_CASE("Tokens of clusters are those of their step and seed, and their targets have the variance 1") {
    const ClusterTask task(5);
    const ClusterTask::Batch batch = task.batch(7);
    REQUIRE(batch.x == ClusterTask(5).batch(7).x);
    REQUIRE(batch.target == ClusterTask(5).batch(7).target);
    REQUIRE(batch.x != task.batch(8).x);
    REQUIRE(batch.x != ClusterTask(6).batch(7).x);
    double squares = 0;
    for (const float value : batch.target) {
        squares += static_cast<double>(value) * static_cast<double>(value);
    }
    // five standard deviations: of the maps' 4608 values sqrt(2 / 4608), of 256 tokens' mean squares sqrt(4 / 24 / 256)
    REQUIRE(std::abs(squares / static_cast<double>(batch.target.size()) - 1) < 0.17);
}

TEST_CASE("Trainings with a favourite have rows in order, one beginning, and the same figures for a seed") {
    constexpr std::size_t steps = 3;
    const std::vector<CollapseRow> rows = collapse(1, steps);
    const std::vector<std::string> runs{"without balancing", "z-loss",        "balance loss",      "sign bias",
                                        "noisy top-2",       "expert choice", "balanced but dead", "dense"};
    REQUIRE(rows.size() == (steps + 1) * runs.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const CollapseRow& row = rows[i];
        REQUIRE(row.run == runs[i / (steps + 1)]);
        REQUIRE(row.step == i % (steps + 1));
        REQUIRE(row.load.size() == (row.run == "dense" ? 1 : 8));
        REQUIRE(std::abs(std::accumulate(row.load.begin(), row.load.end(), 0.0) - 1) < 1e-12);
        const bool same_beginning = i % (steps + 1) == 0 && i / (steps + 1) < 4;
        REQUIRE((!same_beginning || (row.loss == rows[0].loss && row.router_norm == rows[0].router_norm)));
    }
    REQUIRE(collapse(1, 100).size() == 51 * runs.size());  // every other step
    REQUIRE(collapse(1, 61).size() == 32 * runs.size());   // and the last
    REQUIRE(collapse(1, 1)[1].loss == rows[1].loss);
    REQUIRE(collapse(2, 1)[1].loss != rows[1].loss);
}

TEST_CASE("A router with a favourite collapses; each remedy spreads the tokens and learns what one expert cannot") {
    constexpr std::size_t steps = 600;
    for (const std::uint64_t seed : {1U, 2U, 3U}) {
        std::map<std::string, End> ends;
        for (const CollapseRow& row : collapse(seed, steps)) {
            if (row.step > steps - 10 * End::n_rows) {
                ends[row.run].add(row);
            }
        }
        INFO("seed " << seed);
        const double one_expert = ends["dense"].loss;
        REQUIRE(one_expert < 0.875);  // 1 - 1/8: the mean of the maps, the best that is linear and the same for all
        REQUIRE(one_expert > 0.6);
        for (const char* run : {"without balancing", "z-loss"}) {
            INFO(run);
            REQUIRE(ends[run].rows == End::n_rows);
            REQUIRE(ends[run].max_violation > 6.8);  // 7: all tokens take the same of 8
            REQUIRE(ends[run].effective < 1.2);
            REQUIRE(ends[run].loss > 0.9 * one_expert);
        }
        const End dead = ends["balanced but dead"];
        REQUIRE(dead.max_violation < 0.8);
        REQUIRE(dead.effective > 7);
        REQUIRE(dead.router_norm < 1e-9);
        for (const char* run : {"balance loss", "sign bias", "noisy top-2", "expert choice"}) {
            INFO(run);
            REQUIRE(ends[run].rows == End::n_rows);
            REQUIRE(ends[run].max_violation < 0.6);
            REQUIRE(ends[run].effective > 7);
            REQUIRE(ends[run].loss < 0.65 * one_expert);
            REQUIRE(dead.loss > 1.3 * ends[run].loss);
            REQUIRE(ends[run].router_norm > 1e-5);
        }
    }
}

}  // namespace moe_test::compare_figures_test
