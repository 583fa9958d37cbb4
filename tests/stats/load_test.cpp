#include <moe/stats/load.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::load_test {

namespace {

using Counts = std::vector<std::uint64_t>;

/// Four experts with 1, 2, 3 and 6 of 12 assignments: mean 3.
const Counts uneven{6, 1, 3, 2};
const Counts even{4, 4, 4};
const Counts one_takes_all{0, 8, 0, 0};
const Counts nothing{0, 0};

bool near(double a, double b) { return std::abs(a - b) <= 1e-14; }

}  // namespace

TEST_CASE("violations and variation of a load", "[stats]") {
    CHECK(moe::load_total(uneven) == 12);
    CHECK(moe::mean_load(uneven) == 3);
    CHECK(moe::min_load(uneven) == 1);
    CHECK(moe::median_load(uneven) == 2.5);
    CHECK(moe::median_load(Counts{9, 1, 4}) == 4);
    CHECK(moe::max_load(uneven) == 6);
    CHECK(moe::max_violation(uneven) == 1);                        // 6 / 3 - 1
    CHECK(moe::avg_violation(uneven) == 0.5);                      // (3 + 2 + 0 + 1) / 4 / 3
    CHECK(near(moe::min_violation(uneven), 2.0 / 3));              // 1 - 1 / 3
    CHECK(near(moe::load_variation(uneven), std::sqrt(3.5) / 3));  // squares 9 + 4 + 0 + 1, a fourth of them
}

TEST_CASE("entropy and Gini coefficient of a load", "[stats]") {
    // f = 1/2, 1/12, 1/4, 1/6
    const double entropy = std::log(2.0) / 2 + std::log(12.0) / 12 + std::log(4.0) / 4 + std::log(6.0) / 6;
    CHECK(near(moe::load_entropy(uneven), entropy / std::log(4.0)));
    CHECK(near(moe::effective_experts(uneven), std::exp(entropy)));
    // |differences| of the six pairs: 5 + 3 + 4 + 2 + 1 + 1 = 16, each twice, by 2 * 16 * 3
    CHECK(near(moe::load_gini(uneven), 32.0 / 96));
}

TEST_CASE("shares and dead experts of a load", "[stats]") {
    CHECK(moe::dead_experts(uneven) == 0);
    CHECK(moe::dead_experts(one_takes_all) == 3);
    CHECK(moe::share_of_most_used(uneven, 1) == 0.5);
    CHECK(moe::share_of_most_used(uneven, 2) == 0.75);
    CHECK(near(moe::share_of_least_used(uneven, 2), 0.25));
    CHECK(moe::share_of_most_used(uneven, 9) == 1);
    CHECK(moe::share_of_least_used(uneven, 9) == 1);
    CHECK(moe::share_of_most_used(uneven, 0) == 0);
    // 6 -> 6, 1 -> 6, 3 -> 6, 2 -> 6 rows
    CHECK(moe::padding_efficiency(uneven, 6) == 0.5);
    CHECK(moe::padding_efficiency(uneven, 1) == 1);
    CHECK(moe::padding_efficiency(uneven, 2) == 12.0 / 14);
    const auto caught = moe_test::error_of([] { (void)moe::padding_efficiency(uneven, 0); });
    CHECK(caught.code == moe::ErrorCode::range);
    CHECK(caught.text == "padding_efficiency: tiles of 0 rows");
}

TEST_CASE("the ends of every scale: balance, and one expert that takes all", "[stats]") {
    const moe::LoadSummary flat = moe::load_summary(even);
    CHECK(flat.n_experts == 3);
    for (const double zero : {flat.variation, flat.max_violation, flat.avg_violation, flat.min_violation, flat.gini}) {
        CHECK(zero == 0);
    }
    CHECK(near(flat.entropy, 1));
    CHECK(near(flat.effective_experts, 3));
    CHECK(near(flat.top_share, 1.0 / 3));
    CHECK(near(flat.bottom_share, 1.0 / 3));
    const moe::LoadSummary steep = moe::load_summary(one_takes_all);
    CHECK(steep.max_violation == 3);
    CHECK(steep.avg_violation == 1.5);
    CHECK(steep.min_violation == 1);
    CHECK(near(steep.variation, std::sqrt(3.0)));
    CHECK(steep.entropy == 0);
    CHECK(!std::signbit(steep.entropy));
    CHECK(steep.effective_experts == 1);
    CHECK(steep.gini == 0.75);
    CHECK(steep.top_share == 1);
    CHECK(steep.bottom_share == 0);
    CHECK(steep.dead_experts == 3);
    CHECK(moe::load_entropy(Counts{5}) == 1);
    CHECK(moe::effective_experts(Counts{5}) == 1);
}

TEST_CASE("a summary holds what the functions say, and a fifth of the experts is one at least", "[stats]") {
    const moe::LoadSummary all = moe::load_summary(uneven);
    CHECK(all.total == 12);
    CHECK(all.min == 1);
    CHECK(all.median == 2.5);
    CHECK(all.max == 6);
    CHECK(all.mean == 3);
    CHECK(all.variation == moe::load_variation(uneven));
    CHECK(all.entropy == moe::load_entropy(uneven));
    CHECK(all.gini == moe::load_gini(uneven));
    CHECK(all.top_share == 0.5);
    CHECK(near(all.bottom_share, 1.0 / 12));
    CHECK(near(moe::load_summary(Counts{1, 2, 3, 4, 5, 6}).top_share, 11.0 / 21));
}

TEST_CASE("where nothing was counted, ratios are not numbers", "[stats]") {
    for (const Counts& counts : {nothing, Counts{}}) {
        const moe::LoadSummary none = moe::load_summary(counts);
        CHECK(none.total == 0);
        CHECK(none.dead_experts == counts.size());
        for (const double ratio :
             {none.variation, none.max_violation, none.avg_violation, none.min_violation, none.entropy,
              none.effective_experts, none.gini, none.top_share, none.bottom_share, moe::padding_efficiency(counts, 6),
              moe::load_distance(counts, counts), moe::load_divergence(counts, counts)}) {
            CHECK(std::isnan(ratio));
        }
    }
    CHECK(std::isnan(moe::median_load(Counts{})));
    CHECK(std::isnan(moe::min_load(Counts{})));
    CHECK(std::isnan(moe::load_distance(nothing, Counts{1, 1})));
}

TEST_CASE("counts may be integers or floats", "[stats]") {
    CHECK(moe::max_violation(std::array<double, 4>{3, 0.5, 1.5, 1}) == moe::max_violation(uneven));
    CHECK(moe::load_gini(std::span<const std::uint64_t>(uneven)) == moe::load_gini(uneven));
    CHECK(moe::load_gini(std::vector<int>{6, 1, 3, 2}) == moe::load_gini(uneven));
    static_assert(!moe::LoadCounts<std::vector<std::vector<int>>>);
}

TEST_CASE("distances of two loads", "[stats]") {
    const Counts a{1, 1, 2};  // 1/4, 1/4, 1/2
    const Counts b{4, 4, 0};  // 1/2, 1/2, 0
    CHECK(moe::load_distance(a, b) == 0.5);
    CHECK(moe::load_distance(a, Counts{10, 10, 20}) == 0);
    CHECK(moe::load_distance(Counts{3, 0}, Counts{0, 1}) == 1);
    // m = 3/8, 3/8, 1/4
    const double divergence =
        (2 * 0.25 * std::log2(0.25 / 0.375) + 0.5 * std::log2(0.5 / 0.25) + 2 * 0.5 * std::log2(0.5 / 0.375)) / 2;
    CHECK(near(moe::load_divergence(a, b), divergence));
    CHECK(near(moe::load_divergence(b, a), divergence));
    CHECK(moe::load_divergence(a, a) == 0);
    CHECK(moe::load_divergence(Counts{3, 0}, Counts{0, 1}) == 1);
    const auto caught = moe_test::error_of([&] { (void)moe::load_distance(a, uneven); });
    CHECK(caught.code == moe::ErrorCode::shape);
    CHECK(caught.text == "load_distance: loads of 3 and 4 experts");
    CHECK(moe_test::error_of([&] { (void)moe::load_divergence(a, uneven); }).code == moe::ErrorCode::shape);
}

}  // namespace moe_test::load_test
