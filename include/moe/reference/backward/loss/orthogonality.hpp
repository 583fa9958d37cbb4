#pragma once

#include <cmath>
#include <cstddef>

#include "../linear.hpp"

namespace moe::inline MOE_ABI::reference {

/// A loss of the router's matrix by itself.
struct RouterLoss {
    double value = 0;
    Vector d_router{};  // (n_experts, d_router)
};

enum class Distance { squares, absolute };

/// How far the rows of the router R (n_experts, d_router) are from orthonormal: the sum over the elements of M = R R^T
/// - I of their squares (as DynMoE, Guo et al. 2024, 2405.14297) or of their absolute values (as SimBal). d_router = (S
/// + S^T) R with S the derivative of the sum by M, 0 for |M| at 0.
[[nodiscard]] inline RouterLoss orthogonality_loss(const Vector& router, std::size_t n_experts, Distance distance) {
    const std::size_t width = n_experts == 0 ? 0 : router.size() / n_experts;
    RouterLoss result{0, Vector(router.size(), 0.0)};
    for (std::size_t a = 0; a < n_experts; ++a) {
        for (std::size_t b = 0; b < n_experts; ++b) {
            const double m = dot(row_of(router, a, width), row_of(router, b, width)) - (a == b ? 1 : 0);
            const double sign = m == 0 ? 0 : (m < 0 ? -1 : 1);
            const double s = distance == Distance::squares ? 2 * m : sign;
            result.value += distance == Distance::squares ? m * m : std::abs(m);
            for (std::size_t i = 0; i < width; ++i) {
                result.d_router[a * width + i] += s * router[b * width + i];
                result.d_router[b * width + i] += s * router[a * width + i];
            }
        }
    }
    return result;
}

}  // namespace moe::inline MOE_ABI::reference
