#include "moe/parallel/countdown.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "support/catch.hpp"
#include "support/executors.hpp"

namespace moe_test::countdown_test {

TEST_CASE("who waits for a countdown sees what all tasks wrote", "[countdown]") {
    constexpr std::size_t n_tasks = 5;
    for (int repeat = 0; repeat < 200; ++repeat) {
        moe::Countdown left(n_tasks);
        std::vector<std::size_t> written(n_tasks);  // plain memory: a data race would be found by the thread sanitizer
        std::vector<std::size_t> seen(3);
        moe_test::ThreadExecutor(n_tasks + seen.size()).run([&](std::size_t ith, std::size_t) {
            if (ith < n_tasks) {
                written[ith] = ith + 1;
                left.done();
            } else {
                left.wait();
                for (const std::size_t value : written) {
                    seen[ith - n_tasks] += value;
                }
            }
        });
        REQUIRE(seen == std::vector<std::size_t>(3, 15));
    }
}

TEST_CASE("nobody waits for a countdown without tasks", "[countdown]") {
    const moe::Countdown none(0);
    std::size_t returned = 0;
    for (int repeat = 0; repeat < 2; ++repeat) {
        none.wait();
        ++returned;
    }
    CHECK(returned == 2);
}

TEST_CASE("the last task of a countdown, and no other, is told that it is", "[countdown]") {
    moe::Countdown left(3);
    CHECK_FALSE(left.done());
    CHECK_FALSE(left.done());
    CHECK(left.done());
    left.wait();
    for (int repeat = 0; repeat < 200; ++repeat) {
        moe::Countdown together(8);
        std::vector<int> last(8);
        moe_test::ThreadExecutor(8).run([&](std::size_t ith, std::size_t) { last[ith] = together.done() ? 1 : 0; });
        REQUIRE(std::count(last.begin(), last.end(), 1) == 1);
    }
}

}  // namespace moe_test::countdown_test
