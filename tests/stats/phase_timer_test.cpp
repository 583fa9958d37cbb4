#include <moe/stats/phase_timer.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "layer/pass/concurrency.hpp"
#include "moe/core/random.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::phase_timer_test {

namespace {

using std::chrono::nanoseconds;

bool near(double a, double b) { return std::abs(a - b) <= 1e-12 * std::abs(b); }

/// Moves on when told to.
struct HandClock {
    using duration = nanoseconds;
    using time_point = std::chrono::time_point<HandClock>;
    static inline nanoseconds time{0};
    static time_point now() { return time_point(time); }
};

using Timer = moe::PhaseTimer<float, HandClock>;

void run_phase(Timer& timer, moe::Phase phase, std::int64_t ns) {
    timer.on_phase_begin(phase);
    HandClock::time += nanoseconds(ns);
    timer.on_phase_end(phase);
}

}  // namespace

TEST_CASE("LatencyHistogram is exact for few small times", "[stats]") {
    moe::LatencyHistogram times;
    for (const int ns : {3, 1, 4, 2, 30, 31, 5, 6, 7, 8}) {
        times.add(nanoseconds(ns));
    }
    CHECK(times.count() == 10);
    CHECK(near(times.total(), 97e-9));
    CHECK(near(times.mean(), 9.7e-9));
    CHECK(near(times.shortest(), 1e-9));
    CHECK(near(times.longest(), 31e-9));
    CHECK(near(times.quantile(0.5), 5e-9));  // sorted 1 2 3 4 5 6 7 8 30 31
    CHECK(near(times.quantile(0.51), 6e-9));
    CHECK(near(times.quantile(0.9), 30e-9));
    CHECK(near(times.quantile(0.99), 31e-9));
    CHECK(near(times.quantile(0), 1e-9));
    CHECK(near(times.quantile(1), 31e-9));
}

TEST_CASE("LatencyHistogram: buckets above 32 ns are 1/32 wide, a quantile is its middle", "[stats]") {
    moe::LatencyHistogram times;
    times.add(nanoseconds(100));  // of 64..127, cut into steps of 2: 100 and 101
    times.add(nanoseconds(1000));
    CHECK(near(times.quantile(0.5), 100.5e-9));
    moe::LatencyHistogram single;
    single.add(nanoseconds(100));
    CHECK(near(single.quantile(0.5), 100e-9));  // never outside min and max
}

TEST_CASE("LatencyHistogram: quantiles of any times are within 1/64", "[stats]") {
    moe::LatencyHistogram times;
    std::vector<double> sorted;
    for (std::uint64_t i = 0; i < 5000; ++i) {
        const double ns = std::floor(std::exp2(39.9 * static_cast<double>(moe::random_uniform(1, i))));
        times.add(nanoseconds(static_cast<std::int64_t>(ns)));
        sorted.push_back(ns * 1e-9);
    }
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t rank = 1; rank <= sorted.size(); rank += 7) {
        const double exact = sorted[rank - 1];
        const double found = times.quantile((static_cast<double>(rank) - 0.5) / static_cast<double>(sorted.size()));
        CHECK(std::abs(found - exact) <= exact / 64);
    }
}

TEST_CASE("LatencyHistogram: the ends of time, and nothing timed", "[stats]") {
    moe::LatencyHistogram times;
    for (const double value : {times.mean(), times.shortest(), times.longest(), times.quantile(0.5)}) {
        CHECK(std::isnan(value));
    }
    CHECK(times.total() == 0);
    times.add(nanoseconds(-5));
    CHECK(times.longest() == 0);
    times.add(nanoseconds::max());
    CHECK(near(times.longest(), 9223372036.854775807));
    CHECK(times.quantile(0.5) == 0);
    CHECK(near(times.quantile(1), std::exp2(40.0) * 1e-9 * (1 - 1.0 / 128)));  // the middle of the last bucket, to 1 ns
}

TEST_CASE("LatencyHistogram merges, forgets, and refuses quantiles that are none", "[stats]") {
    moe::LatencyHistogram left;
    moe::LatencyHistogram right;
    left.add(nanoseconds(10));
    right.add(nanoseconds(20));
    right.add(nanoseconds(2));
    left.merge(right);
    left.merge(moe::LatencyHistogram());
    CHECK(left.count() == 3);
    CHECK(near(left.total(), 32e-9));
    CHECK(near(left.shortest(), 2e-9));
    CHECK(near(left.quantile(0.5), 10e-9));
    CHECK(near(left.longest(), 20e-9));
    left.reset();
    CHECK(left.count() == 0);
    CHECK(std::isnan(left.shortest()));
    CHECK(moe_test::error_of([&] { (void)right.quantile(1.5); }).text ==
          "LatencyHistogram: quantile 1.5 lies outside 0..1");
    CHECK(moe_test::error_of([&] { (void)right.quantile(std::nan("")); }).code == moe::ErrorCode::range);
}

TEST_CASE("PhaseTimer times each phase and the pass around them", "[stats]") {
    Timer timer;
    for (int pass = 0; pass < 2; ++pass) {
        for (int p = 0; p < moe::n_phases; ++p) {
            run_phase(timer, static_cast<moe::Phase>(p), 10 + p);
            HandClock::time += nanoseconds(1);
        }
    }
    run_phase(timer, moe::Phase::logits, 20);  // a pass that ends here
    CHECK(timer.phase(moe::Phase::logits).count() == 3);
    CHECK(near(timer.phase(moe::Phase::logits).longest(), 20e-9));
    CHECK(near(timer.phase(moe::Phase::output).mean(), 14e-9));
    CHECK(timer.pass().count() == 2);
    CHECK(near(timer.pass().mean(), (10 + 11 + 12 + 13 + 14 + 4) * 1e-9));
    Timer other;
    run_phase(other, moe::Phase::output, 30);  // without a begin of the pass
    CHECK(other.pass().count() == 0);
    timer.merge(other);
    CHECK(timer.phase(moe::Phase::output).count() == 3);
    timer.reset();
    CHECK(timer.phase(moe::Phase::output).count() == 0);
    CHECK(timer.pass().count() == 0);
}

TEST_CASE("PhaseTimer watches a layer: phases fit in the pass, and the pass in the call", "[stats]") {
    const moe_test::LayerCase<float> layer_case(moe_test::shared_layer_shape(), 7);
    const auto layer = layer_case.layer(moe::TokenChoice<moe::Softmax>{.top_k = 2});
    moe_test::Draw draw(8);
    moe_test::Batch<float> batch(draw, 30, layer.d_model());
    const auto x = moe::view(std::as_const(batch.x).data(), 30, layer.d_model());
    moe::Workspace workspace;
    moe::PhaseTimer<float> timer;
    moe::ForwardOptions<float> options;
    options.observer = &timer;
    const auto begin = std::chrono::steady_clock::now();
    layer.forward(x, moe::view(batch.y.data(), 30, layer.d_model()), workspace, moe::SerialExecutor{}, options);
    const std::chrono::duration<double> call = std::chrono::steady_clock::now() - begin;
    double sum = 0;
    for (int p = 0; p < moe::n_phases; ++p) {
        CHECK(timer.phase(static_cast<moe::Phase>(p)).count() == 1);
        sum += timer.phase(static_cast<moe::Phase>(p)).total();
    }
    CHECK(timer.pass().count() == 1);
    CHECK(sum > 0);
    CHECK(sum <= timer.pass().total() * (1 + 1e-9));
    CHECK(timer.pass().total() <= call.count() * (1 + 1e-9));
}

}  // namespace moe_test::phase_timer_test
