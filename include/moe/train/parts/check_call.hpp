#pragma once

#include <cstddef>

#include "../../core/alignment.hpp"
#include "../../core/overlap.hpp"
#include "../../core/workspace.hpp"
#include "mutable_stack.hpp"

/// What every backward pass asks of its tape, its matrices and gradients.
namespace moe::inline MOE_ABI::detail {

/// Throws Error(state) unless a tape holds a forward pass.
inline void ensure_recorded(const char* name, bool recorded) {
    ensure(recorded, ErrorCode::state, name,
           ": the tape holds no forward pass: it was not recorded, or is used up by a backward");
}

/// Throws Error(state) unless that pass was one of this layer.
inline void ensure_same_layer(const char* name, bool same) {
    ensure(same, ErrorCode::state, name, ": the tape was recorded by another layer");
}

/// The matrices of a call of backward() have the shape of x, are aligned and lie apart from each other and from x.
/// Throws Error.
template <class T>
void check_matrices(const MatrixView<const T>& x, const MatrixView<const T>& dy, const MatrixView<T>& dx) {
    constexpr const char* name = "backward";
    const std::size_t n = x.rows();
    const std::size_t d = x.cols();
    ensure(dy.rows() == n && dy.cols() == d, ErrorCode::shape, name, ": dy is ", dy.rows(), " x ", dy.cols(),
           ", the forward pass had ", n, " x ", d);
    ensure(dx.rows() == 0 || (dx.rows() == n && dx.cols() == d), ErrorCode::shape, name, ": dx is ", dx.rows(), " x ",
           dx.cols(), ", the forward pass had ", n, " x ", d);
    require_aligned(dy.data(), name, "dy");
    require_aligned(dx.data(), name, "dx");
    require_disjoint(name, "dy", dy, "dx", dx);
    require_disjoint(name, "x", x, "dx", dx);
}

/// All of them lie apart from the memory of the workspace.
template <class T>
void check_workspace(const MatrixView<const T>& x, const MatrixView<const T>& dy, const MatrixView<T>& dx,
                     const Workspace& workspace) {
    refuse_overlap(
        "backward", "the workspace",
        overlapped(bytes_of(workspace.memory()), {{"x", bytes_of(x)}, {"dy", bytes_of(dy)}, {"dx", bytes_of(dx)}}));
}

/// Gradients of one matrix, if they are wanted, have its shape and are aligned.
template <class T>
void check_stack(const char* what, const MutableStack<T>& stack, std::size_t outputs, std::size_t inputs) {
    if (stack.empty()) {
        return;
    }
    ensure(stack.n_experts() == 1 && stack.outputs() == outputs && stack.inputs() == inputs, ErrorCode::shape,
           "backward: the gradients of ", what, " are ", stack.n_experts(), " x ", stack.outputs(), " x ",
           stack.inputs(), ", they must be 1 x ", outputs, " x ", inputs);
    require_aligned(stack.matrix(0).data, "backward: gradients", what);
}

/// The same of a matrix in rows.
template <class T>
void check_rows(const char* what, const MatrixView<T>& to, std::size_t rows, std::size_t columns) {
    ensure(to.rows() == 0 || (to.rows() == rows && to.cols() == columns), ErrorCode::shape,
           "backward: the gradients of ", what, " are ", to.rows(), " x ", to.cols(), ", they must be ", rows, " x ",
           columns);
    require_aligned(to.data(), "backward: gradients", what);
}

}  // namespace moe::inline MOE_ABI::detail
