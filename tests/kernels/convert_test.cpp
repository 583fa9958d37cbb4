#include "moe/kernels/convert.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "support/catch.hpp"
#include "support/unaligned.hpp"

namespace moe_test::convert_test {

namespace {

template <class W>
std::vector<W> all_values() {
    std::vector<W> values(0x10000);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i].bits = static_cast<std::uint16_t>(i);
    }
    return values;
}

/// Whether all 65536 values come out as the scalar decoder has them, bit for bit, NaNs included.
template <class W>
int wrong_values() {
    const std::vector<W> values = all_values<W>();
    const moe_test::Unaligned<W> source(values);
    std::vector<float> target(values.size());
    moe::convert_run(source.data(), values.size(), target.data());
    int wrong = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
        wrong += std::bit_cast<std::uint32_t>(target[i]) != std::bit_cast<std::uint32_t>(moe::to_float(values[i]));
    }
    return wrong;
}

template <class W, class Target>
void check_lengths(const std::vector<W>& values, Target untouched) {
    for (std::size_t count = 0; count <= 70; ++count) {
        const moe_test::Unaligned<W> source(
            std::vector<W>(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count)));
        std::vector<Target> target(count + 1, untouched);
        moe::convert_run(source.data(), count, target.data());
        INFO(count << " elements");
        REQUIRE(target[count] == untouched);
        for (std::size_t i = 0; i < count; ++i) {
            if constexpr (std::is_same_v<W, Target>) {
                REQUIRE(target[i] == values[i]);
            } else {
                REQUIRE(target[i] == moe::load_element(&values[i]));
            }
        }
    }
}

template <class W>
std::vector<W> some_values() {
    std::vector<W> values(70);
    for (std::size_t i = 0; i < values.size(); ++i) {
        if constexpr (std::is_floating_point_v<W>) {
            values[i] = static_cast<W>(i) / 7;
        } else {
            values[i].bits = static_cast<std::uint16_t>(0x3000 + 37 * i);
        }
    }
    return values;
}

}  // namespace

TEST_CASE("convert_run widens every 16-bit value as the scalar decoder does", "[convert]") {
    CHECK(wrong_values<moe::bfloat16>() == 0);
    CHECK(wrong_values<moe::float16>() == 0);
}

TEST_CASE("convert_run of any length reads and writes nothing else", "[convert]") {
    check_lengths(some_values<moe::bfloat16>(), -1.0F);
    check_lengths(some_values<moe::float16>(), -1.0F);
    check_lengths(some_values<moe::bfloat16>(), moe::bfloat16{0xABCD});
    check_lengths(some_values<moe::float16>(), moe::float16{0xABCD});
    check_lengths(some_values<float>(), -1.0F);
    check_lengths(some_values<double>(), -1.0);
}

}  // namespace moe_test::convert_test
