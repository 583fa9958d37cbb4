#pragma once

#include <atomic>
#include <cstddef>

#include "../config.hpp"

namespace moe::inline MOE_ABI {

/// Tasks that others wait for, within one parallel region. Who waits sleeps after a while, so threads without a
/// processor hinder nobody.
class Countdown {
public:
    explicit Countdown(std::size_t n_tasks) noexcept : left_(n_tasks) {}

    /// One task is done; what it wrote is seen by all who waited, and by the caller of the last. Whether that is this
    /// one.
    bool done() noexcept {
        const bool last = left_.fetch_sub(1, std::memory_order_acq_rel) == 1;
        if (last) {
            left_.notify_all();
        }
        return last;
    }

    /// Returns when all are. Tasks must have been taken by threads that are at work on them.
    void wait() const noexcept {
        for (std::size_t left = left_.load(std::memory_order_acquire); left != 0;
             left = left_.load(std::memory_order_acquire)) {
            left_.wait(left, std::memory_order_acquire);
        }
    }

private:
    std::atomic<std::size_t> left_;
};

}  // namespace moe::inline MOE_ABI
