#include "moe/kernels/quantized_rows.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/kept.hpp"

namespace moe_test::quantized_rows_test {

namespace {

constexpr std::byte untouched{0xEE};
constexpr std::size_t group_size = moe::quantization_group;

/// A row, and a byte behind its last one.
struct Row {
    moe::QuantizedRows layout;
    std::vector<std::byte> bytes;

    Row(const std::vector<float>& x, int zero_point) : layout{x.size()}, bytes(layout.stride() + 1, untouched) {
        moe::quantize_row(layout, x.data(), zero_point, bytes.data());
    }

    [[nodiscard]] int code(std::size_t i) const { return static_cast<signed char>(bytes[i]); }
    [[nodiscard]] moe::GroupScale meta(std::size_t group) const {
        moe::GroupScale result{};
        std::memcpy(&result, &bytes[layout.codes() + group * sizeof result], sizeof result);
        return result;
    }
    [[nodiscard]] bool untouched_behind() const {
        const auto end = static_cast<std::ptrdiff_t>(layout.codes() + layout.groups() * sizeof(moe::GroupScale));
        return std::all_of(bytes.begin() + end, bytes.end(), [](std::byte b) { return b == untouched; });
    }
    /// Whether group g of both has the same codes, scale and offset.
    [[nodiscard]] bool same_group(const Row& other, std::size_t g) const {
        return std::memcmp(&bytes[g * group_size], &other.bytes[g * group_size], group_size) == 0 &&
               std::memcmp(&bytes[layout.codes() + g * sizeof(moe::GroupScale)],
                           &other.bytes[layout.codes() + g * sizeof(moe::GroupScale)], sizeof(moe::GroupScale)) == 0;
    }
};

const std::vector<std::size_t> lengths{1, 2, 7, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257};

/// max |x| / 127, the nearest integers, and their sum.
void check_group(const Row& row, const std::vector<float>& x, std::size_t g, int zero_point) {
    float largest = 0;
    for (std::size_t i = g * group_size; i < std::min(x.size(), (g + 1) * group_size); ++i) {
        largest = std::max(largest, std::abs(x[i]));
    }
    const moe::GroupScale meta = row.meta(g);
    REQUIRE(meta.scale == largest / 127.0F);
    int sum = 0;
    for (std::size_t i = g * group_size; i < (g + 1) * group_size; ++i) {
        const int code = row.code(i);
        sum += code;
        const double value = i < x.size() ? static_cast<double>(x[i]) / static_cast<double>(meta.scale) : 0.0;
        INFO("value " << i << " of " << x.size() << ": code " << code << " for " << value);
        REQUIRE(std::abs(code) <= 127);
        REQUIRE(std::abs(code - value) <= (i < x.size() ? 0.5 + 1e-4 : 0.0));
    }
    REQUIRE(meta.offset == -zero_point * sum);
}

}  // namespace

TEST_CASE("a row is quantised group by group, padded with zeros, and nothing is written behind it", "[quantized]") {
    for (const std::size_t k : lengths) {
        for (const int exponent : {-100, -30, -3, 0, 5, 100}) {
            for (const int zero_point : {8, 128}) {
                moe_test::Draw draw(k);
                const std::vector<float> x = moe_test::normals(draw, k, std::ldexp(1.0, exponent));
                const Row row(x, zero_point);
                REQUIRE(row.untouched_behind());
                for (std::size_t g = 0; g < row.layout.groups(); ++g) {
                    check_group(row, x, g, zero_point);
                }
            }
        }
    }
}

TEST_CASE("groups of a row quantised one by one have the bytes of the whole row", "[quantized]") {
    for (const std::size_t k : lengths) {
        moe_test::Draw draw(k);
        const std::vector<float> x = moe_test::normals(draw, k, 1);
        const Row row(x, 128);
        Row parts(x, 8);
        std::fill(parts.bytes.begin(), parts.bytes.end(), untouched);
        for (std::size_t g = row.layout.groups(); g-- > 0;) {
            const std::size_t first = g * group_size;
            moe::quantize_groups(row.layout, g, 1, &x[first], k - first, 128, parts.bytes.data());
        }
        CHECK(parts.bytes == row.bytes);
    }
}

TEST_CASE("halves go to the even integer", "[quantized]") {
    const std::vector<float> x{127, 0.5F, -0.5F, 1.5F, -1.5F, 2.5F, -2.5F, 125.5F, 126.5F, -126.5F, 0.25F, 0.75F};
    const std::vector<int> even{127, 0, 0, 2, -2, 2, -2, 126, 126, -126, 0, 1};
    for (const float scale : {1.0F, 0x1p-60F, 0x1p60F}) {
        std::vector<float> scaled = x;
        for (float& value : scaled) {
            value *= scale;
        }
        const Row row(scaled, 128);
        for (std::size_t i = 0; i < x.size(); ++i) {
            CHECK(row.code(i) == even[i]);
        }
    }
}

TEST_CASE("NaN and infinity make the scale of their group NaN and leave all others alone", "[quantized]") {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    for (const float special : {std::nanf(""), -std::nanf(""), infinity, -infinity}) {
        for (const std::size_t k : lengths) {
            for (std::size_t at = 0; at < k; ++at) {
                moe_test::Draw draw(k);
                std::vector<float> x = moe_test::normals(draw, k, 1);
                const Row clean(x, 128);
                x[at] = special;
                const Row row(x, 128);
                REQUIRE(row.untouched_behind());
                for (std::size_t g = 0; g < row.layout.groups(); ++g) {
                    if (g != at / group_size) {
                        REQUIRE(row.same_group(clean, g));
                        continue;
                    }
                    REQUIRE(std::isnan(row.meta(g).scale));
                    REQUIRE(row.meta(g).offset == 0);
                    for (std::size_t i = g * group_size; i < (g + 1) * group_size; ++i) {
                        REQUIRE(row.code(i) == 0);
                    }
                }
            }
        }
    }
}

TEST_CASE("zeros and the smallest numbers have codes 0; the largest do not overflow", "[quantized]") {
    for (const float value : {0.0F, -0.0F, std::numeric_limits<float>::denorm_min(), 1e-40F}) {
        const Row row(std::vector<float>(32, value), 128);
        CHECK(row.meta(0).offset == 0);
        CHECK(row.code(0) == 0);
        CHECK(row.meta(0).scale == value / 127.0F);
    }
    std::vector<float> x(32, std::numeric_limits<float>::max());
    x[5] = -x[5];
    const Row row(x, 128);
    CHECK(row.code(0) == 127);
    CHECK(row.code(5) == -127);
    CHECK(row.meta(0).scale == std::numeric_limits<float>::max() / 127.0F);
    x.assign(32, 0x1p-126F);
    CHECK(Row(x, 128).code(0) == 0);  // 1 / scale is infinite
    x.assign(32, 0x1p-120F);
    CHECK(Row(x, 128).code(31) == 127);
}

TEST_CASE("rows of quantised activations are whole cache lines", "[quantized]") {
    for (const std::size_t k : lengths) {
        const moe::QuantizedRows rows{k};
        CHECK(rows.groups() == (k + 31) / 32);
        CHECK(rows.stride() % 64 == 0);
        CHECK(rows.stride() >= rows.groups() * (32 + sizeof(moe::GroupScale)));
        CHECK(rows.stride() < rows.groups() * (32 + sizeof(moe::GroupScale)) + 64);
    }
}

}  // namespace moe_test::quantized_rows_test
