#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "kernels/quantized_cases.hpp"
#include "moe/kernels/tile.hpp"
#include "suites.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "support/multiply_add.hpp"

namespace neon {

namespace {

constexpr std::size_t width = moe::Panel<float>::width;

std::string size_text(std::size_t rows, std::size_t k) {
    return std::to_string(rows) + " rows of " + std::to_string(k);
}

/// The product in calls of `block` groups, before a row that must stay as it is: empty if it does not.
template <class C>
std::vector<float> by_tiles(const moe_test::CodedRows& rows, const std::vector<std::byte>& panel, std::size_t block) {
    const std::size_t n = rows.rows.size();
    const std::size_t groups = rows.layout.groups();
    std::vector<float> c((n + 1) * width, 99.0F);
    for (std::size_t first = 0; first < groups; first += block) {
        moe::multiply_quantized_tile<C>(n, rows.rows.data(), rows.layout, first, &panel[first * C::group_bytes],
                                        std::min(block, groups - first), c.data(), first != 0);
    }
    if (!std::all_of(c.end() - width, c.end(), [](float value) { return value == 99.0F; })) {
        return {};
    }
    c.resize(n * width);
    return c;
}

template <class F>
void check_integer(Verdict& verdict, const std::string& name) {
    for (const std::size_t k : {1U, 32U, 70U, 260U}) {
        for (std::size_t n = 1; n <= moe::Panel<float>::tile_rows; ++n) {
            for (const bool extreme : {false, true}) {
                moe_test::Draw draw(100 * k + n);
                const moe_test::CodedPanel<F> panel(draw, k, extreme);
                const moe_test::CodedRows rows(draw, n, k, F::zero_point, extreme);
                const std::vector<float> expected = plain_product(rows, panel);
                const std::string what = name + ", " + size_text(n, k) + (extreme ? ", extreme" : "");
                for (const std::size_t block : {std::size_t{1}, std::size_t{3}, panel.groups}) {
                    const auto c = by_tiles<moe::Codes<F>>(rows, panel.bytes, block);
                    verdict.check(moe_test::same_bits(c, expected), what);
                }
                if constexpr (F::zero_point == 8) {
                    using Expanded = moe::Codes<F, true>;
                    std::vector<std::byte> bytes(panel.groups * Expanded::group_bytes);
                    for (std::size_t g = 0; g < panel.groups; ++g) {
                        moe::detail::expand_codes(&panel.bytes[g * moe::QuantizedPanel<F>::group_bytes],
                                                  &bytes[g * Expanded::group_bytes]);
                    }
                    const auto c = by_tiles<Expanded>(rows, bytes, panel.groups);
                    verdict.check(moe_test::same_bits(c, expected), what + ", expanded");
                }
            }
        }
    }
}

/// One block of a panel whose weights are stored as W.
template <class W>
void check_tile(Verdict& verdict, const std::string& name) {
    using T = moe::ComputeType<W>;
    constexpr std::size_t columns = moe::Panel<T>::width;
    for (const std::size_t depth : {std::size_t{1}, std::size_t{7}, moe::Panel<T>::depth}) {
        for (std::size_t n = 1; n <= moe::Panel<T>::tile_rows; ++n) {
            moe_test::Draw draw(10 * depth + n);
            const std::vector<T> a = moe_test::random_elements<T>(draw, n * depth, 1);
            const std::vector<W> panel = moe_test::random_elements<W>(draw, depth * columns, 1);
            std::vector<T> c = moe_test::random_elements<T>(draw, n * columns, 1);
            std::vector<T> expected = c;
            std::array<const T*, moe::Panel<T>::tile_rows> row{};
            for (std::size_t r = 0; r < n; ++r) {
                row[r] = &a[r * depth];
                for (std::size_t o = 0; o < columns; ++o) {
                    T sum = 0;
                    for (std::size_t k = 0; k < depth; ++k) {
                        const T weight = moe::load_element(&panel[k * columns + o]);
                        sum = moe_test::multiply_add(a[r * depth + k], weight, sum);
                    }
                    expected[r * columns + o] += sum;
                }
            }
            moe::multiply_tile(n, row.data(), panel.data(), depth, c.data(), true);
            verdict.check(moe_test::same_bits(c, expected), name + ", " + size_text(n, depth));
        }
    }
}

}  // namespace

void check_tiles(Verdict& verdict) {
    check_integer<moe::Int8>(verdict, "tile of Int8");
    check_integer<moe::Int4>(verdict, "tile of Int4");
    check_tile<float>(verdict, "tile of float");
    check_tile<double>(verdict, "tile of double");
    check_tile<moe::bfloat16>(verdict, "tile of bfloat16");
    check_tile<moe::float16>(verdict, "tile of float16");
}

}  // namespace neon
