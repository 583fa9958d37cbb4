#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <moe/layer/observer.hpp>

namespace compare {

/// Counts what the gates of some forward passes chose.
class LoadCounter final : public moe::Observer<float> {
public:
    void on_plan(const moe::RoutingRecord<float>& record) override;

    /// Adds what another one counted.
    void add(const LoadCounter& other);

    std::vector<std::size_t> counts;  ///< (n_experts) tokens
    std::size_t tokens = 0;
    std::size_t assignments = 0;
    std::size_t dropped = 0;        ///< choices that overflowed
    std::size_t routed_tokens = 0;  ///< tokens with an expert
    double largest_weights = 0;     ///< sum over the routed tokens of their largest weight

    /// Share of the choices that overflowed.
    [[nodiscard]] double dropped_share() const;
};

/// How uneven counts are; all 0 where there are none.
struct Unevenness {
    double max_violation = 0;   ///< largest / mean - 1
    double variation = 0;       ///< standard deviation / mean
    double gini = 0;            ///< half the mean difference of two / mean
    double entropy = 0;         ///< of the shares, over the log of their number: 1 where they are equal
    double dead = 0;            ///< how many are 0
    std::vector<double> share;  ///< of the sum
};
[[nodiscard]] Unevenness unevenness(std::vector<std::size_t> counts);

}  // namespace compare
