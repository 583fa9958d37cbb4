#pragma once

/// The researcher's door: Eigen matrices and expressions in, Eigen matrices out, in float or double.

#include <cstddef>
#include <type_traits>
#include <vector>

#include <Eigen/Core>

#include "moe.hpp"

namespace moe::inline MOE_ABI {

/// Row-major matrix: a row is a token, contiguous.
template <class T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A view of a row-major Eigen matrix, which must outlive it.
template <class Derived>
    requires(static_cast<bool>(Derived::IsRowMajor))
[[nodiscard]] MatrixView<const typename Derived::Scalar> view(const Eigen::PlainObjectBase<Derived>& matrix) {
    return {matrix.data(), static_cast<std::size_t>(matrix.rows()), static_cast<std::size_t>(matrix.cols()),
            static_cast<std::size_t>(matrix.cols())};
}
template <class Derived>
    requires(static_cast<bool>(Derived::IsRowMajor))
[[nodiscard]] MatrixView<typename Derived::Scalar> view(Eigen::PlainObjectBase<Derived>& matrix) {
    return {matrix.data(), static_cast<std::size_t>(matrix.rows()), static_cast<std::size_t>(matrix.cols()),
            static_cast<std::size_t>(matrix.cols())};
}

/// One Eigen matrix an expert, (outputs, inputs), row- or column-major; the matrices must outlive the stack. Throws
/// Error(shape) when their sizes differ.
template <class T, int Rows, int Cols, int Options>
[[nodiscard]] WeightStack<T> stacked(const std::vector<Eigen::Matrix<T, Rows, Cols, Options>>& experts) {
    std::vector<const T*> pointers;
    for (const auto& expert : experts) {
        require(expert.rows() == experts.front().rows() && expert.cols() == experts.front().cols(), ErrorCode::shape,
                "stacked: expert ", pointers.size(), " is ", expert.rows(), " x ", expert.cols(), " but expert 0 is ",
                experts.front().rows(), " x ", experts.front().cols());
        pointers.push_back(expert.data());
    }
    require(!experts.empty(), ErrorCode::shape, "stacked: a list of 0 experts");
    const auto rows = static_cast<std::size_t>(experts.front().rows());
    const auto cols = static_cast<std::size_t>(experts.front().cols());
    return (Options & Eigen::RowMajor) != 0 ? separate(pointers, rows, cols)
                                            : transpose(separate(pointers, cols, rows));
}

/// One Eigen matrix as weights of a router, (n_experts, d_model), row- or column-major; it must outlive the stack.
template <class T, int Rows, int Cols, int Options>
[[nodiscard]] WeightStack<T> weights(const Eigen::Matrix<T, Rows, Cols, Options>& matrix) {
    const auto rows = static_cast<std::size_t>(matrix.rows());
    const auto cols = static_cast<std::size_t>(matrix.cols());
    return (Options & Eigen::RowMajor) != 0 ? stacked(matrix.data(), 1, rows, cols)
                                            : transpose(stacked(matrix.data(), 1, cols, rows));
}

/// The layer applied to any Eigen expression (n_tokens, d_model); allocates its workspace and its result. For loops
/// that must not allocate, use MoELayer::forward with views.
template <class Layer, class Derived, class Executor = SerialExecutor>
[[nodiscard]] RowMatrix<typename Layer::value_type> forward(
    const Layer& layer, const Eigen::MatrixBase<Derived>& x, const Executor& executor = {},
    const ForwardOptions<typename Layer::value_type>& options = {}) {
    using T = typename Layer::value_type;
    static_assert(std::is_same_v<T, typename Derived::Scalar>, "x must have the scalar type the layer computes in");
    const RowMatrix<T> input = x;
    RowMatrix<T> output = RowMatrix<T>::Zero(input.rows(), input.cols());
    Workspace workspace;
    layer.forward(view(input), view(output), workspace, executor, options);
    return output;
}

}  // namespace moe::inline MOE_ABI
