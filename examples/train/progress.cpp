#include "progress.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <moe/stats.hpp>

namespace trainer {

Progress::Progress(std::uint64_t first, std::uint64_t n_steps, std::size_t step_tokens, double seconds)
    : first_(first), done_(first), n_steps_(n_steps), step_tokens_(step_tokens), most_seconds_(seconds) {
    std::printf("    step    loss  held out  balance   bytes/s   left\n");
    std::fflush(stdout);
}

void Progress::add(const Step& step) {
    ++done_;
    ++n_added_;
    added_at_ = seconds();
    loss_ += step.loss;
    for (const moe::RoutingCounts& counts : step.counts) {
        violation_ += moe::max_violation(counts.counts) / static_cast<double>(step.counts.size());
    }
}

double Progress::seconds_left() const {
    const double passed = seconds();
    const double a_step = passed / static_cast<double>(std::max<std::uint64_t>(done_ - first_, 1));
    return std::max(0.0, std::min(a_step * static_cast<double>(n_steps_ - done_), most_seconds_ - passed));
}

void Progress::print(double held_out) {
    const double n = static_cast<double>(n_added_);
    const double speed = n * static_cast<double>(step_tokens_) / (added_at_ - printed_at_);
    const long left = std::lround(seconds_left());
    std::printf("%8llu  ", static_cast<unsigned long long>(done_));
    n_added_ > 0 ? std::printf("%6.4f  ", loss_ / n) : std::printf("%6s  ", "");
    std::isnan(held_out) ? std::printf("%8s  ", "") : std::printf("%8.4f  ", held_out);
    n_added_ > 0 ? std::printf("%7.2f  %8.0f", violation_ / n, speed) : std::printf("%7s  %8s", "", "");
    std::printf("  %2ld:%02ld\n", left / 60, left % 60);
    std::fflush(stdout);
    printed_at_ = seconds();
    n_added_ = 0;
    loss_ = 0;
    violation_ = 0;
}

}  // namespace trainer
