#include "moe/kernels/softmax.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "moe/reference/routing.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::softmax_test {

namespace {

/// Every value within the roundings the kernel states, for rows of every length around the vectors; the exponent, up to
/// 40 here, turns half a unit of itself into so many of the result.
template <class T>
void check_rows() {
    moe_test::Draw draw(1);
    for (std::size_t n = 1; n < 300; n += n < 70 ? 1 : 23) {
        std::vector<T> row = moe_test::random_elements<T>(draw, n, 20);
        const std::vector<double> expected = moe::reference::softmax(std::vector<double>(row.begin(), row.end()));
        moe::softmax_row(row.data(), n);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const double bound = moe_test::rounding_bound<T>(n / moe::lanes<T> + moe::lanes<T> + 8 + 80, expected[i]);
            wrong += std::abs(static_cast<double>(row[i]) - expected[i]) <= bound ? 0U : 1U;
        }
        INFO(n << " values");
        CHECK(wrong == 0);
    }
}

}  // namespace

TEST_CASE("softmax of rows of any length", "[softmax]") {
    check_rows<float>();
    check_rows<double>();
}

TEST_CASE("softmax of special rows", "[softmax]") {
    constexpr float inf = std::numeric_limits<float>::infinity();
    for (const std::size_t n : {1U, 3U, 16U, 37U}) {
        std::vector<float> row(n, -inf);
        row[n - 1] = 1e30F;
        moe::softmax_row(row.data(), n);
        for (std::size_t i = 0; i < n; ++i) {
            CHECK(row[i] == (i == n - 1 ? 1.0F : 0.0F));
        }
        for (const std::size_t at : {std::size_t{0}, n / 2, n - 1}) {
            row.assign(n, 2);
            row[at] = std::numeric_limits<float>::quiet_NaN();
            moe::softmax_row(row.data(), n);
            for (const float value : row) {
                CHECK(std::isnan(value));
            }
        }
    }
}

}  // namespace moe_test::softmax_test
