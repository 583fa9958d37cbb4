#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <iterator>
#include <limits>
#include <numeric>
#include <ranges>
#include <span>
#include <vector>

#include "../core/error.hpp"
#include "../core/index.hpp"

/// How evenly work is spread over experts. In the formulas n_e is the count of expert e, E the number of experts,
/// N = sum of n_e, n = N / E their mean, f_e = n_e / N the load (Fedus et al. 2021, "Switch transformers", eq. 5).
/// Everything is NaN where nothing was counted (N = 0, 0 / 0), unless its own words say otherwise. O(E) unless stated.
namespace moe::inline MOE_ABI {

/// (n_experts) counts, finite and not negative: a span, vector or array of integers or floats.
template <class R>
concept LoadCounts = std::ranges::contiguous_range<R> && std::ranges::sized_range<R> &&
    (std::integral<std::ranges::range_value_t<R>> ||
     std::floating_point<std::ranges::range_value_t<R>>)&&!std::same_as<std::ranges::range_value_t<R>, bool>;

namespace detail {

/// The sum over experts of what `term` makes of each count.
template <LoadCounts R, class Term>
[[nodiscard]] double sum_over(const R& counts, Term&& term) {
    double sum = 0;
    for (const auto count : counts) {
        sum += term(static_cast<double>(count));
    }
    return sum;
}

[[nodiscard]] inline double undefined() noexcept { return std::numeric_limits<double>::quiet_NaN(); }

/// f log f, which goes to 0 with f.
[[nodiscard]] inline double times_log(double f) noexcept { return f > 0 ? f * std::log(f) : 0.0; }

template <LoadCounts R>
[[nodiscard]] std::vector<double> ascending(const R& counts) {
    std::vector<double> sorted(std::begin(counts), std::end(counts));
    std::sort(sorted.begin(), sorted.end());
    return sorted;
}

}  // namespace detail

/// N, which is 0 where nothing was counted.
template <LoadCounts R>
[[nodiscard]] double load_total(const R& counts) {
    return detail::sum_over(counts, [](double count) { return count; });
}

namespace detail {

/// The sum over experts of what `term` makes of their two loads; NaN where one has counted nothing.
template <LoadCounts A, LoadCounts B, class Term>
[[nodiscard]] double sum_over_loads(const char* name, const A& a, const B& b, Term&& term) {
    ensure(std::size(a) == std::size(b), ErrorCode::shape, name, ": loads of ", std::size(a), " and ", std::size(b),
           " experts");
    const double total_a = moe::load_total(a);
    const double total_b = moe::load_total(b);
    double sum = 0;
    for (std::size_t e = 0; e < std::size(a); ++e) {
        sum += term(static_cast<double>(std::data(a)[e]) / total_a, static_cast<double>(std::data(b)[e]) / total_b);
    }
    return total_a > 0 && total_b > 0 ? sum : undefined();
}

}  // namespace detail

/// n; NaN for no experts.
template <LoadCounts R>
[[nodiscard]] double mean_load(const R& counts) {
    return moe::load_total(counts) / static_cast<double>(std::size(counts));
}

/// min n_e; NaN for no experts.
template <LoadCounts R>
[[nodiscard]] double min_load(const R& counts) {
    return std::empty(counts) ? detail::undefined()
                              : static_cast<double>(*std::min_element(std::begin(counts), std::end(counts)));
}

/// max n_e; NaN for no experts.
template <LoadCounts R>
[[nodiscard]] double max_load(const R& counts) {
    return std::empty(counts) ? detail::undefined()
                              : static_cast<double>(*std::max_element(std::begin(counts), std::end(counts)));
}

/// MaxVio = max n_e / n - 1: 0 in balance, E - 1 when one expert takes all (Wang et al. 2024, "Auxiliary-loss-free load
/// balancing", 2408.15664). Of the counts of a whole run it is their MaxVio_global, averaged over batches MaxVio_batch.
template <LoadCounts R>
[[nodiscard]] double max_violation(const R& counts) {
    return moe::max_load(counts) / moe::mean_load(counts) - 1;
}

/// AvgVio = mean |n_e - n| / n: 0 in balance, 2 (E - 1) / E when one expert takes all. The companion of MaxVio.
template <LoadCounts R>
[[nodiscard]] double avg_violation(const R& counts) {
    const double mean = moe::mean_load(counts);
    return detail::sum_over(counts, [mean](double count) { return std::abs(count - mean); }) / moe::load_total(counts);
}

/// MinVio = 1 - min n_e / n: 0 in balance, 1 when an expert gets nothing. The companion of MaxVio.
template <LoadCounts R>
[[nodiscard]] double min_violation(const R& counts) {
    return 1 - moe::min_load(counts) / moe::mean_load(counts);
}

/// Coefficient of variation, sqrt(mean (n_e - n)^2) / n, with the variance of a whole population: 0 in balance,
/// sqrt(E - 1) when one expert takes all. Its square is the loss of Shazeer et al. 2017 (1701.06538, eq. 7 and 11).
template <LoadCounts R>
[[nodiscard]] double load_variation(const R& counts) {
    const double mean = moe::mean_load(counts);
    const double squares = detail::sum_over(counts, [mean](double count) { return (count - mean) * (count - mean); });
    return std::sqrt(squares / static_cast<double>(std::size(counts))) / mean;
}

/// Entropy of the load by its greatest, -sum f_e log f_e / log E: 1 in balance, 0 when one expert takes all. 1 for a
/// single expert, which is always in balance. (Shannon 1948, normalised.)
template <LoadCounts R>
[[nodiscard]] double load_entropy(const R& counts) {
    const double total = moe::load_total(counts);
    if (!(total > 0)) {
        return detail::undefined();
    }
    if (std::size(counts) == 1) {
        return 1;
    }
    const double sum = detail::sum_over(counts, [total](double count) { return detail::times_log(count / total); });
    return (0 - sum) / std::log(static_cast<double>(std::size(counts)));  // 0 - 0 is 0, -0 would not be
}

/// exp(-sum f_e log f_e): how many experts in balance would have the entropy of this load; 1 to E.
template <LoadCounts R>
[[nodiscard]] double effective_experts(const R& counts) {
    return std::exp(moe::load_entropy(counts) * std::log(static_cast<double>(std::size(counts))));
}

/// Gini coefficient, sum_i sum_j |n_i - n_j| / (2 E^2 n): 0 in balance, (E - 1) / E when one expert takes all (Gini
/// 1912). Computed from the sorted counts as sum_i (2 i - E - 1) n_(i) / (E N), i from 1. O(E log E), allocates.
template <LoadCounts R>
[[nodiscard]] double load_gini(const R& counts) {
    const std::vector<double> sorted = detail::ascending(counts);
    const auto n_experts = static_cast<double>(sorted.size());
    double sum = 0;
    for (std::size_t i = 0; i < sorted.size(); ++i) {
        sum += (2 * static_cast<double>(i + 1) - n_experts - 1) * sorted[i];
    }
    return sum / (n_experts * moe::load_total(counts));
}

/// The middle count, of an even number the mean of the two in the middle; NaN for no experts. O(E log E), allocates.
template <LoadCounts R>
[[nodiscard]] double median_load(const R& counts) {
    const std::vector<double> sorted = detail::ascending(counts);
    return sorted.empty() ? detail::undefined() : (sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2;
}

/// Experts with n_e = 0.
template <LoadCounts R>
[[nodiscard]] std::size_t dead_experts(const R& counts) {
    return static_cast<std::size_t>(
        std::count_if(std::begin(counts), std::end(counts), [](auto count) { return !(count > 0); }));
}

/// Share of all assignments that the `n` most used experts take; all of them if there are fewer. O(E log E), allocates.
template <LoadCounts R>
[[nodiscard]] double share_of_most_used(const R& counts, std::size_t n) {
    const std::vector<double> sorted = detail::ascending(counts);
    const auto first = sorted.end() - static_cast<std::ptrdiff_t>((std::min)(n, sorted.size()));
    return std::accumulate(first, sorted.end(), 0.0) / moe::load_total(counts);
}

/// Share of all assignments that the `n` least used experts take. O(E log E), allocates.
template <LoadCounts R>
[[nodiscard]] double share_of_least_used(const R& counts, std::size_t n) {
    const std::vector<double> sorted = detail::ascending(counts);
    const auto last = sorted.begin() + static_cast<std::ptrdiff_t>((std::min)(n, sorted.size()));
    return std::accumulate(sorted.begin(), last, 0.0) / moe::load_total(counts);
}

/// N / sum ceil(n_e / M) M: the part of the rows of a matrix product that are tokens, if each expert's are filled up to
/// tiles of M = `tile_rows`; 1 where every expert gets whole tiles. Of the counts of one batch. Throws Error(range) for
/// tiles of 0 rows.
template <LoadCounts R>
[[nodiscard]] double padding_efficiency(const R& counts, std::size_t tile_rows) {
    ensure(tile_rows > 0, ErrorCode::range, "padding_efficiency: tiles of 0 rows");
    const auto rows = static_cast<double>(tile_rows);
    return moe::load_total(counts) /
           detail::sum_over(counts, [rows](double count) { return std::ceil(count / rows) * rows; });
}

/// Total variation distance of two loads, sum |f_e - g_e| / 2: the share of assignments that would have to change
/// expert to make one the other; 0 to 1. Throws Error(shape) where the numbers of experts differ.
template <LoadCounts A, LoadCounts B>
[[nodiscard]] double load_distance(const A& a, const B& b) {
    return detail::sum_over_loads("load_distance", a, b, [](double f, double g) { return std::abs(f - g); }) / 2;
}

/// Jensen-Shannon divergence of two loads in bits, sum (f log2 (f / m) + g log2 (g / m)) / 2 with m = (f + g) / 2: 0
/// for equal loads, 1 for loads that share no expert (Lin 1991, "Divergence measures based on the Shannon entropy", eq.
/// 4.1 with equal weights). Throws Error(shape) where the numbers of experts differ.
template <LoadCounts A, LoadCounts B>
[[nodiscard]] double load_divergence(const A& a, const B& b) {
    const double sum = detail::sum_over_loads("load_divergence", a, b, [](double f, double g) {
        return (detail::times_log(f) + detail::times_log(g)) / 2 - detail::times_log((f + g) / 2);
    });
    return (sum < 0 ? 0 : sum) / std::log(2.0);  // rounding may make less than 0 of equal loads; NaN stays
}

/// Everything above about one load.
struct LoadSummary {
    std::size_t n_experts = 0;
    double total = 0;
    double min = 0;
    double median = 0;
    double max = 0;
    double mean = 0;
    double variation = 0;
    double max_violation = 0;
    double avg_violation = 0;
    double min_violation = 0;
    double entropy = 0;
    double effective_experts = 0;
    double gini = 0;
    std::size_t dead_experts = 0;
    double top_share = 0;     ///< of the fifth of the experts used most, at least one: torchscale's balance_top
    double bottom_share = 0;  ///< of the fifth used least
};

/// O(E log E), allocates.
template <LoadCounts R>
[[nodiscard]] LoadSummary load_summary(const R& counts) {
    const std::size_t fifth = divide_up(std::size(counts), 5);
    return {.n_experts = std::size(counts),
            .total = moe::load_total(counts),
            .min = moe::min_load(counts),
            .median = moe::median_load(counts),
            .max = moe::max_load(counts),
            .mean = moe::mean_load(counts),
            .variation = moe::load_variation(counts),
            .max_violation = moe::max_violation(counts),
            .avg_violation = moe::avg_violation(counts),
            .min_violation = moe::min_violation(counts),
            .entropy = moe::load_entropy(counts),
            .effective_experts = moe::effective_experts(counts),
            .gini = moe::load_gini(counts),
            .dead_experts = moe::dead_experts(counts),
            .top_share = moe::share_of_most_used(counts, fifth),
            .bottom_share = moe::share_of_least_used(counts, fifth)};
}

}  // namespace moe::inline MOE_ABI
