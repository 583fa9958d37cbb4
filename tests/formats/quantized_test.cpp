#include "moe/formats/quantized.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/kept.hpp"

namespace moe_test::quantized_test {

namespace {

using Values = std::array<float, moe::quantization_group>;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

template <class F>
int integer(const moe::QuantizedGroup& group, std::size_t i) {
    return static_cast<int>(group.codes[i]) - F::zero_point;
}

template <class F>
Values round_trip(const Values& x) {
    const moe::QuantizedGroup group = moe::quantize_group(F{}, x);
    Values y;
    for (std::size_t i = 0; i < y.size(); ++i) {
        y[i] = moe::dequantize<F>(group, i);
    }
    return y;
}

Values random_values(moe_test::Draw& draw, float scale) {
    Values x;
    for (float& value : x) {
        value = moe_test::normal(draw) * scale;
    }
    return x;
}

/// The scale of the definition, in double and unrounded.
double exact_scale(moe::Int8, const Values& x) {
    double largest = 0;
    for (const float value : x) {
        largest = std::max(largest, std::abs(static_cast<double>(value)));
    }
    return largest / 127;
}
double exact_scale(moe::Int4, const Values& x) {
    double largest = 0;
    for (const float value : x) {
        largest = std::abs(static_cast<double>(value)) > std::abs(largest) ? static_cast<double>(value) : largest;
    }
    return largest / -8;
}

/// What rounding the scale to binary16 may do to one unit of it.
double scale_error(double scale) { return std::max(std::abs(scale) * 0x1p-11, 0x1p-25); }

template <class F>
void check_definition(const Values& x) {
    const moe::QuantizedGroup group = moe::quantize_group(F{}, x);
    const double scale = exact_scale(F{}, x);
    REQUIRE(std::abs(static_cast<double>(moe::to_float(group.scale)) - scale) <= scale_error(scale) * (1 + 1e-3));
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double position = static_cast<double>(x[i]) / scale;
        constexpr int top = F::zero_point - 1;
        const int code = integer<F>(group, i);
        const bool clipped = position > top + 0.5;
        INFO("element " << i << " is " << x[i] << ", scale " << scale << ", code " << code);
        REQUIRE(code <= top);
        REQUIRE(code >= (F::zero_point == 8 ? -8 : -127));
        REQUIRE((clipped ? code == top : std::abs(code - position) <= 0.5 + 1e-4));
        // all values of 8 bits are within half a scale; of 4 bits those above 7.5 scales lose up to a whole one
        const double error = std::abs(static_cast<double>(moe::dequantize<F>(group, i)) - static_cast<double>(x[i]));
        const double allowed = (clipped ? 1.0 : 0.5) * std::abs(scale) * (1 + 1e-4);
        REQUIRE((!clipped || F::zero_point == 8));
        REQUIRE(error <= allowed + F::zero_point * scale_error(scale));
    }
}

/// As the formula says, for values of every size float16 scales reach.
template <class F>
void check_random_groups() {
    moe_test::Draw draw(1);
    for (int exponent = -40; exponent <= 15; ++exponent) {
        for (int repeat = 0; repeat < 50; ++repeat) {
            INFO("size 2^" << exponent);
            check_definition<F>(random_values(draw, std::ldexp(1.0F, exponent)));
        }
    }
}

template <class F>
double normal_error() {
    moe_test::Draw draw(2);
    const std::vector<float> x = moe_test::normals(draw, 32 * 2000, 0.02);
    return moe_test::nmse(moe_test::as_kept<F>(x, x.size()), x);
}

template <class F>
void check_non_finite() {
    moe_test::Draw draw(3);
    for (const float special : {nan, -nan, infinity, -infinity}) {
        for (std::size_t at = 0; at < moe::quantization_group; ++at) {
            Values x = random_values(draw, 1);
            x[at] = special;
            const moe::QuantizedGroup group = moe::quantize_group(F{}, x);
            REQUIRE(std::isnan(moe::to_float(group.scale)));
            for (std::size_t i = 0; i < x.size(); ++i) {
                REQUIRE(std::isnan(moe::dequantize<F>(group, i)));
                REQUIRE(integer<F>(group, i) == 0);
            }
        }
    }
}

template <class F>
void check_vanishing() {
    for (const float size : {0.0F, -0.0F, std::numeric_limits<float>::denorm_min(), 1e-44F, 1e-40F, 1e-38F, 1e-20F}) {
        Values x{};
        x.fill(size);
        x[3] = -size;
        const Values y = round_trip<F>(x);
        for (const float value : y) {
            INFO("all " << size);
            REQUIRE(value == 0.0F);
        }
    }
}

template <class F>
void check_exact(int lowest, int highest, float extreme) {
    moe_test::Draw draw(4);
    for (int exponent = -20; exponent <= 8; ++exponent) {
        Values x;
        for (float& value : x) {
            const int code = lowest + static_cast<int>(draw.size(0, static_cast<std::size_t>(highest - lowest)));
            value = std::ldexp(static_cast<float>(code), exponent);
        }
        x[draw.size(0, x.size() - 1)] = std::ldexp(extreme, exponent);
        const Values y = round_trip<F>(x);
        for (std::size_t i = 0; i < x.size(); ++i) {
            INFO("exponent " << exponent);
            REQUIRE(y[i] == x[i]);
        }
    }
}

}  // namespace

TEST_CASE("Int8 is max |x| / 127 and the nearest integers, within half a scale", "[quantized]") {
    check_random_groups<moe::Int8>();
}
TEST_CASE("Int4 is the largest x / -8 and the nearest of -8..7, clipped on one side", "[quantized]") {
    check_random_groups<moe::Int4>();
}

TEST_CASE("the error of normal weights is that of the format", "[quantized]") {
    CHECK(normal_error<moe::Int8>() < 4e-5);  // 2.9e-5: a twelfth of the square of a scale
    CHECK(normal_error<moe::Int4>() < 1e-2);  // 7.4e-3
    CHECK(normal_error<moe::Int8>() > 1e-5);
    CHECK(normal_error<moe::Int4>() > 4e-3);
}

TEST_CASE("NaN and infinity make a group NaN, wherever they stand", "[quantized]") {
    check_non_finite<moe::Int8>();
    check_non_finite<moe::Int4>();
}

TEST_CASE("zeros and values below every scale become zero", "[quantized]") {
    check_vanishing<moe::Int8>();
    check_vanishing<moe::Int4>();
}

TEST_CASE("integers times a power of two survive", "[quantized]") {
    check_exact<moe::Int8>(-127, 127, 127.0F);
    check_exact<moe::Int8>(-127, 127, -127.0F);
    check_exact<moe::Int4>(-7, 7, -8.0F);
    check_exact<moe::Int4>(-7, 7, 8.0F);  // the scale is negative
}

TEST_CASE("halves are rounded as Q8_0 and Q4_0 round them", "[quantized]") {
    Values x{127, 0.5F, -0.5F, 1.5F, -1.5F, 2.5F, -2.5F, 126.5F, -126.5F};
    moe::QuantizedGroup group = moe::quantize_group(moe::Int8{}, x);
    const std::array<int, 9> away{127, 1, -1, 2, -2, 3, -3, 127, -127};
    for (std::size_t i = 0; i < away.size(); ++i) {
        CHECK(integer<moe::Int8>(group, i) == away[i]);
    }
    x = {-8, 0.5F, -0.5F, 1.5F, -1.5F, 7.5F, 7.75F, 8, -7.5F};
    group = moe::quantize_group(moe::Int4{}, x);
    const std::array<int, 9> up{-8, 1, 0, 2, -1, 7, 7, 7, -7};
    for (std::size_t i = 0; i < up.size(); ++i) {
        CHECK(integer<moe::Int4>(group, i) == up[i]);
    }
}

TEST_CASE("of two largest values of Int4 the first decides the sign", "[quantized]") {
    Values x{1, -1};
    CHECK(moe::to_float(moe::quantize_group(moe::Int4{}, x).scale) == -0.125F);
    CHECK(round_trip<moe::Int4>(x)[0] == 1.0F);
    CHECK(round_trip<moe::Int4>(x)[1] == -0.875F);
    std::swap(x[0], x[1]);
    CHECK(moe::to_float(moe::quantize_group(moe::Int4{}, x).scale) == 0.125F);
}

TEST_CASE("a scale beyond binary16 is infinite, and the weights are not finite", "[quantized]") {
    Values x{};
    x.fill(9e6F);
    CHECK(moe::to_float(moe::quantize_group(moe::Int8{}, x).scale) == infinity);
    CHECK(round_trip<moe::Int8>(x)[0] == infinity);
    CHECK(moe::to_float(moe::quantize_group(moe::Int4{}, x).scale) == -infinity);
    x.fill(8.3e6F);
    CHECK(moe_test::all_finite(round_trip<moe::Int8>(x)));
    x[7] = std::numeric_limits<float>::max();
    CHECK_FALSE(std::isfinite(round_trip<moe::Int8>(x)[0]));
}

namespace {

/// The largest error of groups of this size, as a part of the bound that is stated.
template <class F>
double part_of_bound(double largest) {
    moe_test::Draw draw(static_cast<std::uint64_t>(largest * 1e9));
    double part = 0;
    for (int repeat = 0; repeat < 2000; ++repeat) {
        Values x;
        for (float& value : x) {
            value = draw.value() * static_cast<float>(largest);
        }
        x[draw.size(0, 31)] = static_cast<float>(draw.coin() ? largest : -largest);
        const Values y = round_trip<F>(x);
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double error = std::abs(static_cast<double>(y[i]) - static_cast<double>(x[i]));
            part = std::max(part, error / moe::quantization_error(F{}, largest));
        }
    }
    return part;
}

}  // namespace

TEST_CASE("the stated bound holds for weights of every size, and is not far off", "[quantized]") {
    for (const double largest : {1e-8, 1e-7, 3e-7, 1e-6, 4e-6, 1e-5, 1e-4, 4e-4, 1e-3, 0.007, 0.01, 1.0, 300.0, 4e5}) {
        INFO("largest " << largest);
        CHECK(part_of_bound<moe::Int8>(largest) <= 1 + 1e-6);
        CHECK(part_of_bound<moe::Int4>(largest) <= 1 + 1e-6);
    }
    // where the scale is subnormal half a scale is not enough, and all is 0 at the very end
    Values x{};
    x.fill(1e-5F);
    CHECK(static_cast<double>(std::abs(round_trip<moe::Int8>(x)[0] - x[0])) > 0.2 * 1e-5);
    x.fill(1e-6F);
    CHECK(round_trip<moe::Int8>(x)[0] == 0);
    x.fill(2e-7F);
    CHECK(round_trip<moe::Int4>(x)[0] == 0);
    CHECK(part_of_bound<moe::Int8>(1.0) > 0.5);
    CHECK(part_of_bound<moe::Int4>(1.0) > 0.8);
    CHECK(part_of_bound<moe::Int8>(5e-6) > 0.2);
}

}  // namespace moe_test::quantized_test
