#pragma once

#include <array>
#include <chrono>
#include <cstddef>

#include "../layer/parts/observer.hpp"
#include "latency_histogram.hpp"

namespace moe::inline MOE_ABI {

/// Times the phases of forward passes, and whole passes: two readings of the clock a phase, no allocation, 54 KB. The
/// time is that of the thread that calls the observer (see Observer): under MoELayer::forward from before the workers
/// start to after all have finished. For one pass at a time. A test may put another clock in place.
template <class T, class Clock = std::chrono::steady_clock>
class PhaseTimer : public Observer<T> {
public:
    void on_phase_begin(Phase phase) override {
        begin_ = Clock::now();
        if (phase == Phase::logits) {
            pass_begin_ = begin_;
            in_pass_ = true;
        }
    }

    void on_phase_end(Phase phase) override {
        const auto now = Clock::now();
        phases_[static_cast<std::size_t>(phase)].add(nanoseconds(now - begin_));
        if (phase == Phase::output && in_pass_) {
            pass_.add(nanoseconds(now - pass_begin_));
            in_pass_ = false;
        }
    }

    [[nodiscard]] const LatencyHistogram& phase(Phase phase) const& noexcept {
        return phases_[static_cast<std::size_t>(phase)];
    }
    const LatencyHistogram& phase(Phase) const&& = delete;  // temporary: give the timer a name
    /// From the begin of `logits` to the end of `output`, what lies between phases included. Passes that end sooner,
    /// those of MoELayer::route for instance, are not counted here.
    [[nodiscard]] const LatencyHistogram& pass() const& noexcept { return pass_; }
    const LatencyHistogram& pass() const&& = delete;  // temporary: give the timer a name

    /// Adds the times of another.
    void merge(const PhaseTimer& other) noexcept {
        for (std::size_t p = 0; p < phases_.size(); ++p) {
            phases_[p].merge(other.phases_[p]);
        }
        pass_.merge(other.pass_);
    }

    void reset() noexcept {
        for (LatencyHistogram& times : phases_) {
            times.reset();
        }
        pass_.reset();
    }

private:
    [[nodiscard]] static std::chrono::nanoseconds nanoseconds(typename Clock::duration time) noexcept {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(time);
    }

    std::array<LatencyHistogram, n_phases> phases_{};
    LatencyHistogram pass_{};
    typename Clock::time_point begin_{};
    typename Clock::time_point pass_begin_{};
    bool in_pass_ = false;
};

}  // namespace moe::inline MOE_ABI
