#include "moe/kernels/outer_product.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include "kernels/outer_cases.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_cases.hpp"

namespace moe_test::outer_test {

namespace {

using outer_cases::Operand;
using outer_cases::Place;
using outer_cases::poison;
using outer_cases::Scratch;
using outer_cases::Sum;

/// Within the bound of a chain of n_tokens products, with a rounding more for each scale.
template <class T>
void check_close(const Sum<T>& sum, const std::vector<T>& c) {
    const double both = std::is_same_v<T, double> ? 2 : 1;  // the sum here rounds too
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < sum.m(); ++i) {
        for (std::size_t j = 0; j < sum.n(); ++j) {
            auto exact = static_cast<double>(sum.start[i * sum.n() + j]);
            double size = std::abs(exact);
            for (std::size_t t = 0; t < sum.a.n_tokens(); ++t) {
                const double term = sum.a.exact(t, i) * sum.b.exact(t, j);
                exact += term;
                size += std::abs(term);
            }
            const double error = std::abs(static_cast<double>(c[i * sum.n() + j]) - exact);
            wrong += error <= both * rounding_bound<T>(sum.a.n_tokens() + 3, size) ? 0U : 1U;  // NaN is wrong
        }
    }
    CHECK(wrong == 0);
}

struct Shape {
    std::size_t n_tokens;
    std::size_t m;
    std::size_t n;
};

/// Around the edges of tiles, blocks of tokens, of rows and of columns; primes; and whatever the draw gives.
template <class T>
std::vector<Shape> shapes() {
    constexpr std::size_t height = moe::OuterTile<T>::rows;
    constexpr std::size_t width = moe::OuterTile<T>::columns;
    constexpr std::size_t few = moe::OuterTile<T>::few_tokens;
    using Block = moe::OuterBlock<T>;
    std::vector<Shape> all{{1, 1, 1}, {7, 1, width}, {7, height, 1}, {5, 13, 29}};
    for (const std::size_t m : {height - 1, height, height + 1, 2 * height, 2 * height + 1}) {
        for (const std::size_t n : {width - 1, width, width + 1, 2 * width, 3 * width - 1}) {
            all.push_back({9, m, n});
        }
    }
    for (const std::size_t tokens :
         {few - 1, few, few + 1, Block::tokens - 1, Block::tokens, Block::tokens + 1, 2 * Block::tokens + 1}) {
        all.push_back({tokens, height + 1, width + 1});
    }
    for (const std::size_t m : {Block::rows - 1, Block::rows, Block::rows + 1, 2 * Block::rows + 1}) {
        all.push_back({3, m, width + 1});
    }
    for (const std::size_t tokens : {std::size_t{1}, std::size_t{3}, few, few + 1}) {
        const std::size_t columns = Block::columns_of(tokens);
        all.push_back({tokens, 2, columns - 1});
        all.push_back({tokens, 2, columns});
        all.push_back({tokens, 2, columns + 1});
    }
    Draw draw(11);
    for (int i = 0; i < 60; ++i) {
        all.push_back({draw.size(1, 3 * Block::tokens), draw.size(1, 4 * height), draw.size(1, 3 * Block::columns)});
    }
    return all;
}

template <class T>
void check_order() {
    const Scratch<T> scratch;
    std::uint64_t seed = 0;
    for (const auto& [n_tokens, m, n] : shapes<T>()) {
        INFO(n_tokens << " tokens, " << m << " x " << n);
        Sum<T> sum(++seed, n_tokens, m, n);
        const std::size_t gap = sum.draw.size(0, 3);
        const std::vector<T> c = sum.once(scratch, {n + gap, 1}, sum.draw.coin() ? Side::begin : Side::end);
        REQUIRE(same_bits(c, sum.chain()));
        check_close(sum, c);
    }
}

/// Runs of random lengths that together are `count`, some of them empty.
std::vector<std::size_t> pieces(Draw& draw, std::size_t count, std::size_t longest) {
    std::vector<std::size_t> lengths;
    while (count > 0) {
        lengths.push_back((std::min)(count, draw.size(0, longest)));
        count -= lengths.back();
    }
    return lengths;
}

template <class T>
void check_token_splits() {
    const Scratch<T> scratch;
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
        Draw draw(seed);
        Sum<T> sum(seed + 1000, draw.size(2, 400), draw.size(1, 20), draw.size(1, 100));
        INFO("seed " << seed << ": " << sum.a.n_tokens() << " tokens, " << sum.m() << " x " << sum.n());
        const Place place{sum.n(), 1};
        const std::vector<T> split = sum.run(place, Side::end, [&](const moe::OuterTarget<T>& c) {
            std::size_t first = 0;
            for (const std::size_t count : pieces(draw, sum.a.n_tokens(), draw.coin() ? 5 : 200)) {
                moe::add_outer<T>(sum.a.rows(first, count, 0, sum.m()), sum.b.rows(first, count, 0, sum.n()), c,
                                  scratch);
                first += count;
            }
            CHECK(first == sum.a.n_tokens());
        });
        REQUIRE(same_bits(split, sum.once(scratch)));
    }
}

template <class T>
void check_rectangles() {
    const Scratch<T> scratch;
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
        Draw draw(seed);
        Sum<T> sum(seed + 2000, draw.size(1, 200), draw.size(1, 60), draw.size(1, 200));
        INFO("seed " << seed << ": " << sum.a.n_tokens() << " tokens, " << sum.m() << " x " << sum.n());
        const Place place{sum.n() + draw.size(0, 2), 1};
        const std::vector<T> split = sum.run(place, Side::end, [&](const moe::OuterTarget<T>& c) {
            std::size_t i = 0;
            for (const std::size_t rows : pieces(draw, sum.m(), 20)) {
                std::size_t j = 0;
                for (const std::size_t columns : pieces(draw, sum.n(), 80)) {
                    moe::add_outer<T>(sum.a.rows(0, sum.a.n_tokens(), i, rows),
                                      sum.b.rows(0, sum.a.n_tokens(), j, columns), c.at(i, j), scratch);
                    j += columns;
                }
                i += rows;
            }
        });
        REQUIRE(same_bits(split, sum.once(scratch, place)));
    }
}

template <class T>
void check_storage_orders() {
    const Scratch<T> scratch;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        Draw draw(seed);
        Sum<T> sum(seed + 3000, draw.size(1, 150), draw.size(2, 40), draw.size(2, 90));
        const std::size_t m = sum.m();
        const std::size_t n = sum.n();
        INFO("seed " << seed << ": " << sum.a.n_tokens() << " tokens, " << m << " x " << n);
        const std::vector<T> expected = sum.once(scratch);
        for (const Side side : {Side::begin, Side::end}) {
            CHECK(same_bits(sum.once(scratch, {2 * n, 1}, side), expected));  // every second row, as gate and up may be
            CHECK(same_bits(sum.once(scratch, {1, m}, side), expected));      // transposed
            CHECK(same_bits(sum.once(scratch, {1, m + 3}, side), expected));
            CHECK(same_bits(sum.once(scratch, {2 * n + 1, 2}, side), expected));  // every second column
            CHECK(same_bits(sum.once(scratch, {2, 2 * m + 1}, side), expected));
        }
    }
}

/// Row i and column j of C have what is in column i of a and column j of b, and no other.
template <class T>
void check_isolation() {
    const Scratch<T> scratch;
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
        Draw draw(seed);
        Sum<T> sum(seed + 4000, draw.size(1, 200), draw.size(1, 30), draw.size(1, 90));
        const std::vector<T> clean = sum.once(scratch);
        const std::size_t row = draw.size(0, sum.m() - 1);
        const std::size_t column = draw.size(0, sum.n() - 1);
        const T bad = draw.coin() ? poison<T> : std::numeric_limits<T>::infinity();
        sum.a.set(draw.size(0, sum.a.n_tokens() - 1), row, bad);
        sum.b.set(draw.size(0, sum.a.n_tokens() - 1), column, bad);
        INFO("seed " << seed << ": row " << row << ", column " << column);
        const std::vector<T> c = sum.once(scratch);
        std::size_t finite_in_cross = 0;
        std::size_t changed_elsewhere = 0;
        for (std::size_t i = 0; i < sum.m(); ++i) {
            for (std::size_t j = 0; j < sum.n(); ++j) {
                const std::span<const T> now(&c[i * sum.n() + j], 1);
                if (i == row || j == column) {
                    finite_in_cross += all_finite(now) ? 1U : 0U;
                } else {
                    changed_elsewhere += same_bits(now, std::span<const T>(&clean[i * sum.n() + j], 1)) ? 0U : 1U;
                }
            }
        }
        REQUIRE(finite_in_cross == 0);
        REQUIRE(changed_elsewhere == 0);
    }
}

template <class T>
void check_nothing() {
    const Scratch<T> scratch;
    const Sum<T> sum(1, 0, 7, 33);
    CHECK(same_bits(sum.once(scratch), sum.start));
    const Operand<T>& none = sum.a;
    std::vector<T> c{T(-0.0), T(3)};
    const std::vector<T> before = c;
    moe::add_outer<T>(none.rows(), none.rows(), {c.data(), 1, 1}, scratch);
    CHECK(same_bits(c, before));
    const Sum<T> some(2, 3, 2, 2);
    moe::add_outer<T>(some.a.rows(0, 3, 0, 0), some.b.rows(), {c.data(), 1, 1}, scratch);
    moe::add_outer<T>(some.a.rows(), some.b.rows(0, 3, 2, 0), {c.data(), 1, 1}, scratch);
    CHECK(same_bits(c, before));
}

}  // namespace

TEST_CASE("an outer product is one chain an element from what is stored on: float", "[outer]") { check_order<float>(); }
TEST_CASE("an outer product is one chain an element from what is stored on: double", "[outer]") {
    check_order<double>();
}
TEST_CASE("micro-batches in order have the bits of one batch in an outer product", "[outer]") {
    check_token_splits<float>();
    check_token_splits<double>();
}
TEST_CASE("an outer product has the same bits in one call and in any rectangles", "[outer]") {
    check_rectangles<float>();
    check_rectangles<double>();
}
TEST_CASE("an outer product has the same bits in any storage order, and touches nothing between", "[outer]") {
    check_storage_orders<float>();
    check_storage_orders<double>();
}
TEST_CASE("NaN and infinity stay in their row and column of an outer product", "[outer]") {
    check_isolation<float>();
    check_isolation<double>();
}
TEST_CASE("an outer product over no token, row or column leaves what is there", "[outer]") {
    check_nothing<float>();
    check_nothing<double>();
}

TEST_CASE("the accumulators of an outer tile fit in the registers, its operands in the scratch", "[outer]") {
    using Tile = moe::OuterTile<float>;
    CHECK((Tile::rows + 1) * Tile::vectors + 1 <= moe::vector_registers);
    CHECK(Tile::columns == 2 * moe::OuterTile<double>::columns);
    for (std::size_t count = 1; count <= moe::OuterBlock<float>::tokens; ++count) {
        const std::size_t columns = moe::OuterBlock<float>::columns_of(count);
        CHECK(columns > 0);
        CHECK(columns % Tile::columns == 0);
        CHECK(columns * count * sizeof(float) <= moe::OuterBlock<float>::run_bytes);
    }
    moe::Workspace workspace;
    moe::Arena measure;
    (void)moe::OuterScratch<double>::take(measure);
    workspace.reserve(measure.used());
    moe::Arena arena = workspace.arena();
    const auto scratch = moe::OuterScratch<double>::take(arena);
    CHECK(scratch.left.size() == moe::OuterBlock<double>::tokens * moe::OuterBlock<double>::rows);
    CHECK(scratch.right.size_bytes() == moe::OuterBlock<double>::run_bytes);
}

}  // namespace moe_test::outer_test
