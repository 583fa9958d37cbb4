#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../core/error.hpp"
#include "../core/matrix_view.hpp"

/// What the balancers that read scores share.
namespace moe::inline MOE_ABI::detail {

/// The (n + 1)-th greatest of `values`, which has more than n: what exactly n of them exceed, if no two are equal.
/// Reorders them. O(values).
[[nodiscard]] inline double exceeded_by(std::span<double> values, std::size_t n) {
    const auto at = values.begin() + static_cast<std::ptrdiff_t>(n);
    std::nth_element(values.begin(), at, values.end(), [](double a, double b) { return a > b; });
    return *at;
}

/// The tokens that a balancer looks at: valid ones whose scores are all finite.
template <class T>
void tokens_that_count(MatrixView<T> scores, std::span<const std::uint8_t> valid, std::vector<std::size_t>& tokens) {
    tokens.clear();
    for (std::size_t t = 0; t < scores.rows(); ++t) {
        const auto row = scores.row_span(t);
        if ((valid.empty() || valid[t] != 0) &&
            std::all_of(row.begin(), row.end(), [](T s) { return std::isfinite(s); })) {
            tokens.push_back(t);
        }
    }
}

template <class T>
void check_balanced_scores(const char* balancer, MatrixView<T> scores, std::span<const std::uint8_t> valid,
                           std::size_t n_experts, int top_k, double momentum) {
    ensure(scores.cols() == n_experts, ErrorCode::shape, balancer, ": scores are ", scores.rows(), " x ", scores.cols(),
           " for ", n_experts, " experts; reset(n_experts) sets their number");
    ensure(valid.empty() || valid.size() == scores.rows(), ErrorCode::shape, balancer, ": valid has ", valid.size(),
           " entries for ", scores.rows(), " tokens");
    ensure(top_k >= 1 && static_cast<std::size_t>(top_k) < n_experts, ErrorCode::range, balancer, ": top_k is ", top_k,
           ", it must be at least 1 and less than the ", n_experts, " experts");
    ensure(momentum >= 0 && momentum < 1, ErrorCode::range, balancer, ": momentum is ", momentum,
           ", it must be at least 0 and less than 1");
}

}  // namespace moe::inline MOE_ABI::detail
