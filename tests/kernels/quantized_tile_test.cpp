#include "moe/kernels/quantized_tile.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "kernels/quantized_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace moe_test::quantized_tile_test {

namespace {

constexpr std::size_t width = moe::Panel<float>::width;

/// Rows [begin, end) in calls of `block` groups, before a row that must stay as it is.
template <class C>
std::vector<float> by_tiles(const moe_test::CodedRows& rows, std::size_t begin, std::size_t end,
                            const std::vector<std::byte>& panel, std::size_t block) {
    std::vector<float> c((end - begin + 1) * width, 99.0F);
    const std::size_t groups = rows.layout.groups();
    for (std::size_t first = 0; first < groups; first += block) {
        moe::multiply_quantized_tile<C>(end - begin, rows.rows.data() + begin, rows.layout, first,
                                        &panel[first * C::group_bytes], std::min(block, groups - first), c.data(),
                                        first != 0);
    }
    CHECK(std::all_of(c.end() - width, c.end(), [](float value) { return value == 99.0F; }));
    c.resize((end - begin) * width);
    return c;
}

/// The bits of the spelt out order, for any number of rows and groups a call.
template <class C>
void check_bits(const moe_test::CodedRows& rows, const std::vector<float>& expected,
                const std::vector<std::byte>& panel) {
    const std::size_t n = rows.rows.size();
    for (const std::size_t block : {std::size_t{1}, std::size_t{3}, rows.layout.groups()}) {
        REQUIRE(moe_test::same_bits(by_tiles<C>(rows, 0, n, panel, block), expected));
    }
    for (std::size_t r = 0; r < n; ++r) {
        REQUIRE(
            moe_test::same_bits(by_tiles<C>(rows, r, r + 1, panel, 2), std::span(expected).subspan(r * width, width)));
    }
}

template <class F>
void check_order() {
    for (const std::size_t k : {1U, 31U, 32U, 33U, 70U, 128U, 260U}) {
        for (std::size_t n = 1; n <= moe::Panel<float>::tile_rows; ++n) {
            for (const bool extreme : {false, true}) {
                moe_test::Draw draw(100 * k + n);
                const moe_test::CodedPanel<F> panel(draw, k, extreme);
                const moe_test::CodedRows rows(draw, n, k, F::zero_point, extreme);
                const std::vector<float> expected = plain_product(rows, panel);
                INFO(n << " rows of " << k << (extreme ? ", extreme" : ""));
                check_bits<moe::Codes<F>>(rows, expected, panel.bytes);
                if constexpr (F::zero_point == 8) {
                    using Expanded = moe::Codes<F, true>;
                    std::vector<std::byte> bytes(panel.groups * Expanded::group_bytes);
                    for (std::size_t g = 0; g < panel.groups; ++g) {
                        moe::detail::expand_codes(&panel.bytes[g * moe::QuantizedPanel<F>::group_bytes],
                                                  &bytes[g * Expanded::group_bytes]);
                    }
                    check_bits<Expanded>(rows, expected, bytes);
                }
            }
        }
    }
}

}  // namespace

TEST_CASE("1 to 6 quantised rows give the bits of the documented order: Int8", "[quantized]") {
    check_order<moe::Int8>();
}
TEST_CASE("1 to 6 quantised rows give the bits of the documented order: Int4, packed and expanded", "[quantized]") {
    check_order<moe::Int4>();
}

TEST_CASE("the accumulators of a quantised tile fit in the registers, and its strips fill the panel", "[quantized]") {
    for (std::size_t rows = 1; rows <= moe::Panel<float>::tile_rows; ++rows) {
        const std::size_t vectors = moe::detail::quantized_tile_vectors(rows);
        CHECK(((rows + 1) * vectors + 2 <= moe::vector_registers || vectors == 1));
        CHECK(width / moe::arch::IntegerLanes::size % vectors == 0);
    }
}

}  // namespace moe_test::quantized_tile_test
