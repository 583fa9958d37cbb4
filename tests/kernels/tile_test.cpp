#include "moe/kernels/tile.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"
#include "support/multiply_add.hpp"

namespace moe_test::tile_test {

namespace {

template <class T>
struct Product {
    static constexpr std::size_t width = moe::Panel<T>::width;
    static constexpr std::size_t block = moe::Panel<T>::depth;

    std::size_t rows;
    std::size_t depth;
    std::vector<T> a;
    std::vector<T> panel;

    Product(std::size_t n_rows, std::size_t k) : rows(n_rows), depth(k) {
        moe_test::Draw draw(rows * 1000 + depth);
        a = moe_test::random_elements<T>(draw, rows * depth, 1);
        panel = moe_test::random_elements<T>(draw, depth * width, 1);
    }

    /// The documented order, spelt out.
    [[nodiscard]] std::vector<T> plain() const {
        std::vector<T> c(rows * width);
        for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t o = 0; o < width; ++o) {
                for (std::size_t first = 0; first < depth; first += block) {
                    T sum = 0;
                    for (std::size_t k = first; k < std::min(first + block, depth); ++k) {
                        sum = moe_test::multiply_add(a[r * depth + k], panel[k * width + o], sum);
                    }
                    c[r * width + o] = first == 0 ? sum : c[r * width + o] + sum;
                }
            }
        }
        return c;
    }

    /// Rows [begin, end) in one call a block, behind a row that must stay as it is.
    [[nodiscard]] std::vector<T> by_tiles(std::size_t begin, std::size_t end) const {
        std::vector<T> c((end - begin + 1) * width, T(99));
        for (std::size_t first = 0; first < depth; first += block) {
            std::array<const T*, moe::Panel<T>::tile_rows> row{};
            for (std::size_t r = begin; r < end; ++r) {
                row[r - begin] = &a[r * depth + first];
            }
            moe::multiply_tile<T>(end - begin, row.data(), &panel[first * width], std::min(block, depth - first),
                                  c.data(), first != 0);
        }
        for (std::size_t o = 0; o < width; ++o) {
            CHECK(c[(end - begin) * width + o] == T(99));
        }
        c.resize((end - begin) * width);
        return c;
    }
};

template <class T>
void check_order() {
    constexpr std::size_t block = Product<T>::block;
    for (const std::size_t depth : {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{70}, block - 1, block,
                                    block + 1, 2 * block, 3 * block + 5}) {
        for (std::size_t rows = 1; rows <= moe::Panel<T>::tile_rows; ++rows) {
            const Product<T> product(rows, depth);
            INFO(rows << " rows, depth " << depth);
            const std::vector<T> together = product.by_tiles(0, rows);
            REQUIRE(moe_test::same_bits(together, product.plain()));
            std::vector<T> one_by_one;
            for (std::size_t r = 0; r < rows; ++r) {
                const std::vector<T> row = product.by_tiles(r, r + 1);
                one_by_one.insert(one_by_one.end(), row.begin(), row.end());
            }
            REQUIRE(moe_test::same_bits(together, one_by_one));
        }
    }
}

}  // namespace

TEST_CASE("1 to 6 rows of a tile give the bits of the documented order of summation: float", "[tile]") {
    check_order<float>();
}
TEST_CASE("1 to 6 rows of a tile give the bits of the documented order of summation: double", "[tile]") {
    check_order<double>();
}

TEST_CASE("a tile of depth 0 is zero, or adds nothing", "[tile]") {
    std::vector<float> c(moe::Panel<float>::width, 3.0F);
    const std::array<const float*, 1> row{nullptr};
    moe::multiply_tile<float>(1, row.data(), static_cast<const float*>(nullptr), 0, c.data(), true);
    CHECK(c == std::vector<float>(c.size(), 3.0F));
    moe::multiply_tile<float>(1, row.data(), static_cast<const float*>(nullptr), 0, c.data(), false);
    CHECK(c == std::vector<float>(c.size(), 0.0F));
}

TEST_CASE("the accumulators of a tile fit in the registers, and its strips fill the panel", "[tile]") {
    for (std::size_t rows = 1; rows <= moe::Panel<float>::tile_rows; ++rows) {
        const std::size_t vectors = moe::tile_vectors<float>(rows);
        // the weights of a single row are operands in memory, one register is enough for them
        CHECK((rows == 1 ? vectors + 2 : (rows + 1) * vectors + 1) <= moe::vector_registers);
        CHECK(moe::Panel<float>::vectors % vectors == 0);
    }
    CHECK(moe::Panel<float>::width == moe::Panel<float>::vectors * moe::lanes<float>);
    CHECK(moe::Panel<float>::width == 2 * moe::Panel<double>::width);
}

}  // namespace moe_test::tile_test
