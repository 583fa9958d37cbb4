#include "moe/core/random.hpp"

#include <cstdint>
#include <limits>

#include "support/catch.hpp"

using moe::random_bits;
using moe::random_uniform;

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
