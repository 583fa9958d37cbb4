#pragma once

#include <atomic>
#include <concepts>
#include <cstddef>
#include <exception>

#include "../core/error.hpp"
#include "../core/float_environment.hpp"
#include "../core/function_ref.hpp"

namespace moe::inline MOE_ABI {

/// The work of one parallel region: called as work(ith, nth) by worker `ith` of `nth`.
using ParallelWork = FunctionRef<void(std::size_t ith, std::size_t nth)>;

/// Anything that runs work on several threads at once. `run(work)` calls work(ith, nth) exactly once for every ith
/// below some nth of its choice, 1 <= nth <= concurrency(), possibly at the same time, and returns when all calls have.
/// The work it is given never throws. Results do not depend on nth or on who does what.
template <class E>
concept Executor = requires(const E& executor, ParallelWork work) {
    { executor.concurrency() } -> std::convertible_to<std::size_t>;
    executor.run(work);
};

/// Does everything in the calling thread.
struct SerialExecutor {
    [[nodiscard]] static constexpr std::size_t concurrency() noexcept { return 1; }
    static void run(ParallelWork work) { work(0, 1); }
};

namespace detail {

/// More workers than any machine runs: such a number is a negative one.
inline constexpr std::size_t max_concurrency = std::size_t{1} << 20U;

[[nodiscard]] inline std::size_t checked_concurrency(std::size_t concurrency) {
    ensure(concurrency >= 1 && concurrency <= max_concurrency, ErrorCode::range, "executor: concurrency() is ",
           static_cast<std::ptrdiff_t>(concurrency), ", it must lie in 1..", max_concurrency);
    return concurrency;
}

}  // namespace detail

/// Any executor by reference, so that the code behind it is compiled once.
class ExecutorRef {
public:
    /// Throws Error(range) for a concurrency of 0, a negative one, or one of more than a million.
    template <class E>
        requires(!std::same_as<E, ExecutorRef> && Executor<E>)
    ExecutorRef(const E& executor)  // NOLINT: implicit, an executor is passed as it is
        : executor_(&executor),
          concurrency_(detail::checked_concurrency(static_cast<std::size_t>(executor.concurrency()))),
          run_([](const void* object, ParallelWork work) { static_cast<const E*>(object)->run(work); }) {}

    [[nodiscard]] std::size_t concurrency() const noexcept { return concurrency_; }

    /// Runs `work` on the executor, each worker in the FloatEnvironment of the library. An exception of a worker is
    /// kept (the first one) and rethrown here when all are done. Throws Error(missing) if the executor returns and has
    /// called nobody: what was to be computed is not.
    void run(ParallelWork work) const {
        std::atomic<bool> started{false};
#if MOE_EXCEPTIONS
        std::exception_ptr first;
        std::atomic_flag failed;
        auto guarded = [&](std::size_t ith, std::size_t nth) {
            started.store(true, std::memory_order_relaxed);
            const FloatEnvironment environment;
            try {
                work(ith, nth);
            } catch (...) {
                if (!failed.test_and_set()) {
                    first = std::current_exception();
                }
            }
        };
        run_(executor_, guarded);
        if (first) {
            std::rethrow_exception(first);
        }
#else
        auto counted = [&](std::size_t ith, std::size_t nth) {
            started.store(true, std::memory_order_relaxed);
            const FloatEnvironment environment;
            work(ith, nth);
        };
        run_(executor_, counted);
#endif
        ensure(started.load(std::memory_order_relaxed), ErrorCode::missing,
               "executor: run(work) returned without calling work(ith, nth), for every ith below an nth of 1..",
               concurrency_);
    }

private:
    const void* executor_;
    std::size_t concurrency_;
    void (*run_)(const void*, ParallelWork);
};

/// Tasks 0..n-1 of one parallel region, taken in order by whichever worker is free.
class TaskQueue {
public:
    TaskQueue() = default;
    /// Between regions.
    TaskQueue(TaskQueue&& other) noexcept : next_(other.next_.load(std::memory_order_relaxed)) {}
    TaskQueue& operator=(TaskQueue&& other) noexcept {
        next_.store(other.next_.load(std::memory_order_relaxed), std::memory_order_relaxed);
        return *this;
    }
    TaskQueue(const TaskQueue&) = delete;
    TaskQueue& operator=(const TaskQueue&) = delete;
    ~TaskQueue() = default;

    /// The next task, or `n_tasks` (or more) when none is left.
    [[nodiscard]] std::size_t take() noexcept { return next_.fetch_add(1, std::memory_order_relaxed); }

    /// To be called between regions, by one thread.
    void reset() noexcept { next_.store(0, std::memory_order_relaxed); }

private:
    std::atomic<std::size_t> next_{0};
};

}  // namespace moe::inline MOE_ABI
