// The researcher's door to gradients: whatever Eigen expressions go in, the bits of the calls with views come out.

#include <cstddef>
#include <utility>
#include <vector>

#include <moe/eigen_train.hpp>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::eigen_train_test {

namespace {

template <class T>
using ColumnMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

template <class T>
moe::RowMatrix<T> random_matrix(std::uint64_t seed, Eigen::Index rows, Eigen::Index cols) {
    moe::RowMatrix<T> matrix(rows, cols);
    std::uint64_t counter = 0;
    for (T& value : matrix.reshaped()) {
        value = static_cast<T>(moe::random_uniform(seed, counter++) - 0.5F);
    }
    return matrix;
}

template <class A, class B>
bool same(const A& a, const B& b) {
    const moe::RowMatrix<typename A::Scalar> left = a;
    const moe::RowMatrix<typename A::Scalar> right = b;
    return left.rows() == right.rows() && left.cols() == right.cols() &&
           moe_test::same_bits(std::span(left.data(), static_cast<std::size_t>(left.size())),
                               std::span(right.data(), static_cast<std::size_t>(right.size())));
}

/// A layer of 5 experts in T, d_ff 11, whose tokens have d values.
template <class T>
struct Problem {
    Eigen::Index d;
    ColumnMajor<T> router = random_matrix<T>(1, 5, d);
    std::vector<ColumnMajor<T>> gate{};
    std::vector<moe::RowMatrix<T>> up{};
    std::vector<ColumnMajor<T>> down{};

    explicit Problem(Eigen::Index d_model) : d(d_model) {
        for (std::uint64_t e = 0; e < 5; ++e) {
            gate.push_back(random_matrix<T>(10 * e + 5, 11, d));
            up.push_back(random_matrix<T>(10 * e + 6, 11, d));
            down.push_back(random_matrix<T>(10 * e + 7, d, 11));
        }
    }
    [[nodiscard]] auto layer() const {
        return moe::MoELayer{moe::Router{moe::weights(router), moe::TokenChoice<>{.top_k = 2}},
                             moe::SwiGLU{moe::stacked(gate), moe::stacked(up), moe::stacked(down)}};
    }
};

template <class T>
void check_expressions(Eigen::Index d, Eigen::Index n) {
    const Problem<T> problem(d);
    const auto layer = problem.layer();
    const moe::RowMatrix<T> x = random_matrix<T>(3, n, d);
    const moe::RowMatrix<T> dy = random_matrix<T>(4, n, d);

    moe::Workspace workspace;
    moe::Tape<T> tape;
    moe::RowMatrix<T> y(n, d);
    moe::RowMatrix<T> dx(n, d);
    moe::OwnedGradients expected = moe::gradients_of(layer);
    moe::forward(layer, moe::view(x), moe::view(y), tape, workspace);
    moe::backward(layer, tape, moe::view(dy), moe::view(dx), expected, workspace);

    moe::Tape<T> own;  // one for all, so that what it kept before must not show
    moe::OwnedGradients gradients = moe::gradients_of(layer);
    const auto check = [&](const auto& result, const auto& gradient) {
        static_assert(std::is_same_v<std::remove_cvref_t<decltype(result)>, moe::RowMatrix<T>>);
        CHECK(same(result, y));
        gradients.zero();
        const auto back = moe::backward(layer, own, gradient, gradients);
        static_assert(std::is_same_v<decltype(back), const moe::RowMatrix<T>>);
        CHECK(same(back, dx));
        CHECK(moe_test::same_bits(gradients.all(), expected.all()));
        CHECK_FALSE(own.recorded());
    };
    check(moe::forward(layer, x, own), dy);
    CHECK((n == 0 || own.x().data() == x.data()));  // viewed where it lies
    const ColumnMajor<T> columns = x;
    const ColumnMajor<T> dy_columns = dy;
    check(moe::forward(layer, columns, own), dy_columns);
    CHECK((n == 0 || own.x().data() != columns.data()));
    check(moe::forward(layer, moe::RowMatrix<T>(x), own), dy.array());
    check(moe::forward(layer, x.array() * T(1), own), dy * T(1));
    check(moe::forward(layer, T(2) * x - x, own), T(2) * dy - dy);
    check(moe::forward(layer, Eigen::Map<const moe::RowMatrix<T>>(x.data(), n, d), own), dy);
    check(moe::forward(layer, x.template cast<float>().template cast<T>(), own), dy);
    const Eigen::Ref<const ColumnMajor<T>> ref = columns;
    check(moe::forward(layer, ref, own), dy);
    moe::RowMatrix<T> wide = moe::RowMatrix<T>::Constant(n + 2, d + 3, T(9));
    wide.block(1, 2, n, d) = x;
    const auto block = wide.block(1, 2, n, d);
    check(moe::forward(layer, block, own), dy);
    CHECK((n == 0 || own.x().data() == block.data()));
    check(moe::forward(layer, moe::RowMatrix<T>(wide).block(1, 2, n, d), own), dy);  // of a matrix that is gone
    const ColumnMajor<T> transposed = x.transpose();
    check(moe::forward(layer, transposed.transpose(), own, moe_test::ThreadExecutor(3)), dy);

    // into rows there are: y +=, dx +=
    moe::RowMatrix<T> into = moe::RowMatrix<T>::Zero(n, d + 1);
    moe::RowMatrix<T> dx_into = moe::RowMatrix<T>::Zero(n + 1, d);
    gradients.zero();
    moe::forward(layer, columns, into.leftCols(d), own, workspace, moe::SerialExecutor{}, {.accumulate = true});
    moe::backward(layer, own, dy, dx_into.topRows(n), gradients.views(), workspace, moe::SerialExecutor{},
                  {.accumulate_dx = true});
    CHECK(same(into.leftCols(d), y));
    CHECK(same(dx_into.topRows(n), dx));
    CHECK(into.col(d).isZero(0));
    CHECK(moe_test::same_bits(gradients.all(), expected.all()));
}

}  // namespace

TEST_CASE("any expression goes in and gives the bits of views", "[eigen_train]") {
    check_expressions<float>(17, 23);
    check_expressions<double>(17, 23);
    check_expressions<double>(1, 1);
    check_expressions<float>(3, 0);
}

TEST_CASE("what the tape keeps of an expression is its own, and moves with it", "[eigen_train]") {
    const Problem<double> problem(7);
    const auto layer = problem.layer();
    ColumnMajor<double> x = random_matrix<double>(3, 6, 7);
    const moe::RowMatrix<double> dy = random_matrix<double>(4, 6, 7);
    moe::OwnedGradients expected = moe::gradients_of(layer);
    moe::OwnedGradients gradients = moe::gradients_of(layer);
    moe::Tape<double> first;
    (void)moe::forward(layer, x, first);
    const auto dx = moe::backward(layer, first, dy, expected);

    (void)moe::forward(layer, x, first);
    x.setConstant(9);
    moe::Tape<double> moved = std::move(first);
    CHECK_FALSE(first.recorded());  // NOLINT: it is empty, and says so
    CHECK(moe_test::error_of([&] { (void)moe::backward(layer, first, dy, gradients); }).code == moe::ErrorCode::state);
    (void)moe::forward(layer, x, first);  // its memory is its own again
    CHECK(moved.router_input().data() == moved.x().data());
    CHECK(same(moe::backward(layer, moved, dy, gradients), dx));
    CHECK(moe_test::same_bits(gradients.all(), expected.all()));
}

TEST_CASE("memory for an x makes what was recorded void, and sizes are checked", "[eigen_train]") {
    const Problem<float> problem(4);
    const auto layer = problem.layer();
    const ColumnMajor<float> x = random_matrix<float>(3, 5, 4);
    const moe::RowMatrix<float> dy = random_matrix<float>(4, 5, 4);
    moe::OwnedGradients gradients = moe::gradients_of(layer);
    moe::Tape<float> tape;
    (void)moe::forward(layer, x, tape);
    (void)tape.input_memory(1, 4);
    CHECK(moe_test::error_of([&] { (void)moe::backward(layer, tape, dy, gradients); }).code == moe::ErrorCode::state);
    (void)moe::forward(layer, x, tape);
    CHECK(moe_test::error_of([&] { (void)moe::backward(layer, tape, dy.topRows(4), gradients); }).code ==
          moe::ErrorCode::shape);
    CHECK(moe_test::error_of([&] { (void)moe::forward(layer, x.leftCols(3), tape); }).code == moe::ErrorCode::shape);
    for (const float value : gradients.all()) {
        REQUIRE(value == 0);
    }
}

TEST_CASE("gradients are checked at any expression", "[eigen_train]") {
    const Problem<double> problem(6);
    const auto layer = problem.layer();
    const ColumnMajor<double> x = random_matrix<double>(3, 5, 6);
    const moe::RowMatrix<double> rows = x;
    const moe::GradientCheckOptions options{.samples = 3, .directions = 1};
    const moe::GradientCheck expected = moe::check_gradients(layer, moe::view(rows), options);
    CHECK(expected.passed());
    CHECK(expected.groups.size() == 5);
    CHECK(moe::check_gradients(layer, x, options).text() == expected.text());
    CHECK(moe::check_gradients(layer, x.array() * 1.0, options).text() == expected.text());
    CHECK(moe::check_gradients(layer, 2 * x - x).passed());
}

TEST_CASE("gradients as Eigen maps, to read and to write", "[eigen_train]") {
    const Problem<double> problem(6);
    moe::OwnedGradients gradients = moe::gradients_of(problem.layer());
    moe::map(gradients.down(3)) = moe::RowMatrix<double>::Constant(6, 11, 2);
    moe::map(gradients.router())(1, 2) = -3;
    CHECK(moe::map(gradients.down(3)).sum() == 2 * 66);
    CHECK(moe::map(gradients.down(2)).isZero(0));
    CHECK(gradients.router()(1, 2) == -3);
    CHECK(moe::map(gradients.all()).squaredNorm() == 4 * 66 + 9);
    CHECK(moe::map(gradients.router_bias()).size() == 0);
    const auto& constant = gradients;
    CHECK(moe::map(constant.all()).sum() == 2 * 66 - 3);
    std::vector<double> memory(12, 1.0);
    moe::map(moe::view(memory.data(), 3, 2, 4)).setZero();
    CHECK(memory == std::vector<double>{0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1});
}

}  // namespace moe_test::eigen_train_test
