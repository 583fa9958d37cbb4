#include "moe/kernels/split_product.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "support/panel_scratch.hpp"

namespace moe_test::split_product_test {

TEST_CASE("a program has the matrix unit or is told that it has not", "[split]") {
    const bool granted = moe::arch::MatrixUnit::request();
    CHECK(granted == moe::arch::MatrixUnit::request());
    CHECK((moe::arch::MatrixUnit::present || !granted));
}

#if MOE_MATRIX_UNIT

namespace {

constexpr std::size_t width = moe::Panel<float>::width;

/// Around the limits of the vectors' rows, of tiles and of tasks.
constexpr std::size_t row_counts[] = {1, 2, 3, 4, 7, 15, 16, 17, 31, 32, 33, 48, 49, 177, 191, 192};
constexpr std::size_t depths[] = {1, 2, 5, 31, 32, 33, 64, 65, 127, 128, 129, 160, 300};

struct Case {
    std::size_t n;
    std::size_t k;
    std::size_t n_panels;
    std::vector<float> x;
    std::vector<moe::bfloat16> panels;
    std::vector<const std::byte*> rows;
    moe_test::OwnedScratch<float> owned;

    Case(moe_test::Draw& draw, std::size_t n_rows, std::size_t depth, std::size_t count)
        : n(n_rows),
          k(depth),
          n_panels(count),
          x(moe_test::random_elements<float>(draw, n * k, 1)),
          panels(moe_test::random_elements<moe::bfloat16>(draw, count * k * width, 1)) {
        for (std::size_t r = 0; r < n; ++r) {
            rows.push_back(reinterpret_cast<const std::byte*>(&x[r * k]));
        }
    }

    [[nodiscard]] std::vector<float> product(moe::RowPointers some) {
        const moe::PanelScratch<float>& scratch = *owned;
        std::fill(scratch.sums.begin(), scratch.sums.end(), 99.0F);
        moe::multiply_split(
            some, k, {reinterpret_cast<const std::byte*>(panels.data()), n_panels, k * width * sizeof(moe::bfloat16)},
            scratch);
        const auto end = scratch.sums.begin() + static_cast<std::ptrdiff_t>(n_panels * some.size() * width);
        CHECK(std::all_of(end, scratch.sums.end(), [](float value) { return value == 99.0F; }));
        return {scratch.sums.begin(), end};
    }
    [[nodiscard]] std::vector<float> product() { return product(rows); }

    [[nodiscard]] double weight(std::size_t panel, std::size_t i, std::size_t column) const {
        return moe::to_float(panels[(panel * k + i) * width + column]);
    }

    /// Output `column` of a row, and the sum of its absolute terms.
    [[nodiscard]] std::pair<double, double> exact(std::size_t panel, std::size_t r, std::size_t column) const {
        double sum = 0;
        double magnitude = 0;
        for (std::size_t i = 0; i < k; ++i) {
            const double term = static_cast<double>(x[r * k + i]) * weight(panel, i, column);
            sum += term;
            magnitude += std::abs(term);
        }
        return {sum, magnitude};
    }
};

/// Largest error against plain loops in double as a share of what float32 sums of three parts may have.
double worst_share(Case& c) {
    const std::vector<float> y = c.product();
    double worst = 0;
    for (std::size_t p = 0; p < c.n_panels; ++p) {
        for (std::size_t r = 0; r < c.n; ++r) {
            for (std::size_t o = 0; o < width; o += 1 + (c.k * c.n) / 4000) {
                const auto [sum, magnitude] = c.exact(p, r, o);
                const double bound = moe_test::rounding_bound<float>(3 * c.k + 4, magnitude);
                const double error = std::abs(static_cast<double>(y[(p * c.n + r) * width + o]) - sum);
                worst = error <= bound ? std::max(worst, error / bound) : std::numeric_limits<double>::infinity();
            }
        }
    }
    return worst;
}

}  // namespace

TEST_CASE("the matrix unit computes what plain loops do, with the accuracy of float32, and each row alone", "[split]") {
    if (!moe::arch::MatrixUnit::request()) {
        return;
    }
    for (const std::size_t n : row_counts) {
        for (const std::size_t k : depths) {
            INFO(n << " rows of " << k);
            moe_test::Draw draw(n * 1000 + k);
            Case c(draw, n, k, 1 + (n + k) % 8);
            REQUIRE(worst_share(c) <= 1);
            const std::vector<float> all = c.product();
            for (std::size_t r = 0; r < n; r += 1 + n / 8) {
                const std::vector<float> alone = c.product(std::span(c.rows).subspan(r, 1));
                for (std::size_t p = 0; p < c.n_panels; ++p) {
                    REQUIRE(moe_test::same_bits(std::span(alone).subspan(p * width, width),
                                                std::span(all).subspan((p * n + r) * width, width)));
                }
            }
        }
    }
}

TEST_CASE("the matrix unit is exact where the sum is: all 24 bits of an activation count", "[split]") {
    if (!moe::arch::MatrixUnit::request()) {
        return;
    }
    for (const std::size_t n : {std::size_t{1}, std::size_t{5}}) {
        moe_test::Draw draw(5);
        Case c(draw, n, 40, 1);
        for (std::size_t r = 0; r < n; ++r) {
            for (std::size_t i = 0; i < c.k; ++i) {  // one term a row
                c.x[r * c.k + i] =
                    i == r
                        ? std::bit_cast<float>(0x3F800000U + (static_cast<std::uint32_t>(draw.size(0, 8388607)) | 1U))
                        : 0.0F;
            }
        }
        std::fill(c.panels.begin(), c.panels.end(), moe::to_bfloat16(2.0F));
        const std::vector<float> y = c.product();
        for (std::size_t r = 0; r < n; ++r) {
            CHECK(y[r * width] == 2 * c.x[r * c.k + r]);
            CHECK(y[r * width + 63] == 2 * c.x[r * c.k + r]);
        }
    }
}

TEST_CASE("the largest and the smallest numbers, infinity and NaN stay what they are in their row", "[split]") {
    if (!moe::arch::MatrixUnit::request()) {
        return;
    }
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const float signalling = std::bit_cast<float>(0x7F800001U);
    for (const std::size_t n : {std::size_t{2}, std::size_t{20}}) {
        INFO(n << " rows");
        moe_test::Draw draw(n);
        Case c(draw, n, 70, 2);
        const std::vector<float> clean = c.product();
        std::fill(c.panels.begin(), c.panels.end(), moe::to_bfloat16(0.25F));
        const std::vector<float> quarter = c.product();
        for (const float special : {infinity, -infinity, std::numeric_limits<float>::quiet_NaN(), signalling}) {
            const float before = std::exchange(c.x[c.k + 33], special);
            const std::vector<float> y = c.product();
            for (std::size_t o = 0; o < width; ++o) {
                CHECK((std::isnan(special) ? std::isnan(y[width + o]) : y[width + o] == special));
                CHECK(y[o] == quarter[o]);
            }
            c.x[c.k + 33] = before;
        }
        std::fill_n(c.x.begin() + static_cast<std::ptrdiff_t>(c.k), c.k, 0.0F);
        for (const float value : {std::numeric_limits<float>::max(), std::numeric_limits<float>::min() * 1.0e6F}) {
            c.x[c.k] = value;
            CHECK(c.product()[width] == 0.25F * value);
        }
        c.x[c.k] = std::numeric_limits<float>::denorm_min();
        CHECK(c.product()[width] == 0);  // counted as zero, and the thread's own arithmetic is as before:
        volatile float denormal = std::numeric_limits<float>::min();
        denormal = denormal / 4;
        CHECK(denormal > 0);
        REQUIRE(moe_test::all_finite(clean));
    }
}

namespace {

[[gnu::noinline]] void leave_ones_on_the_stack() {
    volatile unsigned char bytes[4096];
    for (volatile unsigned char& byte : bytes) {
        byte = 0xFF;
    }
}

[[gnu::noinline]] void set_up_once(std::size_t rows) { const moe::arch::MatrixUnit::Session session(rows); }

}  // namespace

TEST_CASE("the unit is set up whatever the stack held before", "[split]") {
    if (!moe::arch::MatrixUnit::request()) {
        return;
    }
    for (std::size_t rows = 1; rows <= moe::arch::MatrixUnit::rows; ++rows) {
        leave_ones_on_the_stack();
        set_up_once(rows);  // which faults for a configuration that cannot be
    }
    SUCCEED("no fault");
}

#endif

}  // namespace moe_test::split_product_test
