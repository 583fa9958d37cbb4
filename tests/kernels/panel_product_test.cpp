#include "moe/kernels/panel_product.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "kernels/quantized_cases.hpp"
#include "moe/kernels/gathered_product.hpp"
#include "moe/kernels/quantized_product.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::panel_product_test {

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

template <class Element>
moe::PackedPanels one_panel(const std::vector<Element>& panel) {
    return {reinterpret_cast<const std::byte*>(panel.data()), 1, panel.size() * sizeof(Element)};
}

/// rows * panel, the panel (k, width) gathered as values of the compute type.
template <class T>
std::vector<T> gathered(Scratch<T>& scratch, moe::RowPointers rows, std::size_t k, const std::vector<T>& panel) {
    return scratch.sums(rows.size(), [&](const moe::PanelScratch<T>& s) {
        const auto gather = [&](std::size_t, std::size_t first, std::size_t depth, T* buffer) {
            std::copy_n(&panel[first * width_of<T>], depth * width_of<T>, buffer);
        };
        moe::multiply_gathered<T>(rows, k, 1, s, {gather});
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
                moe::multiply_packed<W>(some, k, one_panel(panel), s);
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
                moe::multiply_dequantized<F>(some, k, one_panel(panel.bytes), s);
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
                scratch.sums(
                    n, [&](const auto& s) { moe::multiply_quantized<F>(rows.rows, k, one_panel(panel.bytes), s); }),
                expected));
        }
    }
}

/// Several panels in one call, each with a gap behind it, have the bits of each alone.
template <class Multiply>
void check_together(std::size_t n_rows, std::size_t panel_bytes, const std::vector<std::byte>& memory,
                    const Multiply& multiply) {
    const std::size_t stride = panel_bytes + 64;
    const std::size_t size = n_rows * width_of<float>;
    Scratch<float> scratch;
    for (std::size_t count = 1; count <= moe::max_task_panels; ++count) {
        INFO(count << " panels, " << n_rows << " rows");
        multiply(moe::PackedPanels{memory.data(), count, stride}, scratch.panel);
        const std::vector<float> together(scratch.panel.sums.begin(),
                                          scratch.panel.sums.begin() + static_cast<std::ptrdiff_t>(count * size));
        for (std::size_t i = 0; i < count; ++i) {
            multiply(moe::PackedPanels{memory.data() + i * stride, 1, stride}, scratch.panel);
            REQUIRE(moe_test::same_bits(std::span<const float>(together).subspan(i * size, size),
                                        std::span<const float>(scratch.panel.sums_of(0, n_rows), size)));
        }
    }
}

}  // namespace

TEST_CASE("panels multiplied together have the bits of each alone", "[product]") {
    for (const std::size_t n : {1U, 2U, 3U, 4U, 6U, 7U, 40U}) {
        for (const std::size_t k : {5U, 128U, 300U}) {
            moe_test::Draw draw(n * 1000 + k);
            const Rows<float> rows(draw, n, k);
            const std::size_t floats = k * width_of<float> * sizeof(float);
            std::vector<std::byte> memory((floats + 64) * moe::max_task_panels);
            const auto values = moe_test::random_elements<float>(draw, memory.size() / sizeof(float), 1);
            std::memcpy(memory.data(), values.data(), memory.size());
            check_together(n, floats, memory, [&](const moe::PackedPanels& panels, const auto& s) {
                moe::multiply_packed<float>(rows.pointers, k, panels, s);
            });
            const moe_test::CodedRows coded(draw, n, k, moe::Int4::zero_point, false);
            const std::size_t bytes = moe::QuantizedPanel<moe::Int4>::bytes(k);
            std::vector<std::byte> codes((bytes + 64) * moe::max_task_panels);
            for (std::size_t i = 0; i < moe::max_task_panels; ++i) {
                const moe_test::CodedPanel<moe::Int4> panel(draw, k, false);
                std::copy(panel.bytes.begin(), panel.bytes.end(),
                          codes.begin() + static_cast<std::ptrdiff_t>(i * (bytes + 64)));
            }
            check_together(n, bytes, codes, [&](const moe::PackedPanels& panels, const auto& s) {
                moe::multiply_quantized<moe::Int4>(coded.rows, k, panels, s);
            });
        }
    }
}

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

}  // namespace moe_test::panel_product_test
