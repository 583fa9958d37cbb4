#include <cmath>
#include <limits>

#include "support/catch.hpp"

#include "../../benchmarks/backward/check.hpp"

namespace moe_test::backward_check_test {

using bench::backward::largest_error;
using bench::backward::Sample;

TEST_CASE("a sample is as wrong as the worst of its parts") {
    const Sample expected{{"dx", {3, 4}}, {"gate", {100, 0}}, {"up", {1e-9}}};
    CHECK(largest_error(expected, expected).nmse == 0);
    Sample computed = expected;
    computed["dx"][0] = 3.5;
    const auto dx = largest_error(computed, expected);
    CHECK(dx.name == "dx");
    CHECK(dx.nmse == 0.01);
    computed["up"][0] = -1e-9;  // small among the others, and all wrong
    const auto up = largest_error(computed, expected);
    CHECK(up.name == "up");
    CHECK(std::abs(up.nmse - 4) < 1e-12);
    computed["router"] = {5};  // what nothing is expected of
    CHECK(largest_error(computed, expected).name == "up");
}

TEST_CASE("a sample with a value that is not a number, or with too few of them, is wrong") {
    const Sample expected{{"dx", {3, 4}}, {"gate", {100, 0}}, {"up", {1}}};
    for (const char* name : {"dx", "gate", "up"}) {
        CAPTURE(name);
        Sample computed = expected;
        computed["gate"][0] = 0;  // a large error beside it does not hide it
        computed[name][0] = std::numeric_limits<double>::quiet_NaN();
        const auto nan = largest_error(computed, expected);
        CHECK(nan.name == name);
        CHECK(std::isnan(nan.nmse));
        computed = expected;
        computed[name].pop_back();
        CHECK(std::isnan(largest_error(computed, expected).nmse));
    }
    CHECK(std::isnan(largest_error({{"dx", {0}}}, {{"dx", {0}}}).nmse));  // nothing to measure by
}

}  // namespace moe_test::backward_check_test
