#include "moe/kernels/panel_product.hpp"

#include <cstddef>
#include <vector>

#include "kernels/quantized_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"

namespace {

template <class T>
constexpr std::size_t width_of = moe::Panel<T>::width;

/// Around the limits of tiles and tasks, and wherever a kernel may change its way.
constexpr std::size_t row_counts[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 31, 32, 63, 64, 191, 192};
constexpr std::size_t depths[] = {1, 5, 31, 32, 33, 63, 64, 65, 127, 128, 129, 300};

template <class T>
struct Scratch {
    moe::Workspace workspace;
    moe::PanelScratch<T> panel;

    Scratch() : panel(take()) {}

    [[nodiscard]] moe::PanelScratch<T> take() {
        moe::Arena measure;
        (void)moe::PanelScratch<T>::take(measure);
        workspace.reserve(measure.used());
        moe::Arena arena = workspace.arena();
        return moe::PanelScratch<T>::take(arena);
    }

    /// What `product` leaves in the sums of `n_rows` rows; the sums of all others must stay.
    template <class Product>
    [[nodiscard]] std::vector<T> sums(std::size_t n_rows, Product&& product) {
        std::fill(panel.sums.begin(), panel.sums.end(), T(99));
        product(panel);
        const auto end = panel.sums.begin() + static_cast<std::ptrdiff_t>(n_rows * width_of<T>);
        CHECK(std::all_of(end, panel.sums.end(), [](T value) { return value == T(99); }));
        return {panel.sums.begin(), end};
    }
};

template <class T>
struct Rows {
    std::vector<T> x;
    std::vector<const std::byte*> pointers;

    Rows(moe_test::Draw& draw, std::size_t n, std::size_t k) : x(moe_test::random_elements<T>(draw, n * k, 1)) {
        for (std::size_t r = 0; r < n; ++r) {
            pointers.push_back(reinterpret_cast<const std::byte*>(&x[r * k]));
        }
    }
};

/// rows * panel, the panel (k, width) gathered as values of the compute type.
template <class T>
std::vector<T> gathered(Scratch<T>& scratch, moe::RowPointers rows, std::size_t k, const std::vector<T>& panel) {
    return scratch.sums(rows.size(), [&](const moe::PanelScratch<T>& s) {
        moe::multiply_gathered<T>(rows, k, s, [&](std::size_t first, std::size_t depth, T* buffer) {
            std::copy_n(&panel[first * width_of<T>], depth * width_of<T>, buffer);
        });
    });
}

/// Each row alone has the bits it has among all.
template <class T, class Product>
void check_rows_alone(Scratch<T>& scratch, moe::RowPointers rows, const std::vector<T>& expected,
                      const Product& product) {
    for (std::size_t r = 0; r < rows.size(); r += 1 + rows.size() / 16) {
        const auto alone = scratch.sums(1, [&](const auto& s) { product(rows.subspan(r, 1), s); });
        REQUIRE(moe_test::same_bits(alone, std::span(expected).subspan(r * width_of<T>, width_of<T>)));
    }
}

template <class W>
void check_packed() {
    using T = moe::ComputeType<W>;
    Scratch<T> scratch;
    for (const std::size_t n : row_counts) {
        for (const std::size_t k : depths) {
            INFO(n << " rows of " << k);
            moe_test::Draw draw(n * 1000 + k);
            const Rows<T> rows(draw, n, k);
            const auto panel = moe_test::random_elements<W>(draw, k * width_of<T>, 1);
            std::vector<T> values(panel.size());
            moe::convert_run(panel.data(), panel.size(), values.data());
            const std::vector<T> expected = gathered<T>(scratch, rows.pointers, k, values);
            const auto product = [&](moe::RowPointers some, const auto& s) {
                moe::multiply_packed(some, k, panel.data(), s);
            };
            REQUIRE(moe_test::same_bits(scratch.sums(n, [&](const auto& s) { product(rows.pointers, s); }), expected));
            check_rows_alone<T>(scratch, rows.pointers, expected, product);
        }
    }
}

template <class F>
void check_dequantized() {
    Scratch<float> scratch;
    for (const std::size_t n : row_counts) {
        for (const std::size_t k : depths) {
            INFO(n << " rows of " << k);
            moe_test::Draw draw(n * 1000 + k);
            const Rows<float> rows(draw, n, k);
            const moe_test::CodedPanel<F> panel(draw, k, false);
            std::vector<float> values(k * width_of<float>);
            for (std::size_t i = 0; i < values.size(); ++i) {
                values[i] = panel.value(i / width_of<float>, i % width_of<float>);
            }
            const std::vector<float> expected = gathered<float>(scratch, rows.pointers, k, values);
            const auto product = [&](moe::RowPointers some, const auto& s) {
                moe::multiply_dequantized<F>(some, k, panel.bytes.data(), s);
            };
            REQUIRE(moe_test::same_bits(scratch.sums(n, [&](const auto& s) { product(rows.pointers, s); }), expected));
            check_rows_alone<float>(scratch, rows.pointers, expected, product);
        }
    }
}

template <class F>
void check_quantized() {
    Scratch<float> scratch;
    for (const std::size_t n : row_counts) {
        for (const std::size_t k : depths) {
            INFO(n << " rows of " << k);
            moe_test::Draw draw(n * 1000 + k);
            const moe_test::CodedPanel<F> panel(draw, k, false);
            const moe_test::CodedRows rows(draw, n, k, F::zero_point, false);
            const std::vector<float> expected = plain_product(rows, panel);
            REQUIRE(moe_test::same_bits(
                scratch.sums(n,
                             [&](const auto& s) { moe::multiply_quantized<F>(rows.rows, k, panel.bytes.data(), s); }),
                expected));
        }
    }
}

}  // namespace

TEST_CASE("packed panels of values give the bits of gathered ones: float, double", "[product]") {
    check_packed<float>();
    check_packed<double>();
}
TEST_CASE("packed panels of values give the bits of gathered ones: bfloat16, float16", "[product]") {
    check_packed<moe::bfloat16>();
    check_packed<moe::float16>();
}
TEST_CASE("dequantised panels give the bits of the same values gathered", "[product]") {
    check_dequantized<moe::Int8>();
    check_dequantized<moe::Int4>();
}
TEST_CASE("integer products of any number of rows have the bits of the documented order", "[product]") {
    check_quantized<moe::Int8>();
    check_quantized<moe::Int4>();
}
