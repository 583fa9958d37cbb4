#include <array>
#include <cstddef>
#include <cstdint>

#include "moe/stats/co_activation.hpp"
#include "moe/stats/observers.hpp"
#include "moe/stats/phase_timer.hpp"
#include "moe/stats/router_stats.hpp"
#include "moe/stats/specialisation.hpp"
#include "stats/record.hpp"
#include "support/catch.hpp"
#include "support/counting_allocator.hpp"

namespace moe_test::allocation_test {

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

/// Allocations of ten passes that `observer` watches, each after a call of `before_pass`.
template <class BeforePass>
std::size_t allocations_of(moe::Observer<float>& observer, const BeforePass& before_pass) {
    const moe::RoutingRecord<float> record = hand_record().view();
    const std::size_t before = moe_test::allocations();
    for (int pass = 0; pass < 10; ++pass) {
        before_pass();
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
    CHECK(allocations_of(stats, [] {}) == 0);
    CHECK(stats.n_passes() == 10);
    const std::size_t before = moe_test::allocations();
    stats.next_window();
    stats.merge(other);
    stats.reset();
    const std::size_t after = moe_test::allocations();
    CHECK(after == before);
}

TEST_CASE("the other observers allocate when they are made, and never again", "[stats]") {
    const std::array<std::int32_t, 3> classes{0, 1, 0};
    moe::CoActivation<float> pairs(4);
    moe::Specialisation<float> by_class(4, 2);
    moe::PhaseTimer<float> timer;
    moe::Observers<float> all{&pairs, &by_class, &timer};
    CHECK(allocations_of(all, [&] { by_class.set_classes(classes); }) == 0);
    CHECK(pairs.counts()(0, 0) == 20);
    CHECK(by_class.tokens()[1] == 10);
    CHECK(timer.pass().count() == 10);
}

}  // namespace moe_test::allocation_test
