#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace compare {

/// What the trainings of collapse.hpp learn: tokens of eight clusters, each with a map of its own. One expert cannot
/// learn all of them, and what a token looks like is half its cluster and half a style, which says nothing of the map:
/// a router that splits tokens by their looks alone does not find the clusters.
class ClusterTask {
public:
    static constexpr std::size_t n_clusters = 8;
    static constexpr std::size_t n_styles = 8;
    static constexpr std::size_t d_model = 24;
    static constexpr std::size_t n_tokens = 256;  ///< of a step: as many of each pair of cluster and style

    struct Batch {
        std::vector<float> x;       ///< (n_tokens, d_model): (2 c + 2 s + z) / 3, its variance 1
        std::vector<float> target;  ///< (n_tokens, d_model): A z
    };

    /// Draws the centres c and the maps A of the clusters and the centres s of the styles, all normal.
    explicit ClusterTask(std::uint64_t seed);

    /// The tokens of a step: a function of seed and step alone. z is normal and fresh for each token. O(n_tokens
    /// d_model^2).
    [[nodiscard]] Batch batch(std::size_t step) const;

private:
    std::uint64_t seed_;
    std::vector<float> centres_;  ///< (n_clusters + n_styles, d_model)
    std::vector<float> maps_;     ///< (n_clusters, d_model, d_model), which keep the mean square of z
};

/// The squared error of `y` over that of predicting 0; `d_y` becomes its gradient. All (n_tokens, d_model).
[[nodiscard]] double relative_error(std::span<const float> y, std::span<const float> target, std::span<float> d_y);

}  // namespace compare
