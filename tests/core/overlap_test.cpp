#include "moe/core/overlap.hpp"

#include <cstddef>
#include <set>
#include <vector>

#include "moe/core/alignment.hpp"
#include "moe/core/random.hpp"
#include "support/catch.hpp"
#include "support/errors.hpp"
#include "support/unaligned.hpp"

namespace moe_test::overlap_test {

using moe::MatrixView;
using moe::overlaps;
using moe_test::contains;
using moe_test::error_of;

namespace {

std::vector<float> memory(4096);
float* const data = memory.data();

MatrixView<float> window(std::size_t at, std::size_t rows, std::size_t cols, std::size_t stride) {
    return moe::view(data + at, rows, cols, stride);
}

/// By the definition: the sets of elements meet.
bool meet(const MatrixView<float>& a, const MatrixView<float>& b) {
    std::set<const float*> elements;
    for (std::size_t r = 0; r < a.rows(); ++r) {
        for (float& element : a.row_span(r)) {
            elements.insert(&element);
        }
    }
    for (std::size_t r = 0; r < b.rows(); ++r) {
        for (float& element : b.row_span(r)) {
            if (elements.contains(&element)) {
                return true;
            }
        }
    }
    return false;
}

/// In both orders, and as views of constants.
void check(bool expected, const MatrixView<float>& a, const MatrixView<float>& b) {
    CHECK(overlaps(a, b) == expected);
    CHECK(overlaps(b, a) == expected);
    CHECK(overlaps(MatrixView<const float>(a), b) == expected);
    CHECK(overlaps(b, MatrixView<const float>(a)) == expected);
}

}  // namespace

TEST_CASE("matrices behind each other do not overlap, one element later they do", "[overlap]") {
    check(false, window(0, 5, 6, 6), window(30, 5, 6, 6));
    check(true, window(0, 5, 6, 6), window(29, 5, 6, 6));
    check(true, window(0, 5, 6, 6), window(0, 5, 6, 6));
    check(false, window(0, 5, 6, 7), window(34, 5, 6, 7));  // the last row has no padding behind it
    check(true, window(0, 5, 6, 7), window(33, 5, 6, 7));
    check(true, window(0, 100, 6, 6), window(300, 1, 2, 2));  // one inside the other
    check(false, window(0, 5, 6, 6), window(2000, 5, 6, 6));
}

TEST_CASE("windows of one matrix overlap where their columns meet", "[overlap]") {
    check(false, window(0, 8, 5, 13), window(5, 8, 8, 13));
    check(true, window(0, 8, 6, 13), window(5, 8, 8, 13));
    check(false, window(3, 8, 4, 13), window(8, 8, 5, 13));
    check(true, window(3, 8, 4, 13), window(12, 8, 5, 13));       // its tail lies in the next row's columns 0..3
    check(false, window(3, 8, 4, 13), window(13 + 7, 8, 9, 13));  // and here it ends where the window begins
    check(true, window(3, 8, 4, 13), window(13 + 7, 8, 10, 13));
    check(false, window(0, 1, 5, 13), window(5, 1, 8, 13));
}

TEST_CASE("empty matrices overlap nothing", "[overlap]") {
    check(false, window(0, 0, 6, 6), window(0, 5, 6, 6));
    check(false, window(7, 5, 0, 6), window(0, 5, 6, 6));
    check(false, window(0, 0, 6, 6), window(0, 0, 6, 6));
    check(false, {}, window(0, 5, 6, 6));
    check(false, {}, {});
}

TEST_CASE("different strides overlap where their ranges do, though no element be shared", "[overlap]") {
    const auto odd = window(1, 4, 1, 4);
    const auto even = window(0, 10, 1, 2);
    CHECK_FALSE(meet(odd, even));
    check(true, odd, even);
    check(true, window(0, 4, 3, 5), window(3, 4, 2, 7));
    check(false, window(0, 4, 3, 5), window(18, 4, 2, 7));
}

TEST_CASE("elements of different sizes are compared in bytes", "[overlap]") {
    std::vector<double> wide(100);
    void* const same = wide.data();
    const auto* const bytes = static_cast<const unsigned char*>(same);
    const auto doubles = moe::view(wide.data(), 4, 2, 5);  // bytes 0..15 of every 40
    CHECK_FALSE(overlaps(doubles, moe::view(bytes + 16, 4, 24, 40)));
    CHECK(overlaps(doubles, moe::view(bytes + 15, 4, 24, 40)));
    CHECK(overlaps(doubles, moe::view(bytes + 16, 4, 25, 40)));
    CHECK_FALSE(overlaps(moe::view(bytes + 136, 1, 100), doubles));
    CHECK(overlaps(moe::view(bytes + 135, 1, 100), doubles));
}

TEST_CASE("equal strides, or a single row in each, agree with the definition", "[overlap]") {
    std::size_t both = 0;
    std::size_t neither = 0;
    std::uint64_t counter = 0;
    const auto draw = [&](std::size_t low, std::size_t high) {
        return low + moe::random_bits(17, counter++) % (high - low + 1);
    };
    for (int i = 0; i < 20000; ++i) {
        const std::size_t stride = draw(1, 11);
        const bool single = draw(0, 3) == 0;
        const auto any = [&] {
            const std::size_t rows = single ? 1 : draw(0, 6);
            return window(draw(0, 60), rows, draw(0, stride), stride + (single ? draw(0, 5) : 0));
        };
        const auto a = any();
        const auto b = any();
        const bool expected = meet(a, b);
        ++(expected ? both : neither);
        REQUIRE(overlaps(a, b) == expected);
    }
    CHECK(both > 2000);
    CHECK(neither > 2000);
}

TEST_CASE("an overlap names both shapes and the distance", "[overlap]") {
    CHECK_NOTHROW(moe::require_disjoint("Here", "x", window(0, 5, 6, 6), "y", window(30, 5, 6, 6)));
    auto error = error_of([] { moe::require_disjoint("Here", "x", window(0, 5, 6, 6), "y", window(20, 4, 6, 7)); });
    CHECK(error.code == moe::ErrorCode::layout);
    CHECK_THAT(error.text, contains("Here: x (5 x 6, row stride 6) and y (4 x 6, row stride 7, 80 bytes behind it)"));
    error = error_of([] { moe::require_disjoint("Here", "x", window(20, 5, 6, 6), "y", window(19, 4, 6, 7)); });
    CHECK_THAT(error.text, contains("4 bytes before it) overlap"));
}

TEST_CASE("a pointer that is not aligned to its type is named with the alignment it lacks", "[alignment]") {
    const moe_test::Unaligned<double> odd(std::vector<double>(3));
    CHECK_NOTHROW(moe::require_aligned(data, "Here", "x"));
    CHECK_NOTHROW(moe::require_aligned(static_cast<const double*>(nullptr), "Here", "x"));
    const auto error = error_of([&] { moe::require_aligned(odd.data(), "Here", "x"); });
    CHECK(error.code == moe::ErrorCode::alignment);
    CHECK_THAT(error.text, contains("Here: x must be aligned to the 8 bytes of an element, it begins 1 beyond"));
}

}  // namespace moe_test::overlap_test
