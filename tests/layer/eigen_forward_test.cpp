// The researcher's door against the definition in reference/: what goes in may be any Eigen expression.

#include <vector>

#include <moe/eigen.hpp>
#include <moe/reference/layer/layer.hpp>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/errors.hpp"
#include "support/executors.hpp"

namespace moe_test::eigen_forward_test {

using moe_test::contains;
using moe_test::error_of;
using moe_test::same_bits;

namespace {

template <class T>
using ColumnMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

template <class Matrix>
std::span<const typename Matrix::Scalar> values(const Matrix& matrix) {
    return {matrix.data(), static_cast<std::size_t>(matrix.size())};
}

template <class T>
ColumnMajor<T> random_matrix(std::uint64_t seed, Eigen::Index rows, Eigen::Index cols) {
    ColumnMajor<T> matrix(rows, cols);
    std::uint64_t counter = 0;
    for (T& value : matrix.reshaped()) {
        value = static_cast<T>(moe::random_uniform(seed, counter++) - 0.5F);
    }
    return matrix;
}

template <class Matrix>
moe::reference::Vector by_rows(const Matrix& matrix) {
    const moe::RowMatrix<double> rows = matrix.template cast<double>();
    return {rows.data(), rows.data() + rows.size()};
}

/// Weights of a layer: by columns, but `up`, which is rows of one large matrix.
template <class T>
struct Problem {
    Eigen::Index n_experts = 5;
    Eigen::Index d_model;
    Eigen::Index d_ff = 11;
    ColumnMajor<T> router = random_matrix<T>(1, n_experts, d_model);
    moe::RowMatrix<T> all_up = random_matrix<T>(2, n_experts* d_ff, d_model + 3);
    std::vector<ColumnMajor<T>> gate{};
    std::vector<Eigen::Block<moe::RowMatrix<T>>> up{};
    std::vector<ColumnMajor<T>> down{};

    explicit Problem(Eigen::Index the_d_model) : d_model(the_d_model) {
        for (Eigen::Index e = 0; e < n_experts; ++e) {
            const auto seed = static_cast<std::uint64_t>(10 * e);
            gate.push_back(random_matrix<T>(seed + 5, d_ff, d_model));
            up.push_back(all_up.block(e * d_ff, 1, d_ff, d_model));
            down.push_back(random_matrix<T>(seed + 6, d_model, d_ff));
        }
    }

    [[nodiscard]] auto layer() const {
        return moe::MoELayer{moe::Router{moe::weights(router), moe::TokenChoice<moe::Softmax>{.top_k = 2}},
                             moe::SwiGLU{moe::stacked(gate), moe::stacked(up), moe::stacked(down)}};
    }

    [[nodiscard]] moe::RowMatrix<double> expected(const ColumnMajor<T>& x) const {
        moe::reference::Layer layer{.d_model = static_cast<std::size_t>(d_model), .router = by_rows(router)};
        layer.rule.top_k = 2;
        for (std::size_t e = 0; e < gate.size(); ++e) {
            layer.experts.push_back({.d_model = layer.d_model,
                                     .d_ff = static_cast<std::size_t>(d_ff),
                                     .gate = by_rows(gate[e]),
                                     .up = by_rows(up[e]),
                                     .down = by_rows(down[e])});
        }
        const moe::reference::Vector rows = by_rows(x);
        moe::reference::Vector y;
        moe::reference::forward(layer, rows, rows, y);
        return Eigen::Map<const moe::RowMatrix<double>>(y.data(), x.rows(), x.cols());
    }
};

/// Stands for a layer and remembers where its input was.
struct InputRecorder {
    using value_type = float;
    mutable moe::MatrixView<const float> input{};

    template <moe::Executor E>
    void forward(moe::MatrixView<const float> x, moe::MatrixView<float>, moe::Workspace&, const E&,
                 const moe::ForwardOptions<float>&) const {
        input = x;
    }
};

template <class T>
constexpr double tolerance = sizeof(T) == 8 ? 1e-24 : 1e-12;

template <class T>
void check_expressions() {
    const Problem<T> problem(17);
    const auto layer = problem.layer();
    const ColumnMajor<T> x = random_matrix<T>(3, 23, 17);
    const auto expected = problem.expected(x);
    const auto check = [&](const auto& y) {
        static_assert(std::is_same_v<decltype(y), const moe::RowMatrix<T>&>);
        CHECK(moe_test::nmse(values(y), values(expected)) <= tolerance<T>);
    };
    const moe::RowMatrix<T> rows = x;
    check(moe::forward(layer, x));
    check(moe::forward(layer, rows));
    check(moe::forward(layer, x.array() * T(1)));
    check(moe::forward(layer, x.array()));
    check(moe::forward(layer, T(2) * x - x));
    check(moe::forward(layer, x.template cast<double>().template cast<T>()));
    check(moe::forward(layer, Eigen::Map<const moe::RowMatrix<T>>(rows.data(), 23, 17)));
    const Eigen::Ref<const ColumnMajor<T>> ref = x;
    check(moe::forward(layer, ref));
    const ColumnMajor<T> transposed = x.transpose();
    check(moe::forward(layer, transposed.transpose()));
    moe::RowMatrix<T> wide = moe::RowMatrix<T>::Constant(25, 20, T(9));
    wide.block(1, 2, 23, 17) = x;
    check(moe::forward(layer, wide.block(1, 2, 23, 17)));
    const moe::RowMatrix<T> one = moe::forward(layer, x.row(4));
    CHECK(same_bits(values(one), values(moe::RowMatrix<T>(moe::forward(layer, x).row(4)))));
}

}  // namespace

TEST_CASE("any expression goes in, a matrix comes out", "[eigen]") {
    check_expressions<float>();
    check_expressions<double>();
}

TEST_CASE("a column of tokens of one value each", "[eigen]") {
    const Problem<float> problem(1);
    const Eigen::VectorXf x = random_matrix<float>(3, 9, 1);
    CHECK(moe_test::nmse(values(moe::forward(problem.layer(), x)), values(problem.expected(x))) <= tolerance<float>);
    const ColumnMajor<float> two = random_matrix<float>(4, 9, 2);
    const Eigen::VectorXf second = two.col(1);
    CHECK(same_bits(values(moe::forward(problem.layer(), two.col(1))), values(moe::forward(problem.layer(), second))));
    const moe::RowMatrix<float> rows = two;
    CHECK(same_bits(values(moe::forward(problem.layer(), rows.col(1))), values(moe::forward(problem.layer(), second))));
}

TEST_CASE("row-major memory is read where it lies, not copied", "[eigen]") {
    const InputRecorder layer;
    moe::Workspace workspace;
    moe::RowMatrix<float> y(4, 5);
    const auto stays = [&](const auto& x) {
        moe::forward(layer, x, y, workspace);
        return layer.input.data() == x.data() && layer.input.rows() == 4 && layer.input.cols() == 5;
    };
    const moe::RowMatrix<float> rows = random_matrix<float>(1, 4, 5);
    const moe::RowMatrix<float> large = random_matrix<float>(1, 9, 9);
    const ColumnMajor<float> columns = rows.transpose();
    const Eigen::Ref<const moe::RowMatrix<float>> ref = large.topLeftCorner(4, 5);
    CHECK(stays(rows));
    CHECK(stays(Eigen::Map<const moe::RowMatrix<float>>(rows.data(), 4, 5)));
    CHECK(stays(large.block(3, 2, 4, 5)));
    CHECK(layer.input.stride() == 9);
    CHECK(stays(ref));
    CHECK(stays(columns.transpose()));
    CHECK_FALSE(stays(ColumnMajor<float>(rows)));
}

TEST_CASE("into rows there are, and nothing beside them", "[eigen]") {
    const Problem<float> problem(17);
    const auto layer = problem.layer();
    const ColumnMajor<float> x = random_matrix<float>(3, 6, 17);
    const moe::RowMatrix<float> expected = moe::forward(layer, x);
    moe::Workspace workspace;
    moe::RowMatrix<float> y = moe::RowMatrix<float>::Constant(6, 17, 3);
    moe::forward(layer, x, y, workspace);
    CHECK(same_bits(values(y), values(expected)));
    moe::RowMatrix<float> large = moe::RowMatrix<float>::Constant(8, 19, 3);
    moe::forward(layer, x, large.block(1, 1, 6, 17), workspace, moe_test::ReversedExecutor(3));
    const moe::RowMatrix<float> inside = large.block(1, 1, 6, 17);
    CHECK(same_bits(values(inside), values(expected)));
    large.block(1, 1, 6, 17).setConstant(3);
    CHECK((large.array() == 3).all());

    moe::RowMatrix<float> doubled = expected;
    moe::forward(layer, x, doubled, workspace, moe::SerialExecutor{}, {.accumulate = true});
    CHECK(doubled.isApprox(2 * expected));
    const auto error = error_of([&] { moe::forward(layer, x, y.topRows(5), workspace); });
    CHECK(error.code == moe::ErrorCode::shape);
    CHECK_THAT(error.text, contains("x is 6 x 17 and y is 5 x 17"));
    CHECK(error_of([&] { moe::forward(layer, y, y, workspace); }).code == moe::ErrorCode::layout);
    CHECK(error_of([&] { (void)moe::forward(layer, x.leftCols(16)); }).code == moe::ErrorCode::shape);
}

TEST_CASE("route, look at the plan, then forward with it", "[eigen]") {
    const Problem<double> problem(17);
    const auto layer = problem.layer();
    const ColumnMajor<double> x = random_matrix<double>(3, 12, 17);
    const moe::RoutingPlan<double> plan = moe::route(layer, x);
    CHECK(plan.view().n_tokens == 12);
    CHECK(plan.view().n_assignments() == 24);
    CHECK(same_bits(values(moe::forward(layer, x, plan)), values(moe::forward(layer, x))));
    CHECK(same_bits(values(moe::forward(layer, x, plan.view(), moe_test::ReversedExecutor(2))),
                    values(moe::forward(layer, x))));
    // the plan decides, not x
    const moe::RoutingPlan<double> other = moe::route(layer, -x, moe_test::ReversedExecutor(2));
    CHECK_FALSE(moe::forward(layer, x, other).isApprox(moe::forward(layer, x)));
    CHECK(error_of([&] { (void)moe::forward(layer, x.topRows(3), plan); }).code == moe::ErrorCode::shape);
}

}  // namespace moe_test::eigen_forward_test
