#include "moe/core/half.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "support/catch.hpp"

namespace moe_test::half_test {

using moe::bfloat16;
using moe::float16;
using moe::to_bfloat16;
using moe::to_float;
using moe::to_float16;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

/// The definition of binary16, in double: sign, exponent and fraction spelt out.
double value_of_binary16(std::uint16_t bits) {
    const int exponent = (bits >> 10) & 0x1F;
    const int fraction = bits & 0x3FF;
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

bool is_finite(float16 value) { return (value.bits & 0x7C00U) != 0x7C00U; }
bool is_nan(float16 value) { return !is_finite(value) && (value.bits & 0x3FFU) != 0; }
bool is_finite(bfloat16 value) { return (value.bits & 0x7F80U) != 0x7F80U; }
bool is_nan(bfloat16 value) { return !is_finite(value) && (value.bits & 0x7FU) != 0; }

std::uint16_t narrow(float value, float16 /*tag*/) { return to_float16(value).bits; }
std::uint16_t narrow(float value, bfloat16 /*tag*/) { return to_bfloat16(value).bits; }

/// The number of finite magnitudes m of Half whose middle to the next one does not go to the even neighbour, or whose
/// surroundings go the wrong way. `infinity` is the bit pattern after the largest finite one.
template <class Half>
int wrong_roundings(std::uint16_t infinity, float above_largest) {
    int wrong = 0;
    for (std::uint16_t m = 0; m < infinity; ++m) {
        const auto next = static_cast<std::uint16_t>(m + 1);
        const float low = to_float(Half{m});
        const float high = next == infinity ? above_largest : to_float(Half{next});
        const float middle = low + (high - low) / 2;  // exact: one bit more than Half has
        const std::uint16_t even = m % 2 == 0 ? m : next;
        for (const float sign : {1.0F, -1.0F}) {
            const auto with_sign = [sign](std::uint16_t bits) {
                return static_cast<std::uint16_t>(sign < 0 ? bits | 0x8000U : bits);
            };
            wrong += narrow(sign * middle, Half{}) != with_sign(even);
            wrong += narrow(sign * std::nextafter(middle, 0.0F), Half{}) != with_sign(m);
            wrong += narrow(sign * std::nextafter(middle, inf), Half{}) != with_sign(next);
        }
    }
    return wrong;
}

}  // namespace

TEST_CASE("every binary16 value widens exactly and comes back", "[half]") {
    int wrong_value = 0;
    int wrong_trip = 0;
    for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
        const float16 half{static_cast<std::uint16_t>(bits)};
        const float wide = to_float(half);
        if (is_finite(half)) {
            wrong_value += static_cast<double>(wide) != value_of_binary16(half.bits);
            wrong_value += std::signbit(wide) != ((bits & 0x8000U) != 0);
            wrong_trip += to_float16(wide) != half;
        } else if (is_nan(half)) {  // comes back quiet, with its sign and payload
            wrong_value += !std::isnan(wide);
            wrong_trip += to_float16(wide).bits != (bits | 0x200U);
        } else {
            wrong_value += wide != ((bits & 0x8000U) != 0 ? -inf : inf);
            wrong_trip += to_float16(wide) != half;
        }
    }
    CHECK(wrong_value == 0);
    CHECK(wrong_trip == 0);
}

TEST_CASE("every bfloat16 value is the upper half of a float and comes back", "[half]") {
    int wrong = 0;
    for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
        const bfloat16 half{static_cast<std::uint16_t>(bits)};
        const float wide = to_float(half);
        wrong += std::bit_cast<std::uint32_t>(wide) != bits << 16U;
        wrong += to_bfloat16(wide).bits != (is_nan(half) ? bits | 0x40U : bits);
    }
    CHECK(wrong == 0);
}

TEST_CASE("rounding to 16 bits goes to the nearest, ties to even, subnormals included", "[half]") {
    CHECK(wrong_roundings<float16>(0x7C00, 65536.0F) == 0);
    // 2^128 is no float, but the middle to it is: the loop's last turn is checked by hand
    CHECK(wrong_roundings<bfloat16>(0x7F7F, to_float(bfloat16{0x7F7F})) == 0);
    const auto float_of = [](std::uint32_t bits) { return std::bit_cast<float>(bits); };
    CHECK(to_bfloat16(float_of(0x7F7F7FFF)).bits == 0x7F7F);
    CHECK(to_bfloat16(float_of(0x7F7F8000)).bits == 0x7F80);
    CHECK(to_bfloat16(std::numeric_limits<float>::max()).bits == 0x7F80);
    CHECK(to_bfloat16(std::numeric_limits<float>::lowest()).bits == 0xFF80);
}

TEST_CASE("float subnormals, overflow and infinity", "[half]") {
    CHECK(to_float16(std::numeric_limits<float>::denorm_min()).bits == 0);
    CHECK(to_float16(-std::numeric_limits<float>::denorm_min()).bits == 0x8000);
    CHECK(to_bfloat16(std::numeric_limits<float>::denorm_min()).bits == 0);
    CHECK(to_bfloat16(std::bit_cast<float>(0x00008001U)).bits == 1);
    CHECK(to_float16(65519.996F).bits == 0x7BFF);
    CHECK(to_float16(65520.0F).bits == 0x7C00);
    CHECK(to_float16(-1e10F).bits == 0xFC00);
    CHECK(to_float16(inf).bits == 0x7C00);
    CHECK(to_float16(-inf).bits == 0xFC00);
    CHECK(to_bfloat16(inf).bits == 0x7F80);
    CHECK(to_bfloat16(-inf).bits == 0xFF80);
}

TEST_CASE("no NaN of float becomes an infinity", "[half]") {
    int wrong = 0;
    for (std::uint32_t payload = 1; payload < 0x800000U; payload = payload * 2 + (payload % 3 == 0 ? 1 : 0)) {
        for (const std::uint32_t sign : {0U, 0x80000000U}) {
            const float nan = std::bit_cast<float>(sign | 0x7F800000U | payload);
            wrong += !is_nan(to_float16(nan)) || (to_float16(nan).bits & 0x8200U) != (sign >> 16U | 0x200U);
            wrong += !is_nan(to_bfloat16(nan)) || (to_bfloat16(nan).bits & 0x8040U) != (sign >> 16U | 0x40U);
        }
    }
    CHECK(wrong == 0);
}

static_assert(to_float(to_float16(-1.5F)) == -1.5F && to_float(to_bfloat16(-1.5F)) == -1.5F, "usable in constants");

}  // namespace moe_test::half_test
