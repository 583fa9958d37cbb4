#include "interval.hpp"

#include <cmath>
#include <limits>

#include "../load_shares.hpp"

namespace compare {

void Interval::watch(const std::vector<moe::Tape<float>*>& tapes) {
    for (std::size_t i = 0; i < tapes.size(); ++i) {
        const moe::Tape<float>& tape = *tapes[i];
        const std::size_t n_experts = tape.plan().n_experts;
        // a router that learns its noise has more logits than experts: its probabilities are not those of a softmax
        const std::size_t n_logits = tape.logits().cols() == n_experts ? n_experts : 0;
        if (stats_.size() == i) {
            stats_.emplace_back(n_experts, moe::RouterStatsOptions{.n_logits = n_logits});
        }
        stats_[i].on_plan({tape.plan(), tape.logits(), tape.choices(), tape.valid()});
    }
}

void Interval::add(const trainer::Step& step, double router_norm, double expert_norm) {
    ++n_steps_;
    loss_ += step.loss;
    router_norm_ += router_norm;
    expert_norm_ += expert_norm;
    for (const moe::RoutingCounts& counts : step.counts) {
        violation_ += moe::max_violation(counts.counts);
        dead_ += static_cast<double>(moe::dead_experts(counts.counts));
    }
}

template <class Figure>
double Interval::mean_of_stats(const Figure& figure) const {
    double sum = 0;
    for (const moe::RouterStats<float>& stats : stats_) {
        sum += figure(stats);
    }
    return sum / static_cast<double>(stats_.size());
}

double Interval::entropy() const {
    return mean_of_stats([](const moe::RouterStats<float>& stats) {
        return stats.options().n_logits > 1
                   ? stats.mean_gate_entropy() / std::log(static_cast<double>(stats.n_experts()))
                   : std::numeric_limits<double>::quiet_NaN();
    });
}

double Interval::dropped() const {
    return mean_of_stats([](const moe::RouterStats<float>& stats) { return stats.drop_rate(); });
}

double Interval::experts_per_token() const {
    return mean_of_stats([](const moe::RouterStats<float>& stats) { return stats.mean_experts_per_token(); });
}

std::vector<double> Interval::load() const {
    return stats_.empty() ? std::vector<double>{} : load_shares(stats_.back().load());
}

}  // namespace compare
