#include "moe/kernels/row.hpp"

#include <cmath>
#include <cstddef>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "support/multiply_add.hpp"
#include "support/unaligned.hpp"

namespace moe_test::row_test {

namespace {

/// Lengths around every vector and every group of four, and long ones; all memory is of exactly the size.
template <class W>
void check_rows() {
    using T = moe::ComputeType<W>;
    moe_test::Draw draw(4);
    for (std::size_t n = 0; n < 400; n += n < 150 ? 1 : 37) {
        INFO(n << " values");
        const std::vector<W> values = moe_test::random_elements<W>(draw, n, 1);
        const std::vector<T> x = moe_test::random_elements<T>(draw, n, 1);
        const moe_test::Unaligned<W> weights(values);
        double sum = 0;
        double size = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const double term = static_cast<double>(moe::load_element(&values[i])) * static_cast<double>(x[i]);
            sum += term;
            size += std::abs(term);
        }
        const T dot = moe::dot_row(weights.data(), x.data(), n);
        const double both = std::is_same_v<T, double> ? 2 : 1;  // the sum here rounds too
        CHECK(moe_test::difference(
                  std::vector<T>{dot}, std::vector<double>{sum},
                  both * moe_test::rounding_bound<T>(n / (4 * moe::lanes<T>)+6 + moe::lanes<T>, size)) == "");

        std::vector<T> target = moe_test::random_elements<T>(draw, n, 1);
        std::vector<T> expected = target;
        const T weight = T(0.7);
        moe::add_scaled_row(weight, weights.data(), n, target.data());
        for (std::size_t i = 0; i < n; ++i) {
            expected[i] = moe_test::multiply_add<T>(weight, static_cast<T>(moe::load_element(&values[i])), expected[i]);
        }
        CHECK(moe_test::same_bits(target, expected));
        moe::prefetch_row(weights.data(), n * sizeof(W));
    }
}

}  // namespace

TEST_CASE("products with single rows, at any length and alignment", "[row]") {
    check_rows<float>();
    check_rows<double>();
    check_rows<moe::bfloat16>();
    check_rows<moe::float16>();
}

}  // namespace moe_test::row_test
