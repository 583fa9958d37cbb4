#pragma once

/// The researcher's door: Eigen matrices and expressions in, Eigen matrices out, in float or double.
///
/// Two kinds of functions. view(), weights() and stacked() look at memory where it lies: a Matrix, Map, Ref or Block
/// with contiguous rows (or columns, for weights), whose memory must outlive what is made of it; a temporary that owns
/// its memory is refused. forward() and route() take any expression and copy it where it is not row-major memory
/// already.

#include <cstddef>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

#include <Eigen/Core>

#include "core/never.hpp"
#include "moe.hpp"

namespace moe::inline MOE_ABI {

/// Row-major matrix: a row is a token, contiguous.
template <class T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

namespace detail {

template <class Derived>
Derived dense_type(const Eigen::DenseBase<Derived>&);

/// The matrix or expression that M, maybe a reference to it or a class derived from it, is.
template <class M>
using EigenType = decltype(detail::dense_type(std::declval<M>()));

template <class Matrix>
inline constexpr bool owns_memory = std::is_base_of_v<Eigen::PlainObjectBase<Matrix>, Matrix>;
/// A Ref to constant elements holds a copy of what it could not refer to.
template <class Plain, int Options, class Stride>
inline constexpr bool owns_memory<Eigen::Ref<const Plain, Options, Stride>> = true;

/// Elements in memory, rows or columns contiguous as far as the type tells. (DirectAccessBit: data() and strides.)
template <class M>
concept InMemory = requires {
    typename EigenType<M>;
}
&&(EigenType<M>::Flags& Eigen::DirectAccessBit) != 0 &&
    (int{EigenType<M>::InnerStrideAtCompileTime} == 1 || int{EigenType<M>::InnerStrideAtCompileTime} == Eigen::Dynamic);

/// M is what a forwarding reference deduces: no reference for a temporary.
template <class M>
concept OwningMatrix = requires {
    typename EigenType<M>;
}
&&!std::is_lvalue_reference_v<M> && owns_memory<EigenType<M>>;

template <class M>
concept Viewable = InMemory<M> && !OwningMatrix<M>;
template <class M>
concept RowViewable = Viewable<M> && static_cast<bool>(EigenType<M>::IsRowMajor);

/// Elements from one row to the next, or one column to the next where they are contiguous. Throws Error(stride) where
/// they are not.
template <class Matrix>
[[nodiscard]] std::size_t outer_stride(const Matrix& matrix) {
    ensure(matrix.innerStride() == 1 || matrix.innerSize() <= 1, ErrorCode::stride, "Eigen: neighbours in a ",
           Matrix::IsRowMajor ? "row" : "column", " must lie side by side, here they are ", matrix.innerStride(),
           " elements apart");
    return static_cast<std::size_t>(matrix.outerSize() <= 1 ? matrix.innerSize() : matrix.outerStride());
}

/// `matrices` of one size, and the first of them; weights are (outputs, inputs) whatever their storage order.
template <class Matrix>
[[nodiscard]] auto weight_stack(const std::vector<const typename Matrix::Scalar*>& matrices, const Matrix& first) {
    if constexpr (WeightElement<typename Matrix::Scalar>) {
        const WeightStack<typename Matrix::Scalar> stack(matrices, static_cast<std::size_t>(first.outerSize()),
                                                         static_cast<std::size_t>(first.innerSize()),
                                                         detail::outer_stride(first));
        return Matrix::IsRowMajor ? stack : moe::transpose(stack);
    } else {
        static_assert(never<Matrix>,
                      "weights: matrices of float or double: const Eigen::MatrixXf named = integers.cast<float>().");
        return WeightStack<float>();
    }
}

/// `x` as a matrix of T.
template <class T, class Derived>
[[nodiscard]] decltype(auto) as_matrix(const Eigen::DenseBase<Derived>& x) {
    if constexpr (!std::is_same_v<T, typename Derived::Scalar>) {
        static_assert(never<Derived>,
                      "forward: x must have the scalar type the layer computes in: x.cast<float>(), or <double>.");
        return x.derived().template cast<T>();
    } else if constexpr (std::is_base_of_v<Eigen::ArrayBase<Derived>, Derived>) {
        return x.derived().matrix();
    } else {
        return x.derived();
    }
}

/// Row-major memory with the values of an expression: its own where it is such memory, else a copy.
template <class T>
using Rows = Eigen::Ref<const RowMatrix<T>>;

}  // namespace detail

/// A view of row-major memory: a matrix, a Map, Ref or Block of one. Constant for constant ones. Throws Error(stride)
/// when the elements of a row do not lie side by side, and as MatrixView does.
template <detail::RowViewable Matrix>
[[nodiscard]] auto view(Matrix&& matrix) {
    using Element = std::remove_pointer_t<decltype(matrix.data())>;
    return MatrixView<Element>(matrix.data(), static_cast<std::size_t>(matrix.rows()),
                               static_cast<std::size_t>(matrix.cols()), detail::outer_stride(matrix));
}
template <detail::OwningMatrix Matrix>
MatrixView<typename detail::EigenType<Matrix>::Scalar> view(Matrix&&) = delete;  // temporary: give the matrix a name

/// One matrix an expert, (outputs, inputs): any range of matrices, Maps, Refs or Blocks, row- or column-major. Throws
/// Error(shape, stride) when their sizes or strides differ, or the elements of a row (column) do not lie side by side.
template <std::ranges::forward_range Matrices>
    requires(detail::Viewable<std::ranges::range_reference_t<Matrices>> &&
             (std::ranges::borrowed_range<Matrices> ||
              !detail::owns_memory<detail::EigenType<std::ranges::range_reference_t<Matrices>>>))
[[nodiscard]] auto stacked(Matrices&& experts) {
    using Matrix = detail::EigenType<std::ranges::range_reference_t<Matrices>>;
    std::vector<const typename Matrix::Scalar*> pointers;
    ensure(!std::ranges::empty(experts), ErrorCode::shape, "stacked: a list of 0 experts");
    const auto& first = *std::ranges::begin(experts);
    for (const auto& expert : experts) {
        ensure(expert.rows() == first.rows() && expert.cols() == first.cols(), ErrorCode::shape, "stacked: expert ",
               pointers.size(), " is ", expert.rows(), " x ", expert.cols(), " but expert 0 is ", first.rows(), " x ",
               first.cols());
        ensure(detail::outer_stride(expert) == detail::outer_stride(first), ErrorCode::stride, "stacked: expert ",
               pointers.size(), " has the stride ", detail::outer_stride(expert), " but expert 0 has ",
               detail::outer_stride(first));
        pointers.push_back(expert.data());
    }
    return detail::weight_stack<Matrix>(pointers, first);
}
template <std::ranges::forward_range Matrices>
    requires(detail::Viewable<std::ranges::range_reference_t<Matrices>> && !std::ranges::borrowed_range<Matrices> &&
             detail::owns_memory<detail::EigenType<std::ranges::range_reference_t<Matrices>>>)
auto stacked(Matrices&&)  // temporary: give the list a name
    -> WeightStack<typename detail::EigenType<std::ranges::range_reference_t<Matrices>>::Scalar> = delete;

/// One matrix as weights of a router, (n_experts, d_model), row- or column-major.
template <detail::Viewable Matrix>
[[nodiscard]] auto weights(Matrix&& matrix) {
    return detail::weight_stack<detail::EigenType<Matrix>>({matrix.data()}, matrix);
}
template <detail::OwningMatrix Matrix>
auto weights(Matrix&&)  // temporary: give the matrix a name
    -> WeightStack<typename detail::EigenType<Matrix>::Scalar> = delete;

/// y = the layer applied to `x`, any Eigen expression, into rows there are: `y` is row-major, a matrix, Map, Ref or
/// Block; both (n_tokens, d_model). Allocates nothing once `workspace` has grown, if `x` is row-major memory. Throws as
/// MoELayer::forward does.
template <class Layer, class Derived, detail::RowViewable Matrix, Executor E = SerialExecutor>
void forward(const Layer& layer, const Eigen::DenseBase<Derived>& x, Matrix&& y, Workspace& workspace,
             const E& executor = {}, const ForwardOptions<typename Layer::value_type>& options = {}) {
    using T = typename Layer::value_type;
    const detail::Rows<T> input(detail::as_matrix<T>(x));
    layer.forward(moe::view(input), moe::view(y), workspace, executor, options);
}

template <class Layer, class Derived, class Matrix, Executor E = SerialExecutor>
    requires(requires { typename detail::EigenType<Matrix>; } && !detail::RowViewable<Matrix>)
void forward(const Layer&, const Eigen::DenseBase<Derived>&, Matrix&&, Workspace&, const E& = {},
             const ForwardOptions<typename Layer::value_type>& = {}) {
    static_assert(detail::never<Matrix>,
                  "forward: y must be row-major memory with a name, a moe::RowMatrix<float> for example.");
}

/// The same into a new matrix, with a workspace of its own.
template <class Layer, class Derived, Executor E = SerialExecutor>
[[nodiscard]] auto forward(const Layer& layer, const Eigen::DenseBase<Derived>& x, const E& executor = {},
                           const ForwardOptions<typename Layer::value_type>& options = {}) {
    using T = typename Layer::value_type;
    RowMatrix<T> y = RowMatrix<T>::Zero(x.rows(), x.cols());
    Workspace workspace;
    moe::forward(layer, x, y, workspace, executor, options);
    return y;
}

/// The same with a plan made elsewhere: a RoutingPlan or a view of one.
template <class Layer, class Derived, Executor E = SerialExecutor>
[[nodiscard]] auto forward(const Layer& layer, const Eigen::DenseBase<Derived>& x,
                           const PlanView<typename Layer::value_type>& plan, const E& executor = {},
                           const ForwardOptions<typename Layer::value_type>& options = {}) {
    using T = typename Layer::value_type;
    const detail::Rows<T> input(detail::as_matrix<T>(x));
    RowMatrix<T> y = RowMatrix<T>::Zero(x.rows(), x.cols());
    Workspace workspace;
    layer.forward(moe::view(input), plan, moe::view(y), workspace, executor, options);
    return y;
}

template <class Layer, class Derived, Executor E = SerialExecutor>
[[nodiscard]] auto forward(const Layer& layer, const Eigen::DenseBase<Derived>& x,
                           const RoutingPlan<typename Layer::value_type>& plan, const E& executor = {},
                           const ForwardOptions<typename Layer::value_type>& options = {}) {
    return moe::forward(layer, x, plan.view(), executor, options);
}

/// Only the choice of experts for each row of `x`, as a RoutingPlan.
template <class Layer, class Derived, Executor E = SerialExecutor>
[[nodiscard]] auto route(const Layer& layer, const Eigen::DenseBase<Derived>& x, const E& executor = {},
                         const ForwardOptions<typename Layer::value_type>& options = {}) {
    using T = typename Layer::value_type;
    const detail::Rows<T> input(detail::as_matrix<T>(x));
    RoutingPlan<T> plan;
    Workspace workspace;
    layer.route(moe::view(input), plan, workspace, executor, options);
    return plan;
}

}  // namespace moe::inline MOE_ABI
