#pragma once

#include <cstddef>
#include <vector>

#include <moe/stats.hpp>
#include "../../../examples/train/trainer.hpp"

namespace compare {

/// What the steps of a part of a training were like.
class Interval {
public:
    /// Between the passes and the update of a step.
    void watch(const std::vector<moe::Tape<float>*>& tapes);

    void add(const trainer::Step& step, double router_norm, double expert_norm);

    /// Means over the steps added, of layers where they differ; NaN where nothing was, or a routing has no such thing.
    [[nodiscard]] double loss() const { return mean(loss_); }
    [[nodiscard]] double max_violation() const { return of_layers(violation_); }
    [[nodiscard]] double dead() const { return of_layers(dead_); }
    [[nodiscard]] double router_norm() const { return mean(router_norm_); }
    [[nodiscard]] double expert_norm() const { return mean(expert_norm_); }
    [[nodiscard]] double entropy() const;  ///< of the router's probabilities, over that of even ones
    [[nodiscard]] double dropped() const;
    [[nodiscard]] double experts_per_token() const;
    [[nodiscard]] std::vector<double> load() const;  ///< shares in the last layer; empty without plans

    [[nodiscard]] std::size_t n_steps() const noexcept { return n_steps_; }

private:
    [[nodiscard]] double mean(double sum) const { return sum / static_cast<double>(n_steps_); }
    [[nodiscard]] double of_layers(double sum) const { return mean(sum) / static_cast<double>(stats_.size()); }
    template <class Figure>
    [[nodiscard]] double mean_of_stats(const Figure& figure) const;

    std::size_t n_steps_ = 0;
    double loss_ = 0;
    double violation_ = 0;  ///< sums over layers
    double dead_ = 0;
    double router_norm_ = 0;
    double expert_norm_ = 0;
    std::vector<moe::RouterStats<float>> stats_;  ///< one a layer with a plan
};

}  // namespace compare
