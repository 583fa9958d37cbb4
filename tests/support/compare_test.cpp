#include "support/compare.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "support/catch.hpp"

namespace moe_test::compare_test {

using moe_test::difference;
using moe_test::nmse;
using moe_test::NonFinite;
using moe_test::same_bits;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();
const std::vector<double> good{1, -2, 3, 4};

std::vector<double> with(std::size_t i, double value) {
    std::vector<double> changed = good;
    changed[i] = value;
    return changed;
}

}  // namespace

TEST_CASE("nmse measures the error relative to the reference", "[compare]") {
    CHECK(nmse(good, good) == 0);
    CHECK(difference(std::vector<double>{nmse(with(0, 2), good)}, std::vector<double>{1.0 / 30}, 1e-17) == "");
    CHECK(nmse(std::vector<float>{1, -2, 3, 4}, good) == 0);
    CHECK(nmse(std::vector<double>{}, std::vector<double>{}) == 0);
    CHECK(nmse(std::vector<double>{0, 0}, std::vector<double>{0, 0}) == 0);
    CHECK(nmse(std::vector<double>{0, 1e-30}, std::vector<double>{0, 0}) == inf);
}

TEST_CASE("nmse sees swapped rows", "[compare]") {
    const std::vector<double> swapped{3, 4, 1, -2};
    CHECK(nmse(swapped, good) > 1);
}

TEST_CASE("no comparator lets NaN or infinity pass, on either side or on both", "[compare]") {
    for (const double bad : {not_a_number, inf, -inf}) {
        for (std::size_t i = 0; i < good.size(); ++i) {
            const std::vector<double> changed = with(i, bad);
            CHECK_FALSE(nmse(changed, good) <= inf);
            CHECK_FALSE(nmse(good, changed) <= inf);
            CHECK_FALSE(nmse(changed, changed) <= inf);
            CHECK_FALSE(same_bits(changed, good));
            CHECK_FALSE(same_bits(good, changed));
            CHECK_FALSE(same_bits(changed, changed));
            CHECK_FALSE(same_bits(good, changed, NonFinite::allow));
            CHECK(same_bits(changed, changed, NonFinite::allow));
            CHECK(difference(changed, good, inf) != "");
            CHECK(difference(good, changed, inf) != "");
            CHECK(difference(changed, changed, inf) != "");
        }
    }
}

TEST_CASE("no comparator lets a difference in size pass", "[compare]") {
    const std::vector<double> shorter(good.begin(), good.end() - 1);
    CHECK_FALSE(nmse(shorter, good) <= inf);
    CHECK_FALSE(nmse(good, shorter) <= inf);
    CHECK_FALSE(nmse(std::vector<double>{}, good) <= inf);
    CHECK_FALSE(same_bits(shorter, good));
    CHECK_FALSE(same_bits(good, shorter, NonFinite::allow));
    CHECK(difference(shorter, good, 100) == "3 values instead of 4");
}

TEST_CASE("same_bits sees the sign of zero and the last bit", "[compare]") {
    CHECK(same_bits(good, good));
    CHECK(same_bits(std::vector<float>{}, std::vector<float>{}));
    CHECK_FALSE(same_bits(with(1, 0.0), with(1, -0.0)));
    CHECK_FALSE(same_bits(with(1, std::nextafter(-2.0, 0.0)), good));
    CHECK_FALSE(same_bits(std::vector<double>{3, 4, 1, -2}, good));
}

TEST_CASE("difference names the element, both values and the bound", "[compare]") {
    CHECK(difference(good, good, 0) == "");
    CHECK(difference(with(2, 3.25), good, 0.25) == "");
    CHECK(difference(with(2, 3.5), good, 0.25) == "element 2 is 3.5 instead of 3, allowed is 0.25");
    CHECK(difference(with(2, 3.5), good, not_a_number) != "");
}

TEST_CASE("rounding_bound is k half-epsilons, and holds for a sum", "[compare]") {
    CHECK(std::abs(moe_test::rounding_bound<float>(1, 1.0) - 0x1p-24) < 1e-14);
    CHECK(std::abs(moe_test::rounding_bound<double>(10, 3.0) - 30 * 0x1p-53) < 1e-28);
    CHECK(moe_test::rounding_bound<float>(std::size_t{1} << 24U, 1.0) == inf);

    float sum = 0;
    double exact = 0;
    for (int i = 1; i <= 1000; ++i) {
        sum += 1.0F / static_cast<float>(i);
        exact += static_cast<double>(1.0F / static_cast<float>(i));
    }
    const double error = std::abs(static_cast<double>(sum) - exact);
    CHECK(error > 0);
    CHECK(error <= moe_test::rounding_bound<float>(1000, exact));
}

}  // namespace moe_test::compare_test
