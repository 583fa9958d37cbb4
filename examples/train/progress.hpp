#pragma once

#include <chrono>
#include <cstdint>

#include "trainer.hpp"

namespace trainer {

/// Prints how a training goes: one line for some steps, of the means over these.
class Progress {
public:
    using Clock = std::chrono::steady_clock;

    /// Of a training that begins now, with `first` of `n_steps` done, of `step_tokens` each; `seconds` is when it stops
    /// at the latest.
    Progress(std::uint64_t first, std::uint64_t n_steps, std::size_t step_tokens, double seconds);

    [[nodiscard]] double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

    void add(const Step& step);

    /// The line of the steps since the last one; `held_out` is the loss there, or NaN: not measured.
    void print(double held_out);

private:
    [[nodiscard]] double seconds_left() const;

    Clock::time_point start_ = Clock::now();
    std::uint64_t first_;
    std::uint64_t done_;
    std::uint64_t n_steps_;
    std::size_t step_tokens_;
    double most_seconds_;
    double printed_at_ = 0;  ///< seconds, as the next
    double added_at_ = 0;    ///< before what is measured at a line
    std::uint64_t n_added_ = 0;
    double loss_ = 0;
    double violation_ = 0;  ///< sum of the means over layers
};

}  // namespace trainer
