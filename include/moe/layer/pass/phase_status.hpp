#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <string_view>
#include <utility>

#include "../../core/error.hpp"

namespace moe::inline MOE_ABI {

/// What became of a phase that a host ran without exceptions: see BasicForwardPass::try_run_phase.
struct PhaseStatus {
    bool ok = true;
    ErrorCode code{};                 ///< if not ok
    std::array<char, 240> message{};  ///< of the error, cut off where it is longer; ends with a 0

    [[nodiscard]] explicit operator bool() const noexcept { return ok; }

    [[nodiscard]] static PhaseStatus failed(ErrorCode code, std::string_view text) noexcept {
        PhaseStatus status{false, code, {}};
        std::copy_n(text.begin(), (std::min)(text.size(), status.message.size() - 1), status.message.begin());
        return status;
    }

#if MOE_EXCEPTIONS
    /// Of the exception that is being handled.
    [[nodiscard]] static PhaseStatus of_exception() noexcept {
        try {
            throw;
        } catch (const Error& error) {
            return failed(error.code(), error.what());
        } catch (const std::exception& error) {
            return failed(ErrorCode::foreign, error.what());
        } catch (...) {
            return failed(ErrorCode::foreign, "an exception that is no std::exception");
        }
    }
#endif
};

namespace detail {

/// The first failure of the workers of a pass. Movable while none runs.
class FirstFailure {
public:
    FirstFailure() = default;
    FirstFailure(FirstFailure&& other) noexcept { *this = std::move(other); }
    FirstFailure& operator=(FirstFailure&& other) noexcept {
        state_.store(other.state_.load(std::memory_order_relaxed), std::memory_order_relaxed);
        status_ = other.status_;
        return *this;
    }
    FirstFailure(const FirstFailure&) = delete;
    FirstFailure& operator=(const FirstFailure&) = delete;
    ~FirstFailure() = default;

    void keep(const PhaseStatus& status) noexcept {
        State none = State::none;
        if (state_.compare_exchange_strong(none, State::being_told, std::memory_order_relaxed)) {
            status_ = status;
            state_.store(State::told, std::memory_order_release);
        }
    }

    /// Throws an Error that repeats the failure, if there was one.
    void ensure_none() const {
        const State state = state_.load(std::memory_order_acquire);
        if (state != State::none) [[unlikely]] {
            raise_error(state == State::told ? status_.code : ErrorCode::state,
                        "ForwardPass: a worker failed, the pass is over: ",
                        state == State::told ? status_.message.data() : "at this moment");
        }
    }

private:
    enum class State : unsigned char { none, being_told, told };

    std::atomic<State> state_{State::none};
    PhaseStatus status_;
};

}  // namespace detail

}  // namespace moe::inline MOE_ABI
