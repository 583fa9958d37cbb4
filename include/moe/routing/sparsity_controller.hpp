#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>

#include "../core/error.hpp"
#include "../core/index.hpp"

namespace moe::inline MOE_ABI {

/// Holds the number of experts a token at K on average where a gate takes all experts with a positive score: ReMoE,
/// Wang et al. 2024, "ReMoE: fully differentiable mixture-of-experts with ReLU routing" (2412.14711), the adaptive
/// coefficient of its L1 regularisation.
/// The coefficient lambda of the loss that draws scores to 0 follows the sparsity S = 1 - active / (T E):
///
///     lambda_t = lambda_{t-1} * alpha^sign((1 - K / E) - S_t)
///
/// The number of experts E cancels: the sign is that of active - K T, taken without rounding.
struct SparsityController {
    int top_k = 1;         ///< K
    double lambda = 1e-8;  ///< the paper's first value
    double alpha = 1.2;

    /// `n_active` assignments of `n_tokens` tokens, on all machines and, for one lambda of several layers, over these,
    /// which count the tokens once each. Returns the new lambda, kept within the normal positive doubles. A step
    /// without tokens changes nothing. Throws Error(range): a top_k below 1, a lambda that is not positive and finite,
    /// an alpha that is not finite and above 1; Error(overflow): a product of K and T. No allocation.
    double update(std::size_t n_active, std::size_t n_tokens) {
        using Limits = std::numeric_limits<double>;
        ensure(top_k >= 1, ErrorCode::range, "SparsityController: top_k is ", top_k, ", it must be at least 1");
        ensure(lambda > 0 && lambda <= (Limits::max)(), ErrorCode::range, "SparsityController: lambda is ", lambda,
               ", it must be positive and finite");
        ensure(alpha > 1 && alpha <= (Limits::max)(), ErrorCode::range, "SparsityController: alpha is ", alpha,
               ", it must be finite and above 1");
        ensure(n_tokens > 0 || n_active == 0, ErrorCode::range, "SparsityController: ", n_active,
               " assignments of no tokens");
        const std::size_t wanted = checked_multiply(n_tokens, static_cast<std::size_t>(top_k));
        if (n_active > wanted) {
            lambda = (std::min)(lambda * alpha, (Limits::max)());
        } else if (n_active < wanted) {
            lambda = (std::max)(lambda / alpha, (Limits::min)());
        }
        return lambda;
    }
};

}  // namespace moe::inline MOE_ABI
