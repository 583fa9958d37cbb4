#include <cstddef>

#include "moe/stats/router_stats.hpp"
#include "stats/record.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"

/// No assertion stands where allocations are counted: Catch2 allocates.

namespace {

const moe_test::HandRecord<float>& hand_record() {
    static const moe_test::HandRecord<float> record = [] {
        moe_test::HandRecord<float> made(4, {{0, 1}, {2, moe::dropped(1)}, {3, 0}});
        made.logits = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
        return made;
    }();
    return record;
}

/// Allocations of ten passes that `observer` watches.
std::size_t allocations_of(moe::Observer<float>& observer) {
    const moe::RoutingRecord<float> record = hand_record().view();
    const std::size_t before = moe_test::allocations();
    for (int pass = 0; pass < 10; ++pass) {
        for (int p = 0; p < moe::n_phases; ++p) {
            observer.on_phase_begin(static_cast<moe::Phase>(p));
            observer.on_phase_end(static_cast<moe::Phase>(p));
            if (static_cast<moe::Phase>(p) == moe::Phase::plan) {
                observer.on_plan(record);
            }
        }
    }
    return moe_test::allocations() - before;
}

}  // namespace

TEST_CASE("RouterStats allocates when it is made, and never again", "[stats]") {
    moe::RouterStats<float> stats(4, {.n_logits = 4});
    moe::RouterStats<float> other(4, {.n_logits = 4});
    CHECK(allocations_of(stats) == 0);
    CHECK(stats.n_passes() == 10);
    const std::size_t before = moe_test::allocations();
    stats.next_window();
    stats.merge(other);
    stats.reset();
    const std::size_t after = moe_test::allocations();
    CHECK(after == before);
}
