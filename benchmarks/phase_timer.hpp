#pragma once

#include <array>
#include <chrono>
#include <cstddef>

#include <moe/layer/observer.hpp>

namespace bench {

/// Seconds of each phase of the forward passes it watches.
class PhaseTimer : public moe::Observer<float> {
public:
    void on_phase_begin(moe::Phase) override { begin_ = std::chrono::steady_clock::now(); }
    void on_phase_end(moe::Phase phase) override {
        seconds_[static_cast<std::size_t>(phase)] +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    }

    [[nodiscard]] double operator[](moe::Phase phase) const { return seconds_[static_cast<std::size_t>(phase)]; }

private:
    std::array<double, static_cast<std::size_t>(moe::n_phases)> seconds_{};
    std::chrono::steady_clock::time_point begin_;
};

}  // namespace bench
