#include "moe/kernels/math.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/lanes.hpp"

namespace moe_test::math_test {

namespace {

using moe_test::map_scalars;
using moe_test::map_vectors;

/// The greatest |value - exact(x)|, relative to |exact(x)| where that exceeds `floor`, in units of the last place of T.
template <class T, class Function, class Exact>
double error_in_ulps(const std::vector<T>& x, const Function& function, const Exact& exact, double floor) {
    const std::vector<T> vectors = map_vectors(x, function);
    const std::vector<T> scalars = map_scalars(x, function);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const long double expected = exact(static_cast<long double>(x[i]));
        const long double unit =
            std::max(std::abs(expected), static_cast<long double>(floor)) * std::numeric_limits<T>::epsilon();
        for (const T value : {vectors[i], scalars[i]}) {
            const double error = static_cast<double>(std::abs(static_cast<long double>(value) - expected) / unit);
            worst = error <= worst ? worst : error;  // takes a NaN
        }
    }
    return worst;
}

long double sigmoid(long double x) { return 1 / (1 + std::exp(-x)); }

const auto exp_of = [](const auto& v) { return moe::math::exp(v); };
const auto tanh_of = [](const auto& v) { return moe::math::tanh(v); };
const auto erf_of = [](const auto& v) { return moe::math::erf(v); };
const auto sigmoid_of = [](const auto& v) { return moe::math::sigmoid(v); };

template <class T>
void check_accuracy(double erf_limit) {
    const std::vector<T> x = moe_test::sample<T>(20);
    constexpr double tiny = 1e-30;
    CHECK(error_in_ulps(
              x, exp_of, [](long double v) { return std::exp(v); }, tiny) < 2);
    CHECK(error_in_ulps(
              x, tanh_of, [](long double v) { return std::tanh(v); }, tiny) < 4);
    CHECK(error_in_ulps(
              x, erf_of, [](long double v) { return std::erf(v); }, tiny) < erf_limit);
    CHECK(error_in_ulps(x, sigmoid_of, sigmoid, tiny) < 4);
}

/// Whether a lane's result depends on what stands in the other lanes: xsimd branches on them.
template <class T, class Function>
bool lanes_are_independent(const Function& function) {
    const std::vector<T> mixed = moe_test::sample<T>(20);
    std::vector<T> spread;
    for (const T value : mixed) {
        spread.insert(spread.end(), moe::lanes<T>, value);
    }
    const std::vector<T> together = map_vectors(mixed, function);
    const std::vector<T> apart = map_vectors(spread, function);
    for (std::size_t i = 0; i < mixed.size(); ++i) {
        if (together[i] != apart[i * moe::lanes<T>]) {
            return false;
        }
    }
    return true;
}

template <class T>
void check_special_values() {
    constexpr T inf = std::numeric_limits<T>::infinity();
    constexpr T nan = std::numeric_limits<T>::quiet_NaN();
    const std::vector<T> x{nan, inf, -inf, T(1000), T(-1000), T(0), nan};
    const auto check = [&](const std::string& name, const auto& function, const std::vector<T>& expected) {
        for (const std::vector<T>& y : {map_vectors(x, function), map_scalars(x, function)}) {
            for (std::size_t i = 0; i < x.size(); ++i) {
                INFO(name << " of " << x[i] << " is " << y[i]);
                CHECK((std::isnan(expected[i]) ? std::isnan(y[i]) : y[i] == expected[i]));
            }
        }
    };
    check("exp", exp_of, {nan, inf, 0, inf, 0, 1, nan});
    check("tanh", tanh_of, {nan, 1, -1, 1, -1, 0, nan});
    check("erf", erf_of, {nan, 1, -1, 1, -1, 0, nan});
    check("sigmoid", sigmoid_of, {nan, 1, 0, 1, 0, T(0.5), nan});
    check("at_most", [](const auto& v) { return moe::math::at_most(v, 7.0); }, {nan, 7, -inf, 7, -1000, 0, nan});
    check("at_least", [](const auto& v) { return moe::math::at_least(v, -7.0); }, {nan, inf, -7, 1000, -7, 0, nan});
}

}  // namespace

TEST_CASE("exp, tanh, erf and sigmoid are right to a few units of the last place", "[math]") {
    check_accuracy<float>(4);
    check_accuracy<double>(40);  // 7e-15: the polynomial of xsimd
}

TEST_CASE("a lane does not depend on its neighbours", "[math]") {
    CHECK(lanes_are_independent<float>(exp_of));
    CHECK(lanes_are_independent<float>(tanh_of));
    CHECK(lanes_are_independent<float>(erf_of));
    CHECK(lanes_are_independent<float>(sigmoid_of));
    CHECK(lanes_are_independent<double>(exp_of));
    CHECK(lanes_are_independent<double>(tanh_of));
    CHECK(lanes_are_independent<double>(erf_of));
    CHECK(lanes_are_independent<double>(sigmoid_of));
}

TEST_CASE("NaN goes through every function, infinities have their limits", "[math]") {
    check_special_values<float>();
    check_special_values<double>();
}

TEST_CASE("a NaN in one lane leaves the other lanes alone", "[math]") {
    const auto function = [](const auto& v) { return moe::math::sigmoid(moe::math::at_most(v, 3.0)); };
    std::vector<float> x(moe::lanes<float>, 0.25F);
    const std::vector<float> clean = map_vectors(x, function);
    for (std::size_t i = 0; i < x.size(); ++i) {
        std::vector<float> dirty = x;
        dirty[i] = std::numeric_limits<float>::quiet_NaN();
        const std::vector<float> y = map_vectors(dirty, function);
        for (std::size_t j = 0; j < x.size(); ++j) {
            CHECK((j == i ? std::isnan(y[j]) : y[j] == clean[j]));
        }
    }
}

}  // namespace moe_test::math_test
