#include "moe/core/matrix_view.hpp"

#include <array>
#include <cstddef>
#include <limits>
#include <numeric>
#include <type_traits>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::matrix_view_test {

using moe::ErrorCode;
using moe::MatrixView;
using moe_test::contains;
using moe_test::error_of;

TEST_CASE("a view addresses rows by its stride", "[matrix_view]") {
    std::array<int, 15> data{};
    std::iota(data.begin(), data.end(), 0);
    const MatrixView<int> m = moe::view(data.data(), 3, 4, 5);
    CHECK(m.rows() == 3);
    CHECK(m.cols() == 4);
    CHECK(m.stride() == 5);
    CHECK(m.data() == data.data());
    CHECK(m(0, 0) == 0);
    CHECK(m(2, 3) == 13);
    CHECK(m.row(1) == data.data() + 5);
    CHECK(m.row_span(2).size() == 4);
    CHECK(m.row_span(2).back() == 13);
    m(1, 1) = 77;
    CHECK(data[6] == 77);
    CHECK(moe::view(data.data(), 5, 3).stride() == 3);
}

TEST_CASE("a view of constants comes from a view of variables, never back", "[matrix_view]") {
    int value = 7;
    const MatrixView<int> m = moe::view(&value, 1, 1);
    const MatrixView<const int> read_only = m;
    CHECK(read_only.data() == &value);
    CHECK(read_only(0, 0) == 7);
    static_assert(!std::is_convertible_v<MatrixView<const int>, MatrixView<int>>);
    static_assert(!std::is_convertible_v<MatrixView<float>, MatrixView<const double>>);
}

TEST_CASE("empty views need no memory", "[matrix_view]") {
    CHECK(MatrixView<float>().empty());
    CHECK(moe::view(static_cast<float*>(nullptr), 0, 8).empty());
    CHECK(moe::view(static_cast<float*>(nullptr), 8, 0).empty());
    CHECK(moe::view(static_cast<float*>(nullptr), 0, 8).cols() == 8);
}

TEST_CASE("a matrix of one row at most may have any stride", "[matrix_view]") {
    std::array<float, 64> data{};
    for (const std::size_t stride : {0U, 1U, 63U, 64U}) {
        const MatrixView<float> row = moe::view(data.data(), 1, 64, stride);
        CHECK(row.stride() == 64);
        CHECK(row.row_span(0).size() == 64);
        CHECK(moe::view(data.data(), 0, 64, stride).empty());
    }
    CHECK(moe::view(data.data(), 1, 64, 100).stride() == 100);
    CHECK(error_of([&] { (void)moe::view(data.data(), 2, 32, 1); }).code == ErrorCode::stride);
}

TEST_CASE("mistakes in a view name the values", "[matrix_view]") {
    float value = 0;
    const auto stride = error_of([&] { (void)moe::view(&value, 2, 9, 8); });
    CHECK(stride.code == ErrorCode::stride);
    CHECK_THAT(stride.text, contains("stride 8") && contains("9 columns"));

    const auto null = error_of([] { (void)moe::view(static_cast<float*>(nullptr), 3, 5); });
    CHECK(null.code == ErrorCode::null_pointer);
    CHECK_THAT(null.text, contains("3 x 5"));

    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    const auto elements = error_of([&] { (void)moe::view(&value, most / 2, 3); });
    CHECK(elements.code == ErrorCode::overflow);
    CHECK_THAT(elements.text, contains("9223372036854775807 x 3"));
    const auto bytes = error_of([&] { (void)moe::view(&value, most / 4, 3); });
    CHECK(bytes.code == ErrorCode::overflow);
    CHECK_THAT(bytes.text, contains("x 4"));
}

}  // namespace moe_test::matrix_view_test
