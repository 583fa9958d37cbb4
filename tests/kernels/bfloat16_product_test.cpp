#include "moe/kernels/bfloat16_product.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "kernels/quantized_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "support/panel_scratch.hpp"

namespace moe_test::bfloat16_product_test {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("rows are rounded to the nearest bfloat16 and zero up to whole steps", "[bfloat16]") {
    constexpr std::size_t lengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100};
    for (const std::size_t k : lengths) {
        Draw draw(k);
        std::vector<float> x = random_elements<float>(draw, k + 64, 1);  // what lies behind k does not count
        x[0] = std::bit_cast<float>(0x3F808000U);                        // a tie, which goes to the even neighbour
        const moe::Bfloat16Rows layout{k};
        REQUIRE(layout.stride() % 64 == 0);
        REQUIRE(layout.padded() - k < 32);
        std::vector<moe::bfloat16> row(layout.padded() + 1, moe::to_bfloat16(7.0F));
        moe::round_row(layout, x.data(), reinterpret_cast<std::byte*>(row.data()));
        for (std::size_t i = 0; i < layout.padded(); ++i) {
            INFO(k << " values, value " << i);
            CHECK(row[i] == (i < k ? moe::to_bfloat16(x[i]) : moe::bfloat16{}));
        }
        CHECK(row.back() == moe::to_bfloat16(7.0F));
        CHECK(moe::to_float(row[0]) == 1.0F);
        std::vector<moe::bfloat16> parts(layout.padded(), moe::to_bfloat16(7.0F));
        for (std::size_t first = 0; first < k; first += 32) {
            moe::round_columns(layout, first, first + 64 > layout.padded() ? 64 : 32, x.data() + first,
                               reinterpret_cast<std::byte*>(parts.data()));
        }
        CHECK(std::equal(parts.begin(), parts.end(), row.begin()));
    }
}

TEST_CASE("infinity, NaN and the largest number survive rounding as what they are", "[bfloat16]") {
    const std::vector<float> x{
        infinity, -infinity, not_a_number, std::bit_cast<float>(0x7F800001U), std::numeric_limits<float>::max(), -0.0F};
    std::vector<moe::bfloat16> row(32);
    moe::round_row({x.size()}, x.data(), reinterpret_cast<std::byte*>(row.data()));
    CHECK(moe::to_float(row[0]) == infinity);
    CHECK(moe::to_float(row[1]) == -infinity);
    CHECK(std::isnan(moe::to_float(row[2])));
    CHECK(std::isnan(moe::to_float(row[3])));
    CHECK(moe::to_float(row[4]) == infinity);  // it is nearer to 2^128 than to what bfloat16 has below
    CHECK(row[5].bits == 0x8000U);
}

#if MOE_BFLOAT16_PRODUCTS

namespace {

constexpr std::size_t width = moe::Panel<float>::width;

/// Around the limits of rows in registers, of tiles and of tasks.
constexpr std::size_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 12, 16, 17, 31, 33, 192};
constexpr std::size_t depths[] = {1, 2, 5, 31, 32, 33, 64, 65, 127, 128, 129, 160, 300};

/// Some panels of F of any values, and rows.
template <class F>
struct Case {
    std::size_t n;
    std::size_t k;
    std::size_t n_panels;
    std::size_t panel_bytes = 0;
    std::vector<std::byte> panels;
    std::vector<std::vector<float>> weights;  ///< of each panel (k, width), as they are multiplied
    std::vector<float> x;
    std::vector<moe::bfloat16> rounded;
    std::vector<const std::byte*> rows;
    OwnedScratch<float> owned;

    Case(Draw& draw, std::size_t n_rows, std::size_t depth, std::size_t count)
        : n(n_rows), k(depth), n_panels(count), x(random_elements<float>(draw, n * k, 1)) {
        for (std::size_t p = 0; p < count; ++p) {
            add_panel(draw);
        }
        round();
    }

    void add_panel(Draw& draw) {
        std::vector<float>& values = weights.emplace_back(k * width);
        if constexpr (requires { F::zero_point; }) {
            const CodedPanel<F> panel(draw, k, false);
            for (std::size_t i = 0; i < values.size(); ++i) {
                values[i] = moe::to_float(moe::to_bfloat16(panel.value(i / width, i % width)));
            }
            panel_bytes = panel.bytes.size();
            panels.insert(panels.end(), panel.bytes.begin(), panel.bytes.end());
        } else {
            const std::vector<F> panel = random_elements<F>(draw, k * width, 1);
            for (std::size_t i = 0; i < values.size(); ++i) {
                values[i] = moe::to_float(moe::to_bfloat16(moe::to_float(panel[i])));
            }
            panel_bytes = panel.size() * sizeof(F);
            const auto* const bytes = reinterpret_cast<const std::byte*>(panel.data());
            panels.insert(panels.end(), bytes, bytes + panel_bytes);
        }
    }

    /// After a change of x.
    void round() {
        const moe::Bfloat16Rows layout{k};
        rounded.assign(n * layout.padded(), {});
        rows.clear();
        for (std::size_t r = 0; r < n; ++r) {
            auto* const row = reinterpret_cast<std::byte*>(&rounded[r * layout.padded()]);
            moe::round_row(layout, &x[r * k], row);
            rows.push_back(row);
        }
    }

    [[nodiscard]] std::vector<float> product(moe::RowPointers some) {
        const moe::PanelScratch<float>& scratch = *owned;
        std::fill(scratch.sums.begin(), scratch.sums.end(), 99.0F);
        moe::multiply_bfloat16<F>(some, k, {panels.data(), n_panels, panel_bytes}, scratch);
        const auto end = scratch.sums.begin() + static_cast<std::ptrdiff_t>(n_panels * some.size() * width);
        CHECK(std::all_of(end, scratch.sums.end(), [](float value) { return value == 99.0F; }));
        return {scratch.sums.begin(), end};
    }
    [[nodiscard]] std::vector<float> product() { return product(rows); }

    /// Output `column` of a row of rounded values, and the sum of its absolute terms.
    [[nodiscard]] std::pair<double, double> exact(std::size_t panel, std::size_t r, std::size_t column) const {
        double sum = 0;
        double magnitude = 0;
        for (std::size_t i = 0; i < k; ++i) {
            const double term = static_cast<double>(moe::to_float(moe::to_bfloat16(x[r * k + i]))) *
                                static_cast<double>(weights[panel][i * width + column]);
            sum += term;
            magnitude += std::abs(term);
        }
        return {sum, magnitude};
    }
};

/// Largest error against plain loops in double as a share of what float32 sums of exact products may have.
template <class F>
double worst_share(Case<F>& c) {
    const std::vector<float> y = c.product();
    double worst = 0;
    for (std::size_t p = 0; p < c.n_panels; ++p) {
        for (std::size_t r = 0; r < c.n; ++r) {
            for (std::size_t o = 0; o < width; o += 1 + (c.k * c.n) / 4000) {
                const auto [sum, magnitude] = c.exact(p, r, o);
                const double bound = rounding_bound<float>(c.k + 4, magnitude);
                const double error = std::abs(static_cast<double>(y[(p * c.n + r) * width + o]) - sum);
                worst = error <= bound ? std::max(worst, error / bound) : std::numeric_limits<double>::infinity();
            }
        }
    }
    return worst;
}

/// A machine compiled for the matrix unit may not have it.
bool runs() { return !moe::arch::MatrixUnit::present || moe::arch::MatrixUnit::request(); }

template <class F>
void check_products() {
    for (const std::size_t n : row_counts) {
        for (const std::size_t k : depths) {
            INFO(n << " rows of " << k);
            Draw draw(n * 1000 + k);
            Case<F> c(draw, n, k, 1 + (n + k) % 8);
            REQUIRE(worst_share(c) <= 1);
            const std::vector<float> all = c.product();
            for (std::size_t r = 0; r < n; r += 1 + n / 8) {
                const std::vector<float> alone = c.product(std::span(c.rows).subspan(r, 1));
                for (std::size_t p = 0; p < c.n_panels; ++p) {
                    REQUIRE(same_bits(std::span(alone).subspan(p * width, width),
                                      std::span(all).subspan((p * n + r) * width, width)));
                }
            }
        }
    }
}

}  // namespace

TEST_CASE("products of bfloat16 are those of plain loops over rounded values, and each row's its own", "[bfloat16]") {
    if (runs()) {
        check_products<moe::bfloat16>();
        check_products<moe::float16>();
        check_products<moe::Int8>();
        check_products<moe::Int4>();
    }
}

TEST_CASE("long rows are one sum, whatever part of them a kernel goes through at a time", "[bfloat16]") {
    if (runs()) {
        for (const std::size_t n : {std::size_t{1}, std::size_t{18}, std::size_t{35}, std::size_t{53}}) {
            Draw draw(n);
            Case<moe::bfloat16> c(draw, n, 4131, 3);
            INFO(n << " rows");
            REQUIRE(worst_share(c) <= 1);
            const std::vector<float> all = c.product();
            const std::vector<float> last = c.product(std::span(c.rows).last(1));
            for (std::size_t p = 0; p < c.n_panels; ++p) {
                REQUIRE(same_bits(std::span(last).subspan(p * width, width),
                                  std::span(all).subspan((p * n + n - 1) * width, width)));
            }
        }
    }
}

TEST_CASE("rows may lie anywhere", "[bfloat16]") {
    if (runs()) {
        Draw draw(7);
        Case<moe::bfloat16> c(draw, 37, 96, 2);
        const std::vector<float> in_order = c.product();
        std::vector<const std::byte*> turned(c.rows.rbegin(), c.rows.rend());
        turned[5] = turned[6];  // two assignments may have one row
        const std::vector<float> y = c.product(turned);
        for (std::size_t p = 0; p < c.n_panels; ++p) {
            for (std::size_t r = 0; r < c.n; ++r) {
                const std::size_t from = c.n - 1 - (r == 5 ? 6 : r);
                REQUIRE(same_bits(std::span(y).subspan((p * c.n + r) * width, width),
                                  std::span(in_order).subspan((p * c.n + from) * width, width)));
            }
        }
    }
}

TEST_CASE("no rows are no products", "[bfloat16]") {
    if (runs()) {
        Draw draw(1);
        Case<moe::bfloat16> c(draw, 1, 40, 2);
        CHECK(c.product({}).empty());
    }
}

TEST_CASE("infinity, NaN and tiny numbers of a row of bfloat16 stay in it", "[bfloat16]") {
    if (!runs()) {
        return;
    }
    for (const std::size_t n : {std::size_t{2}, std::size_t{20}}) {
        Draw draw(n);
        Case<moe::bfloat16> c(draw, n, 70, 2);
        std::fill_n(reinterpret_cast<moe::bfloat16*>(c.panels.data()), c.panels.size() / 2, moe::to_bfloat16(0.25F));
        const std::vector<float> quarter = c.product();
        for (const float special : {infinity, -infinity, not_a_number}) {
            const float before = std::exchange(c.x[c.k + 33], special);
            c.round();
            const std::vector<float> y = c.product();
            for (std::size_t o = 0; o < width; ++o) {
                CHECK((std::isnan(special) ? std::isnan(y[width + o]) : y[width + o] == special));
                CHECK(y[o] == quarter[o]);
            }
            c.x[c.k + 33] = before;
        }
        std::fill_n(c.x.begin() + static_cast<std::ptrdiff_t>(c.k), c.k, 0.0F);
        c.x[c.k] = std::numeric_limits<float>::denorm_min();
        c.round();
        CHECK(c.product()[width] == 0);  // counted as zero, and the thread's own arithmetic is as before:
        volatile float denormal = std::numeric_limits<float>::min();
        denormal = denormal / 4;
        CHECK(denormal > 0);
    }
}

#endif

}  // namespace moe_test::bfloat16_product_test
