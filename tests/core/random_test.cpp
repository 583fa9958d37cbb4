#include "moe/core/random.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "support/catch.hpp"

namespace moe_test::random_test {

using moe::random_bits;
using moe::random_gumbel;
using moe::random_normal;
using moe::random_open_uniform;
using moe::random_stream;
using moe::random_uniform;

namespace {

constexpr std::size_t n_draws = 100000;

template <class Draw>
std::vector<double> draws(const Draw& draw) {
    std::vector<double> values(n_draws);
    for (std::size_t i = 0; i < n_draws; ++i) {
        values[i] = draw(i);
    }
    return values;
}

/// Largest distance between the distribution of the values and `distribution`.
template <class Distribution>
double kolmogorov_distance(std::vector<double> values, const Distribution& distribution) {
    std::sort(values.begin(), values.end());
    double distance = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double expected = distribution(values[i]);
        distance = std::max({distance, std::abs(expected - static_cast<double>(i) / n_draws),
                             std::abs(static_cast<double>(i + 1) / n_draws - expected)});
    }
    return distance;
}

/// Exceeded once in a million samples of this size: P(distance > d) <= 2 exp(-2 n d^2), Dvoretzky, Kiefer and
/// Wolfowitz with the constant of Massart 1990.
double kolmogorov_bound() { return std::sqrt(std::log(2e6) / (2.0 * n_draws)); }

double mean_of(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) {
        sum += value;
    }
    return sum / n_draws;
}

}  // namespace

TEST_CASE("random_bits gives the sequence of SplitMix64", "[random]") {
    // seed 0 and 1234567: the first values of the generator of Steele, Lea and Flood
    CHECK(random_bits(0, 0) == 0xE220A8397B1DCDAFULL);
    CHECK(random_bits(0, 1) == 0x6E789E6AA1B965F4ULL);
    CHECK(random_bits(0, 2) == 0x06C45D188009454FULL);
    CHECK(random_bits(0, 3) == 0xF88BB8A8724C81ECULL);
    CHECK(random_bits(1234567, 0) == 6457827717110365317ULL);
    CHECK(random_bits(1234567, 1) == 3203168211198807973ULL);
    CHECK(random_bits(1234567, 2) == 9817491932198370423ULL);
    CHECK(random_bits(1234567, 3) == 4593380528125082431ULL);
    CHECK(random_bits(1234567, 4) == 16408922859458223821ULL);
}

TEST_CASE("random_bits can jump and wraps around", "[random]") {
    CHECK(random_bits(42, 1000000000000ULL) == 0x2FD6AB638429D3D7ULL);
    CHECK(random_bits(42, std::numeric_limits<std::uint64_t>::max()) == 0xA759EA27D4727622ULL);
}

TEST_CASE("random_uniform lies in [0, 1) and uses the upper 24 bits", "[random]") {
    CHECK(random_uniform(0, 0) == static_cast<float>(0xE220A8) / 16777216.0F);
    float least = 1;
    float greatest = 0;
    double sum = 0;
    constexpr int n = 100000;
    for (int i = 0; i < n; ++i) {
        const float value = random_uniform(7, static_cast<std::uint64_t>(i));
        least = value < least ? value : least;
        greatest = value > greatest ? value : greatest;
        sum += static_cast<double>(value);
    }
    CHECK(least >= 0.0F);
    CHECK(least < 0.001F);
    CHECK(greatest > 0.999F);
    CHECK(greatest < 1.0F);
    CHECK(sum / n == Approx(0.5).margin(0.005));  // five standard deviations
}

TEST_CASE("random_open_uniform is never 0 or 1", "[random]") {
    CHECK(random_stream(5, 6) == random_bits(5, 6));
    CHECK(random_open_uniform(0, 0) == (static_cast<double>(0xE220A8397B1DCULL) + 0.5) * 0x1p-52);
    const std::vector<double> values = draws([](std::size_t i) { return random_open_uniform(3, i); });
    CHECK(*std::min_element(values.begin(), values.end()) > 0);
    CHECK(*std::max_element(values.begin(), values.end()) < 1);
    CHECK(kolmogorov_distance(values, [](double x) { return x; }) < kolmogorov_bound());
}

TEST_CASE("random_normal has the normal distribution", "[random]") {
    // not by ==: a compiler may compute either side itself, rounded better than the library does
    CHECK(random_normal(9, 4) == Approx(std::sqrt(-2 * std::log(random_open_uniform(9, 8))) *
                                        std::cos(2 * std::numbers::pi * random_open_uniform(9, 9)))
                                     .epsilon(1e-14));
    const std::vector<double> values = draws([](std::size_t i) { return random_normal(1, i); });
    CHECK(kolmogorov_distance(values, [](double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }) <
          kolmogorov_bound());
    // five standard deviations of the mean, sqrt(1 / n), of the mean square, sqrt(2 / n), and of the product of
    // neighbours, sqrt(1 / n)
    std::vector<double> squares(values);
    std::vector<double> products(values);
    for (std::size_t i = 0; i < n_draws; ++i) {
        squares[i] = values[i] * values[i];
        products[i] = values[i] * values[(i + 1) % n_draws];
    }
    CHECK(mean_of(values) == Approx(0).margin(5 / std::sqrt(n_draws)));
    CHECK(mean_of(squares) == Approx(1).margin(5 * std::sqrt(2.0 / n_draws)));
    CHECK(mean_of(products) == Approx(0).margin(5 / std::sqrt(n_draws)));
    CHECK(std::all_of(values.begin(), values.end(), [](double x) { return std::abs(x) < 8.6; }));
}

TEST_CASE("random_gumbel has the Gumbel distribution", "[random]") {
    const std::vector<double> values = draws([](std::size_t i) { return random_gumbel(2, i); });
    CHECK(kolmogorov_distance(values, [](double x) { return std::exp(-std::exp(-x)); }) < kolmogorov_bound());
    // five standard deviations of the mean: the variance is pi^2 / 6
    CHECK(mean_of(values) == Approx(std::numbers::egamma).margin(5 * std::numbers::pi / std::sqrt(6.0 * n_draws)));
}

}  // namespace moe_test::random_test
