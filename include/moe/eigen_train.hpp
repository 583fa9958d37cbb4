#pragma once

/// The researcher's door to gradients: eigen.hpp and train.hpp, and Eigen matrices and expressions in and out of
/// forward and backward, in float or double.
///
///     moe::Tape<double> tape;
///     const auto y = moe::forward(layer, x, tape);
///     moe::OwnedGradients gradients = moe::gradients_of(layer);
///     const auto dx = moe::backward(layer, tape, dy, gradients);
///     router -= rate * moe::map(gradients.router());

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include "eigen.hpp"
#include "train.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// Plain with its elements constant where T is.
template <class T, class Plain>
using ConstAs = std::conditional_t<std::is_const_v<T>, const Plain, Plain>;

/// x for a pass that `tape` records: where it lies if that is row-major memory with a name, else in the tape.
template <class T, class X>
[[nodiscard]] MatrixView<const T> input_of(Tape<T>& tape, const X& x, bool has_name) {
    if constexpr (InMemory<X> && std::is_same_v<typename EigenType<X>::Scalar, T>) {
        if (has_name && EigenType<X>::IsRowMajor && (x.innerStride() == 1 || x.innerSize() <= 1)) {
            return MatrixView<const T>(x.data(), static_cast<std::size_t>(x.rows()), static_cast<std::size_t>(x.cols()),
                                       detail::outer_stride(x));
        }
    }
    const MatrixView<T> memory =
        tape.input_memory(static_cast<std::size_t>(x.rows()), static_cast<std::size_t>(x.cols()));
    Eigen::Map<RowMatrix<T>>(memory.data(), x.rows(), x.cols()) = detail::as_matrix<T>(x);
    return memory;
}

/// `dy` as row-major memory.
template <class T, class Derived>
[[nodiscard]] Rows<T> gradient_rows(const Eigen::DenseBase<Derived>& dy) {
    if constexpr (std::is_same_v<T, typename Derived::Scalar>) {
        return Rows<T>(detail::as_matrix<T>(dy));
    } else {
        static_assert(never<Derived>,
                      "backward: dy must have the scalar type the layer computes in: dy.cast<float>(), or <double>.");
        return Rows<T>(RowMatrix<T>());
    }
}

/// Whether the tape is one for the layer; where it is not, one sentence has said so.
template <class Layer, class T>
consteval bool check_tape() {
    constexpr bool same = std::is_same_v<typename Layer::value_type, T>;
    static_assert(same, "Tape: it must be of the type the layer computes in: moe::Tape<float>, or moe::Tape<double>.");
    return same;
}

}  // namespace detail

/// Eigen's view of a matrix in memory, as view() is the other way round: of gradients, of what a tape holds.
template <class T>
[[nodiscard]] auto map(MatrixView<T> matrix) {
    using Plain = detail::ConstAs<T, RowMatrix<std::remove_const_t<T>>>;
    return Eigen::Map<Plain, Eigen::Unaligned, Eigen::OuterStride<>>(
        matrix.data(), static_cast<Eigen::Index>(matrix.rows()), static_cast<Eigen::Index>(matrix.cols()),
        Eigen::OuterStride<>(static_cast<Eigen::Index>(matrix.stride())));
}
/// The same of a vector, a column.
template <class T>
[[nodiscard]] auto map(std::span<T> values) {
    using Plain = detail::ConstAs<T, Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, 1>>;
    return Eigen::Map<Plain>(values.data(), static_cast<Eigen::Index>(values.size()));
}

/// y = the layer applied to `x`, any Eigen expression, into rows there are, and `tape` filled for backward(). Row-major
/// memory with a name is viewed and must stay as it is until then; of anything else the tape keeps a copy. Both
/// (n_tokens, d_model), `y` row-major. Allocates nothing once tape and workspace have grown. Throws as
/// MoELayer::forward does.
template <class Layer, class X, detail::RowViewable Matrix, class T, Executor E = SerialExecutor>
    requires(requires { typename detail::EigenType<X>; })
void forward(const Layer& layer, X&& x, Matrix&& y, Tape<T>& tape, Workspace& workspace, const E& executor = {},
             const ForwardOptions<T>& options = {}) {
    if constexpr (detail::check_tape<Layer, T>()) {
        const MatrixView<const T> input = detail::input_of(tape, x, std::is_lvalue_reference_v<X>);
        moe::forward(layer, input, moe::view(y), tape, workspace, executor, options);
    }
}

template <class Layer, class X, class Matrix, class T, Executor E = SerialExecutor>
    requires(requires {
        typename detail::EigenType<X>;
        typename detail::EigenType<Matrix>;
    } && !detail::RowViewable<Matrix>)
void forward(const Layer&, X&&, Matrix&&, Tape<T>&, Workspace&, const E& = {}, const ForwardOptions<T>& = {}) {
    static_assert(detail::never<Matrix>,
                  "forward: y must be row-major memory with a name, a moe::RowMatrix<float> for example.");
}

/// The same into a new matrix, with a workspace of its own.
template <class Layer, class X, class T, Executor E = SerialExecutor>
    requires(requires { typename detail::EigenType<X>; })
[[nodiscard]] RowMatrix<T> forward(const Layer& layer, X&& x, Tape<T>& tape, const E& executor = {},
                                   const ForwardOptions<T>& options = {}) {
    RowMatrix<T> y = RowMatrix<T>::Zero(x.rows(), x.cols());
    Workspace workspace;
    moe::forward(layer, std::forward<X>(x), y, tape, workspace, executor, options);
    return y;
}

/// The gradients of a loss, from those of y: `dy`, any Eigen expression, of the forward pass that `tape` recorded.
/// `dx`, row-major, is written, or added to if the options say so; `gradients`, an OwnedGradients or views, are added
/// to. See backward() of MatrixViews.
template <class Layer, class T, class Derived, detail::RowViewable Matrix, Executor E = SerialExecutor>
void backward(const Layer& layer, Tape<T>& tape, const Eigen::DenseBase<Derived>& dy, Matrix&& dx,
              const std::type_identity_t<LayerGradients<T>>& gradients, Workspace& workspace, const E& executor = {},
              const BackwardOptions& options = {}) {
    if constexpr (detail::check_tape<Layer, T>()) {
        const detail::Rows<T> rows = detail::gradient_rows<T>(dy);
        moe::backward(layer, tape, moe::view(rows), moe::view(dx), gradients, workspace, executor, options);
    }
}

template <class Layer, class T, class Derived, class Matrix, Executor E = SerialExecutor>
    requires(requires { typename detail::EigenType<Matrix>; } && !detail::RowViewable<Matrix>)
void backward(const Layer&, Tape<T>&, const Eigen::DenseBase<Derived>&, Matrix&&,
              const std::type_identity_t<LayerGradients<T>>&, Workspace&, const E& = {}, const BackwardOptions& = {}) {
    static_assert(detail::never<Matrix>,
                  "backward: dx must be row-major memory with a name, a moe::RowMatrix<float> for example.");
}

/// The same, which returns dx, with a workspace of its own.
template <class Layer, class T, class Derived, Executor E = SerialExecutor>
RowMatrix<T> backward(const Layer& layer, Tape<T>& tape, const Eigen::DenseBase<Derived>& dy,
                      const std::type_identity_t<LayerGradients<T>>& gradients, const E& executor = {},
                      const BackwardOptions& options = {}) {
    RowMatrix<T> dx = RowMatrix<T>::Zero(dy.rows(), dy.cols());
    Workspace workspace;
    moe::backward(layer, tape, dy, dx, gradients, workspace, executor, options);
    return dx;
}

/// check_gradients() at `x`, any Eigen expression of doubles.
template <class Layer, class Derived>
[[nodiscard]] GradientCheck check_gradients(const Layer& layer, const Eigen::DenseBase<Derived>& x,
                                            const GradientCheckOptions& options = {}) {
    if constexpr (std::is_same_v<typename Layer::value_type, double>) {
        const detail::Rows<double> rows(detail::as_matrix<double>(x));
        return moe::check_gradients(layer, moe::view(rows), options);
    } else {
        return moe::check_gradients(layer, MatrixView<const double>(), options);  // says what is wrong
    }
}

}  // namespace moe::inline MOE_ABI
