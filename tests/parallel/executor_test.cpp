#include "moe/parallel/executor.hpp"

#include <atomic>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "moe/parallel/openmp.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::executor_test {

namespace {

static_assert(moe::Executor<moe::SerialExecutor> && moe::Executor<moe_test::ThreadExecutor> &&
              moe::Executor<moe_test::ReversedExecutor> && !moe::Executor<int>);

/// How often each worker was called, and the nth they were told; nothing is asserted inside.
struct Calls {
    std::vector<std::atomic<int>> of_worker = std::vector<std::atomic<int>>(64);
    std::atomic<std::size_t> least_nth{1000};
    std::atomic<std::size_t> greatest_nth{0};

    void operator()(std::size_t ith, std::size_t nth) {
        ++of_worker.at(ith);
        for (std::size_t seen = least_nth; nth < seen && !least_nth.compare_exchange_weak(seen, nth);) {
        }
        for (std::size_t seen = greatest_nth; nth > seen && !greatest_nth.compare_exchange_weak(seen, nth);) {
        }
    }
};

template <class E>
void check_calls(const E& executor, std::size_t concurrency) {
    const moe::ExecutorRef ref(executor);
    CHECK(ref.concurrency() == concurrency);
    for (int repeat = 0; repeat < 20; ++repeat) {
        Calls calls;
        ref.run(calls);
        const std::size_t nth = calls.greatest_nth;
        REQUIRE(nth == calls.least_nth);
        REQUIRE(nth >= 1);
        REQUIRE(nth <= concurrency);
        for (std::size_t ith = 0; ith < calls.of_worker.size(); ++ith) {
            REQUIRE(calls.of_worker[ith] == (ith < nth ? 1 : 0));
        }
    }
}

/// The workers of `bad` throw; the caller gets one of their exceptions, after all workers are done.
template <class E>
void check_exceptions(const E& executor, std::size_t concurrency) {
    const moe::ExecutorRef ref(executor);
    for (std::size_t only = 0; only < concurrency; ++only) {
        std::atomic<std::size_t> finished{0};
        std::string caught;
        try {
            ref.run([&](std::size_t ith, std::size_t) {
                if (ith == only) {
                    ++finished;
                    throw std::runtime_error("worker " + std::to_string(ith));
                }
                std::this_thread::yield();
                ++finished;
            });
        } catch (const std::runtime_error& error) {
            caught = error.what();
        }
        CHECK(caught == "worker " + std::to_string(only));
        CHECK(finished == concurrency);
    }
    std::atomic<int> thrown{0};
    CHECK_THROWS_AS(ref.run([&](std::size_t, std::size_t) {
        ++thrown;
        throw std::logic_error("all of them");
    }),
                    std::logic_error);
    CHECK(thrown == static_cast<int>(concurrency));
    // and the executor works on
    std::atomic<std::size_t> calls{0};
    ref.run([&](std::size_t, std::size_t) { ++calls; });
    CHECK(calls == concurrency);
}

}  // namespace

TEST_CASE("every executor calls each worker exactly once", "[executor]") {
    check_calls(moe::SerialExecutor{}, 1);
    for (std::size_t n = 1; n <= moe_test::twice_the_threads(); ++n) {
        check_calls(moe_test::ThreadExecutor(n), n);
        check_calls(moe_test::ThreadExecutor(n + 3, n), n + 3);
        check_calls(moe_test::ReversedExecutor(n), n);
    }
}

TEST_CASE("an exception in a worker reaches the caller once all are done", "[executor]") {
    check_exceptions(moe::SerialExecutor{}, 1);
    check_exceptions(moe_test::ThreadExecutor(5), 5);
    check_exceptions(moe_test::ReversedExecutor(4), 4);
}

#if defined(_OPENMP)
TEST_CASE("OpenMpExecutor runs its workers and lets no exception escape a thread", "[executor]") {
    omp_set_dynamic(0);  // else fewer threads than asked for would be right, too
    for (int n = 1; n <= static_cast<int>(moe_test::twice_the_threads()); ++n) {
        check_calls(moe::OpenMpExecutor(n), static_cast<std::size_t>(n));
        check_exceptions(moe::OpenMpExecutor(n), static_cast<std::size_t>(n));
    }
}

TEST_CASE("OpenMpExecutor counts fewer than one thread as one, and has a default", "[executor]") {
    CHECK(moe::OpenMpExecutor(0).concurrency() == 1);
    CHECK(moe::OpenMpExecutor(-3).concurrency() == 1);
    CHECK(moe::OpenMpExecutor().concurrency() == static_cast<std::size_t>(omp_get_max_threads()));
    check_calls(moe::OpenMpExecutor(-3), 1);
}

TEST_CASE("OpenMpExecutor of one thread makes no team, which would allocate", "[executor]") {
    int level = -1;
    moe::OpenMpExecutor(1).run([&](std::size_t, std::size_t) { level = omp_get_level(); });
    CHECK(level == 0);
    moe::OpenMpExecutor(2).run([&](std::size_t ith, std::size_t) { level = ith == 0 ? omp_get_level() : level; });
    CHECK(level == 1);
}
#endif

namespace {

template <class Number>
struct Counted {
    Number number;
    [[nodiscard]] Number concurrency() const { return number; }
    void run(moe::ParallelWork work) const { work(0, 1); }
};

struct Idle {
    static std::size_t concurrency() { return 4; }
    static void run(moe::ParallelWork) {}
};

template <class E>
void check_refused(const E& executor, const std::string& number) {
    const auto error = moe_test::error_of([&] { (void)moe::ExecutorRef(executor); });
    CHECK(error.code == moe::ErrorCode::range);
    CHECK_THAT(error.text, moe_test::contains("executor: concurrency() is " + number));
}

}  // namespace

TEST_CASE("an executor of a number of threads that cannot be is named", "[executor][errors]") {
    check_refused(Counted<int>{-1}, "-1,");
    check_refused(Counted<int>{0}, "0,");
    check_refused(Counted<long>{-1}, "-1,");
    check_refused(Counted<std::size_t>{static_cast<std::size_t>(-1)}, "-1,");
    check_refused(Counted<unsigned>{static_cast<unsigned>(-1)}, "4294967295,");
    CHECK(moe::ExecutorRef(Counted<int>{3}).concurrency() == 3);
}

TEST_CASE("an executor that runs nobody is named, for else what was to be computed would be what it was before",
          "[executor][errors]") {
    const auto error = moe_test::error_of([] { moe::ExecutorRef(Idle{}).run([](std::size_t, std::size_t) {}); });
    CHECK(error.code == moe::ErrorCode::missing);
    CHECK_THAT(error.text, moe_test::contains("without calling work(ith, nth)") && moe_test::contains("1..4"));
}

TEST_CASE("a task queue hands out every task once", "[executor]") {
    constexpr std::size_t n_tasks = 5000;
    moe::TaskQueue queue;
    for (int round = 0; round < 3; ++round) {
        std::vector<std::atomic<int>> taken(n_tasks);
        moe_test::ThreadExecutor(4).run([&](std::size_t, std::size_t) {
            for (std::size_t task = queue.take(); task < n_tasks; task = queue.take()) {
                ++taken[task];
            }
        });
        std::size_t once = 0;
        for (const std::atomic<int>& count : taken) {
            once += count == 1;
        }
        CHECK(once == n_tasks);
        CHECK(queue.take() >= n_tasks);
        queue.reset();
    }
}

}  // namespace moe_test::executor_test
