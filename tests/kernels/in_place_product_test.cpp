// Weights used where they lie against the same weights packed: equal bits, and nothing read that is not theirs.
#include "moe/kernels/in_place_product.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/guarded.hpp"
#include "support/layer_cases.hpp"
#include "support/panel_scratch.hpp"
#include "support/unaligned.hpp"

namespace moe_test::in_place_product_test {

namespace {

template <class T>
constexpr std::size_t width_of = moe::Panel<T>::width;

/// One or two matrices of as many outputs, in one storage order.
struct Shape {
    std::size_t outputs = 1;
    std::size_t k = 1;
    std::size_t n_rows = 1;
    std::size_t gap = 0;      ///< elements between the rows of a matrix
    bool by_inputs = false;   ///< outputs are neighbours
    bool two_halves = false;  ///< panels are of both matrices, as gate and up

    [[nodiscard]] std::size_t stride() const { return (by_inputs ? outputs : k) + gap; }
    /// Elements of a matrix, without a gap behind its last row.
    [[nodiscard]] std::size_t extent() const { return ((by_inputs ? k : outputs) - 1) * stride() + stride() - gap; }
};

std::ostream& operator<<(std::ostream& out, const Shape& s) {
    return out << s.outputs << " outputs, k " << s.k << ", " << s.n_rows << " rows, gap " << s.gap
               << (s.by_inputs ? ", by inputs" : "") << (s.two_halves ? ", two halves" : "");
}

template <class W>
class Product {
public:
    using T = moe::ComputeType<W>;

    Product(const Shape& shape, const W* first, const W* second, const std::vector<T>& x)
        : shape_(shape), matrices_{first, second} {
        for (std::size_t r = 0; r < shape.n_rows; ++r) {
            rows_.push_back(reinterpret_cast<const std::byte*>(x.data() + r * shape.k));
        }
    }

    [[nodiscard]] std::size_t columns() const { return shape_.two_halves ? width_of<T> / 2 : width_of<T>; }
    [[nodiscard]] std::size_t panels() const { return moe::divide_up(shape_.outputs, columns()); }

    [[nodiscard]] std::vector<T> in_place() const {
        const auto panel = [&](std::size_t i) { return view(i); };
        std::fill((*scratch_).sums.begin(), (*scratch_).sums.end(), T(99));
        moe::multiply_views<W>(rows_, shape_.k, panels(), *scratch_, panel);
        const std::size_t size = panels() * shape_.n_rows * width_of<T>;
        const auto untouched = (*scratch_).sums.subspan(size);
        CHECK(std::all_of(untouched.begin(), untouched.end(), [](T value) { return value == T(99); }));
        return outputs_only((*scratch_).sums.first(size));
    }

    [[nodiscard]] std::vector<T> packed() const {
        const std::size_t size = shape_.k * width_of<T>;
        std::vector<W> memory(panels() * size + 4096);  // a packed product asks for what stands behind its panels
        for (std::size_t i = 0; i < panels(); ++i) {
            const moe::PanelView<W> halves = view(i);
            for (std::size_t h = 0; h < (shape_.two_halves ? 2U : 1U); ++h) {
                moe::pack_block(halves[h], 0, shape_.k, columns(), memory.data() + i * size + h * columns(),
                                width_of<T>);
            }
        }
        moe::multiply_packed<W>(rows_, shape_.k,
                                {reinterpret_cast<const std::byte*>(memory.data()), panels(), size * sizeof(W)},
                                *scratch_);
        return outputs_only((*scratch_).sums);
    }

private:
    [[nodiscard]] moe::PanelView<W> view(std::size_t panel) const {
        const std::size_t first = panel * columns();
        const auto block = [&](const W* data) {
            const std::size_t count = std::min(columns(), shape_.outputs - first);
            return shape_.by_inputs ? moe::WeightBlock<W>{data + first, count, 1, shape_.stride()}
                                    : moe::WeightBlock<W>{data + first * shape_.stride(), count, shape_.stride(), 1};
        };
        return shape_.two_halves ? moe::PanelView<W>{block(matrices_[0]), block(matrices_[1])}
                                 : moe::PanelView<W>{block(matrices_[0])};
    }

    /// Without the columns that have no output.
    [[nodiscard]] std::vector<T> outputs_only(std::span<const T> sums) const {
        std::vector<T> result;
        for (std::size_t i = 0; i < panels() * shape_.n_rows; ++i) {
            const std::size_t first = i / shape_.n_rows * columns();
            for (std::size_t c = 0; c < width_of<T>; ++c) {
                if (first + c % columns() < shape_.outputs) {
                    result.push_back(sums[i * width_of<T> + c]);
                }
            }
        }
        return result;
    }

    Shape shape_;
    std::array<const W*, 2> matrices_;
    std::vector<const std::byte*> rows_;
    moe_test::OwnedScratch<T> scratch_;
};

/// Around the limits of vectors, lines, blocks and panels; at most max_task_panels panels.
Shape random_shape(moe_test::Draw& draw) {
    constexpr std::size_t outputs[] = {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 47, 61, 64, 65, 97, 101, 128};
    constexpr std::size_t inputs[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129, 160, 257, 300};
    Shape shape;
    shape.outputs = outputs[draw.size(0, std::size(outputs) - 1)];
    shape.k = inputs[draw.size(0, std::size(inputs) - 1)];
    shape.n_rows = draw.coin() ? draw.size(1, 4) : draw.size(1, 70);
    shape.gap = draw.coin() ? 0 : draw.size(1, 40);
    shape.by_inputs = draw.size(0, 4) == 0;
    shape.two_halves = draw.coin();
    return shape;
}

template <class W>
void check_bits() {
    using T = moe::ComputeType<W>;
    for (std::uint64_t seed = 0; seed < 400; ++seed) {
        moe_test::Draw draw(seed);
        const Shape shape = random_shape(draw);
        INFO("seed " << seed << ": " << shape);
        const auto first = moe_test::random_elements<W>(draw, shape.extent(), 1);
        const auto second = moe_test::random_elements<W>(draw, shape.extent(), 1);
        const auto x = moe_test::random_elements<T>(draw, shape.n_rows * shape.k, 1);
        const auto expected = Product<W>(shape, first.data(), second.data(), x).packed();
        const moe_test::Unaligned<W> unaligned_first(first);
        const moe_test::Unaligned<W> unaligned_second(second);
        REQUIRE(moe_test::same_bits(Product<W>(shape, unaligned_first.data(), unaligned_second.data(), x).in_place(),
                                    expected));
        for (const Side side : {Side::begin, Side::end}) {
            const moe_test::Guarded<W> guarded_first(first, side);
            const moe_test::Guarded<W> guarded_second(second, side);
            const moe_test::Guarded<T> guarded_x(x, side);
            REQUIRE(moe_test::same_bits(Product<W>(shape, guarded_first.data(), guarded_second.data(), x).in_place(),
                                        expected));
        }
    }
}

/// What stands between the rows is not of the matrix, and a weight is of one output.
template <class W>
void check_isolation() {
    using T = moe::ComputeType<W>;
    const W nan = moe_test::to_element<W>(std::numeric_limits<float>::quiet_NaN());
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
        moe_test::Draw draw(seed);
        Shape shape = random_shape(draw);
        shape.by_inputs = false;
        shape.two_halves = false;
        shape.gap = draw.size(1, 40);
        INFO("seed " << seed << ": " << shape);
        auto weights = moe_test::random_elements<W>(draw, shape.extent(), 1);
        const auto x = moe_test::random_elements<T>(draw, shape.n_rows * shape.k, 1);
        const auto expected = Product<W>(shape, weights.data(), nullptr, x).in_place();
        REQUIRE(moe_test::all_finite(expected));
        for (std::size_t o = 0; o + 1 < shape.outputs; ++o) {
            std::fill_n(weights.data() + o * shape.stride() + shape.k, shape.gap, nan);
        }
        REQUIRE(moe_test::same_bits(Product<W>(shape, weights.data(), nullptr, x).in_place(), expected));
        const std::size_t poisoned = draw.size(0, shape.outputs - 1);
        weights[poisoned * shape.stride() + draw.size(0, shape.k - 1)] = nan;
        const auto sums = Product<W>(shape, weights.data(), nullptr, x).in_place();
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < sums.size(); ++i) {
            const std::size_t panel_size = width_of<T> * shape.n_rows;
            const std::size_t panel = i / panel_size;
            const std::size_t columns = std::min(width_of<T>, shape.outputs - panel * width_of<T>);
            const std::size_t output = panel * width_of<T> + (i - panel * panel_size) % columns;
            wrong += output == poisoned ? !std::isnan(sums[i]) : sums[i] != expected[i];
        }
        REQUIRE(wrong == 0);
    }
}

}  // namespace

TEST_CASE("weights in place have the bits of packed ones: float", "[product]") { check_bits<float>(); }
TEST_CASE("weights in place have the bits of packed ones: double", "[product]") { check_bits<double>(); }
TEST_CASE("weights in place have the bits of packed ones: bfloat16", "[product]") { check_bits<moe::bfloat16>(); }
TEST_CASE("weights in place have the bits of packed ones: float16", "[product]") { check_bits<moe::float16>(); }

TEST_CASE("a NaN stays in the output of its weight, and out of it between the rows", "[product]") {
    check_isolation<float>();
    check_isolation<double>();
    check_isolation<moe::bfloat16>();
    check_isolation<moe::float16>();
}

}  // namespace moe_test::in_place_product_test
