#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>

#include "../../core/alignment.hpp"
#include "../../core/float_environment.hpp"
#include "../../core/overlap.hpp"
#include "../../core/workspace.hpp"
#include "../../experts/weight_stack.hpp"
#include "../parts/mutable_stack.hpp"

namespace moe::inline MOE_ABI {

/// What is summed over the elements of R R^T - I.
enum class OrthogonalityNorm : unsigned char {
    squares,  ///< DynMoE (Guo et al. 2024, 2405.14297)
    absolute  ///< SimBal
};

struct Orthogonality {
    double coefficient = 1;
    OrthogonalityNorm norm = OrthogonalityNorm::squares;
};

namespace detail {

/// Row `r` of a weight matrix.
template <class W>
void load_row(const WeightStack<W>& matrix, std::size_t r, std::span<double> row) {
    const WeightBlock<W> block = matrix.block(0, r, 1);
    for (std::size_t i = 0; i < row.size(); ++i) {
        row[i] = static_cast<double>(load_element(block.data + i * block.input_stride));
    }
}

/// -1, 0, 1, or NaN.
[[nodiscard]] inline double sign(double m) { return m == 0 || m != m ? m : std::copysign(1.0, m); }

/// Throws Error: see add_orthogonality.
template <class W>
void confirm_orthogonality(const char* name, const WeightStack<W>& router, const MutableStack<ComputeType<W>>& gradient,
                           const Orthogonality& options) {
    ensure(router.n_experts() == 1, ErrorCode::shape, name, ": the router is one matrix, not a stack of ",
           router.n_experts());
    ensure(gradient.empty() || (gradient.n_experts() == 1 && gradient.outputs() == router.outputs() &&
                                gradient.inputs() == router.inputs()),
           ErrorCode::shape, name, ": the gradients of the router are ", gradient.n_experts(), " x ",
           gradient.outputs(), " x ", gradient.inputs(), ", they must be 1 x ", router.outputs(), " x ",
           router.inputs());
    ensure(std::isfinite(options.coefficient), ErrorCode::range, name, ": the coefficient is ", options.coefficient,
           ", it must be finite");
    ensure(options.norm <= OrthogonalityNorm::absolute, ErrorCode::range, name, ": OrthogonalityNorm has no value ",
           static_cast<int>(options.norm));
    if (gradient.empty()) {
        return;
    }
    require_aligned(gradient.matrix(0).data, name, "the gradients of the router");
    for (std::size_t r = 0; r < router.outputs(); ++r) {
        const WeightBlock<W> row = router.block(0, r, 1);
        const std::span<const W> memory(row.data, (router.inputs() - 1) * row.input_stride + 1);
        refuse_overlap(name, "the router", gradient.overlaps(bytes_of(memory)) ? "its gradients" : nullptr);
    }
}

}  // namespace detail

/// How far the rows of a router R (n_experts, d_router), in any storage order, are from orthonormal: the sum over the
/// elements of M = R R^T - I of their squares or absolute values. 0 for orthonormal rows, whatever the balance: no
/// token is looked at, so once a step is enough. Returns it without its coefficient, and adds to `gradient`
/// (1, n_experts, d_router), or to nothing where that is empty, coefficient times
///
///     4 M R,  or  2 sign(M) R with sign(0) = 0
///
/// A NaN in R reaches the gradients of all its rows. Throws Error before anything is written: shapes that disagree
/// (shape), a coefficient not finite (range), gradients on the router (layout) or not aligned (alignment). Sums in
/// double, ascending experts. O(n_experts^2 d_router), by one thread; allocates nothing once `workspace` has grown.
template <class W>
double add_orthogonality(const WeightStack<W>& router, const MutableStack<ComputeType<W>>& gradient,
                         const Orthogonality& options, Workspace& workspace) {
    using T = ComputeType<W>;
    detail::confirm_orthogonality("add_orthogonality", router, gradient, options);
    const std::size_t d = router.inputs();
    Arena measure;
    (void)measure.take<double>(checked_multiply(3, d));
    const WorkspaceLease lease = workspace.lease(measure.used());
    Arena arena = lease.arena();
    const std::span<double> memory = arena.take<double>(3 * d);
    const std::span<double> row = memory.first(d);
    const std::span<double> other = memory.subspan(d, d);
    const std::span<double> sums = memory.last(d);
    const FloatEnvironment environment;
    const bool wanted = !gradient.empty() && options.coefficient != 0;
    double value = 0;
    for (std::size_t a = 0; a < router.outputs(); ++a) {
        detail::load_row(router, a, row);
        std::fill(sums.begin(), sums.end(), 0.0);
        for (std::size_t b = 0; b < router.outputs(); ++b) {
            detail::load_row(router, b, other);
            const double m = std::inner_product(row.begin(), row.end(), other.begin(), a == b ? -1.0 : 0.0);
            const bool squares = options.norm == OrthogonalityNorm::squares;
            value += squares ? m * m : std::abs(m);
            const double slope = squares ? 4 * m : 2 * detail::sign(m);
            for (std::size_t i = 0; i < d && wanted; ++i) {
                sums[i] += slope * other[i];
            }
        }
        if (wanted) {
            const typename MutableStack<T>::Matrix to = gradient.matrix(0);
            for (std::size_t i = 0; i < d; ++i) {
                to.data[a * to.output_stride + i * to.input_stride] += static_cast<T>(options.coefficient * sums[i]);
            }
        }
    }
    return value;
}

}  // namespace moe::inline MOE_ABI
