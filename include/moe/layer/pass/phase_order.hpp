#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "../../core/error.hpp"
#include "../parts/observer.hpp"

namespace moe::inline MOE_ABI::detail {

/// Which workers have begun and ended which phases of a pass: what makes a pass that is driven wrongly an error instead
/// of wrong values. Two atomic operations a phase and worker. Movable while no phase runs.
class PhaseOrder {
public:
    /// The phases one worker has begun, a bit each.
    using Begun = std::atomic<std::uint8_t>;

    /// Of nothing: no phase may begin.
    PhaseOrder() = default;

    /// Phases up to `last`, by at most as many workers as `begun` has room for; its elements need not exist yet.
    PhaseOrder(std::span<Begun> begun, Phase last) : begun_(begun), last_(last) {
        for (Begun& phases : begun_) {
            std::construct_at(&phases, std::uint8_t{0});
        }
    }

    PhaseOrder(PhaseOrder&& other) noexcept { *this = std::move(other); }
    PhaseOrder& operator=(PhaseOrder&& other) noexcept {
        begun_ = std::exchange(other.begun_, {});
        last_ = other.last_;
        for (std::size_t p = 0; p < workers_.size(); ++p) {
            workers_[p].store(other.workers_[p].load(std::memory_order_relaxed), std::memory_order_relaxed);
        }
        return *this;
    }
    PhaseOrder(const PhaseOrder&) = delete;
    PhaseOrder& operator=(const PhaseOrder&) = delete;
    ~PhaseOrder() = default;

    [[nodiscard]] Phase last() const noexcept { return last_; }

    /// Worker `ith` of `nth` begins a phase. Unless it is `overlapping`, all workers of the one before must have ended.
    /// Throws Error(range): a worker or phase that cannot be; Error(state): a phase out of order, left out or begun
    /// twice, workers that do not agree how many they are. It has then not begun.
    void begin(Phase phase, std::size_t ith, std::size_t nth, bool overlapping = false) {
        const auto p = static_cast<unsigned>(phase);
        ensure(p < workers_.size(), ErrorCode::range, "ForwardPass: there is no phase ", p, ", the last is 4, output");
        const char* const name = phase_name(phase);
        ensure(!begun_.empty(), ErrorCode::state, "ForwardPass: phase ", name, " of a pass that was moved from");
        ensure(ith < nth && nth <= begun_.size(), ErrorCode::range, "ForwardPass: worker ", ith, " of ", nth,
               ", the pass was prepared for ", begun_.size());
        ensure(phase <= last_, ErrorCode::state, "ForwardPass: phase ", name,
               " of a pass that was prepared for routing alone");
        if (p > 0 && !overlapping) {
            ensure_ended(static_cast<Phase>(p - 1), "phase ", name, " was begun");
        }
        const auto bit = static_cast<std::uint8_t>(1U << p);
        ensure((begun_[ith].load(std::memory_order_relaxed) & bit) == 0, ErrorCode::state, "ForwardPass: worker ", ith,
               " has run phase ", name, " already; a pass is run once, prepare another");
        std::uint64_t announced = 0;
        const std::uint64_t mine = std::uint64_t{nth} << shift;
        if (!workers_[p].compare_exchange_strong(announced, mine, std::memory_order_relaxed)) {
            ensure(announced >> shift == nth, ErrorCode::state, "ForwardPass: phase ", name, " has ",
                   announced >> shift, " workers and one that says they are ", nth);
        }
        ensure((begun_[ith].fetch_or(bit, std::memory_order_relaxed) & bit) == 0, ErrorCode::state,
               "ForwardPass: two threads run phase ", name, " as worker ", ith);
    }

    /// A worker that began a phase has ended it. Whether it is the last of them.
    bool end(Phase phase) noexcept {
        const std::uint64_t before = workers_[static_cast<unsigned>(phase)].fetch_add(1, std::memory_order_acq_rel);
        return (before & ended_mask) + 1 == before >> shift;
    }

    /// Throws Error(state) unless all workers of `phase` have ended it; `event` is what happened too early.
    template <class... Event>
    void ensure_ended(Phase phase, Event... event) const {
        const std::uint64_t word = workers_[static_cast<unsigned>(phase)].load(std::memory_order_acquire);
        const std::uint64_t nth = word >> shift;
        const std::uint64_t ended = word & ended_mask;
        ensure(nth > 0, ErrorCode::state, "ForwardPass: ", event..., " when no worker had run phase ",
               phase_name(phase));
        ensure(ended == nth, ErrorCode::state, "ForwardPass: ", event..., " when ", ended, " of ", nth,
               " workers had ended phase ", phase_name(phase));
    }

private:
    static constexpr unsigned shift = 32;
    static constexpr std::uint64_t ended_mask = 0xFFFFFFFF;

    std::span<Begun> begun_;
    Phase last_ = Phase::output;
    /// Of each phase: how many workers it has in the upper half, how many have ended it in the lower.
    std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(n_phases)> workers_{};
};

}  // namespace moe::inline MOE_ABI::detail
