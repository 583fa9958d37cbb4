// What the researcher's door takes as memory, and what it refuses.

#include <array>
#include <span>
#include <vector>

#include <moe/eigen.hpp>

#include "support/catch.hpp"
#include "support/errors.hpp"

namespace moe_test::eigen_view_test {

using moe::ErrorCode;
using moe_test::contains;
using moe_test::error_of;

namespace {

using RowMajor = moe::RowMatrix<float>;
using ColumnMajor = Eigen::MatrixXf;
using Strided = Eigen::Map<RowMajor, 0, Eigen::OuterStride<>>;
using AnyStride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;

template <class M>
concept HasView = requires(M&& matrix) {
    moe::view(static_cast<M&&>(matrix));
};
template <class M>
concept HasWeights = requires(M&& matrix) {
    moe::weights(static_cast<M&&>(matrix));
};
template <class M>
concept HasStack = requires(M&& matrices) {
    moe::stacked(static_cast<M&&>(matrices));
};
template <class M>
using ViewOf = decltype(moe::view(std::declval<M>()));
using ConstView = moe::MatrixView<const float>;
using MutableView = moe::MatrixView<float>;

// constness follows the matrix
static_assert(std::is_same_v<ViewOf<RowMajor&>, MutableView> && std::is_same_v<ViewOf<const RowMajor&>, ConstView>);
static_assert(std::is_same_v<ViewOf<Strided&>, MutableView> && std::is_same_v<ViewOf<Strided>, MutableView>);
static_assert(std::is_same_v<ViewOf<Eigen::Map<const RowMajor>>, ConstView>);
static_assert(std::is_same_v<ViewOf<Eigen::Ref<RowMajor>&>, MutableView>);
static_assert(std::is_same_v<ViewOf<const Eigen::Ref<const RowMajor>&>, ConstView>);
static_assert(std::is_same_v<ViewOf<decltype(std::declval<RowMajor&>().topRows(1))>, MutableView>);
static_assert(std::is_same_v<ViewOf<decltype(std::declval<const RowMajor&>().topRows(1))>, ConstView>);
static_assert(std::is_same_v<ViewOf<decltype(std::declval<ColumnMajor&>().transpose())>, MutableView>);

// a temporary that owns its memory, or may, would leave a view of nothing
static_assert(!HasView<RowMajor> && !HasView<const RowMajor> && !HasView<Eigen::Ref<const RowMajor>>);
static_assert(!HasWeights<RowMajor> && !HasWeights<ColumnMajor> && HasWeights<const ColumnMajor&>);
static_assert(!HasStack<std::vector<ColumnMajor>> && HasStack<const std::vector<ColumnMajor>&>);
static_assert(!HasStack<std::vector<Eigen::Ref<const RowMajor>>> && HasStack<std::span<const RowMajor>>);

// no rows in memory: columns, every second element, an expression
static_assert(!HasView<ColumnMajor&> && !HasView<Eigen::Map<RowMajor, 0, Eigen::InnerStride<2>>&>);
static_assert(!HasView<decltype(std::declval<RowMajor&>() * 2.0F)> && !HasView<std::vector<float>&>);
static_assert(!HasWeights<decltype(std::declval<ColumnMajor&>() * 2.0F)>);

std::vector<float> counted(std::size_t n) {
    std::vector<float> values(n);
    for (std::size_t i = 0; i < n; ++i) {
        values[i] = static_cast<float>(i + 1);
    }
    return values;
}

template <class View, class Matrix>
void check_same(const View& view, const Matrix& matrix) {
    REQUIRE(view.rows() == static_cast<std::size_t>(matrix.rows()));
    REQUIRE(view.cols() == static_cast<std::size_t>(matrix.cols()));
    for (std::size_t r = 0; r < view.rows(); ++r) {
        for (std::size_t c = 0; c < view.cols(); ++c) {
            CHECK(&view(r, c) == &matrix.coeffRef(static_cast<Eigen::Index>(r), static_cast<Eigen::Index>(c)));
        }
    }
}

/// The elements a stack names, where they lie, are those of the matrices.
template <class Matrix>
void check_stack(const moe::WeightStack<float>& stack, const std::vector<Matrix>& matrices) {
    REQUIRE(stack.n_experts() == matrices.size());
    for (std::size_t e = 0; e < matrices.size(); ++e) {
        const auto& matrix = matrices[e];
        REQUIRE(stack.outputs() == static_cast<std::size_t>(matrix.rows()));
        REQUIRE(stack.inputs() == static_cast<std::size_t>(matrix.cols()));
        const auto block = stack.block(e, 0, stack.outputs());
        for (Eigen::Index o = 0; o < matrix.rows(); ++o) {
            for (Eigen::Index i = 0; i < matrix.cols(); ++i) {
                const auto at = static_cast<std::size_t>(o) * block.output_stride +
                                static_cast<std::size_t>(i) * block.input_stride;
                CHECK(block.data + at == &matrix.coeffRef(o, i));
            }
        }
    }
}

}  // namespace

TEST_CASE("a view of Eigen memory names its elements", "[eigen]") {
    std::vector<float> memory = counted(60);
    RowMajor matrix = Eigen::Map<RowMajor>(memory.data(), 6, 10);
    check_same(moe::view(matrix), matrix);
    Strided strided(memory.data(), 5, 7, Eigen::OuterStride<>(11));
    check_same(moe::view(strided), strided);
    Eigen::Map<RowMajor, 0, AnyStride> any(memory.data(), 4, 5, AnyStride(12, 1));
    check_same(moe::view(any), any);
    auto rows = matrix.middleRows(2, 3);
    check_same(moe::view(rows), rows);
    auto part = matrix.block(1, 2, 4, 5);
    check_same(moe::view(part), part);
    auto row = matrix.row(3);
    check_same(moe::view(row), row);
    Eigen::Ref<RowMajor> ref = part;
    check_same(moe::view(ref), part);
    ColumnMajor columns = matrix;
    auto transposed = columns.transpose();
    check_same(moe::view(transposed), transposed);
    Eigen::Array<float, 2, 3, Eigen::RowMajor> array;
    check_same(moe::view(array), array);
    RowMajor none(0, 4);
    CHECK(moe::view(none).cols() == 4);
}

TEST_CASE("a view writes through", "[eigen]") {
    RowMajor matrix = RowMajor::Zero(3, 4);
    moe::view(matrix.bottomRows(1))(0, 2) = 5;
    CHECK(matrix(2, 2) == 5);
}

TEST_CASE("a view refuses rows with gaps and strides that cannot be", "[eigen]") {
    std::vector<float> memory(40);
    const Eigen::Map<RowMajor, 0, AnyStride> gaps(memory.data(), 3, 4, AnyStride(10, 2));
    auto error = error_of([&] { (void)moe::view(gaps); });
    CHECK(error.code == ErrorCode::stride);
    CHECK_THAT(error.text, contains("in a row") && contains("2 elements apart"));
    const ColumnMajor columns = ColumnMajor::Zero(3, 4);
    CHECK(error_of([&] { (void)moe::view(columns.row(1)); }).code == ErrorCode::stride);
    CHECK(error_of([&] { (void)moe::weights(gaps); }).code == ErrorCode::stride);
    const Strided overlapping(memory.data(), 3, 4, Eigen::OuterStride<>(3));
    CHECK(error_of([&] { (void)moe::view(overlapping); }).code == ErrorCode::stride);
    const Strided backwards(memory.data() + 20, 3, 4, Eigen::OuterStride<>(-5));
    CHECK(error_of([&] { (void)moe::view(backwards); }).code == ErrorCode::overflow);
    CHECK(error_of([&] { (void)moe::weights(backwards); }).code == ErrorCode::overflow);
}

TEST_CASE("weights may be of either order, with strides", "[eigen]") {
    std::vector<float> memory = counted(90);
    const std::vector<RowMajor> rows(3, RowMajor::Zero(4, 5));
    check_stack(moe::stacked(rows), rows);
    check_stack(moe::stacked(std::span(rows)), rows);
    const std::vector<ColumnMajor> columns(3, ColumnMajor::Zero(4, 5));
    check_stack(moe::stacked(columns), columns);
    std::vector<Strided> strided;
    std::vector<Eigen::Map<ColumnMajor, 0, Eigen::OuterStride<>>> strided_columns;
    std::vector<Eigen::Block<ColumnMajor>> blocks;
    ColumnMajor joined = ColumnMajor::Zero(9, 12);
    for (int e = 0; e < 3; ++e) {
        strided.emplace_back(memory.data() + 30 * e, 4, 5, Eigen::OuterStride<>(7));
        strided_columns.emplace_back(memory.data() + 30 * e, 4, 5, Eigen::OuterStride<>(6));
        blocks.push_back(joined.block(3 * e, 2, 3, 8));
    }
    check_stack(moe::stacked(strided), strided);
    check_stack(moe::stacked(strided_columns), strided_columns);
    check_stack(moe::stacked(blocks), blocks);

    const std::array<Eigen::Matrix<float, 2, 3>, 1> fixed{Eigen::Matrix<float, 2, 3>::Zero()};
    check_stack(moe::stacked(fixed), std::vector<Eigen::Map<const Eigen::Matrix<float, 2, 3>>>{
                                         Eigen::Map<const Eigen::Matrix<float, 2, 3>>(fixed[0].data())});
    check_stack(moe::weights(joined), std::vector<Eigen::Ref<ColumnMajor>>{joined});
    check_stack(moe::weights(blocks[1]), std::vector<Eigen::Block<ColumnMajor>>{blocks[1]});
}

TEST_CASE("matrices of different sizes or strides are no stack", "[eigen]") {
    std::vector<RowMajor> matrices(3, RowMajor::Zero(4, 5));
    matrices[2].resize(5, 4);
    auto error = error_of([&] { (void)moe::stacked(matrices); });
    CHECK(error.code == ErrorCode::shape);
    CHECK_THAT(error.text, contains("expert 2 is 5 x 4 but expert 0 is 4 x 5"));
    error = error_of([&] { (void)moe::stacked(std::span(matrices).first(0)); });
    CHECK_THAT(error.text, contains("0 experts"));
    std::vector<float> memory(90);
    std::vector<Strided> strided;
    strided.emplace_back(memory.data(), 4, 5, Eigen::OuterStride<>(7));
    strided.emplace_back(memory.data() + 40, 4, 5, Eigen::OuterStride<>(8));
    error = error_of([&] { (void)moe::stacked(strided); });
    CHECK(error.code == ErrorCode::stride);
    CHECK_THAT(error.text, contains("expert 1 has the stride 8 but expert 0 has 7"));
}

}  // namespace moe_test::eigen_view_test
