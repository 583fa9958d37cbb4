#pragma once

#include <cmath>
#include <cstddef>

#include "../../adaptors/cosine.hpp"
#include "../linear.hpp"

namespace moe::inline MOE_ABI::reference {

struct CosineGradients {
    Vector z{};          // (width), of the projection
    Vector centroids{};  // (n_experts, width)
    double temperature = 0;
};

/// Of u = unit(v) with the gradient du of u: (du - u <u, du>) / |v|; zeros where the norm is 0.
[[nodiscard]] inline Vector unit_backward(const Vector& v, const Vector& du) {
    const Vector u = unit(v);
    const double norm = std::sqrt(dot(v, v));
    const double along = dot(u, du);
    Vector dv(v.size(), 0.0);
    for (std::size_t i = 0; i < v.size(); ++i) {
        dv[i] = norm == 0 ? 0 : (du[i] - u[i] * along) / norm;
    }
    return dv;
}

/// Of cosine_logits(z, centroids, max(temperature, least)). A temperature at its least or below gets no gradient.
[[nodiscard]] inline CosineGradients cosine_backward(const Vector& z, const Vector& centroids, double temperature,
                                                     double least, const Vector& d_logits) {
    const std::size_t width = z.size();
    const double tau = temperature > least ? temperature : least;
    const Vector logits = cosine_logits(z, centroids, tau);
    CosineGradients gradients{Vector(), Vector(), temperature > least ? -dot(d_logits, logits) / tau : 0};
    Vector d_unit(width, 0.0);
    for (std::size_t e = 0; e < d_logits.size(); ++e) {
        const Vector centroid = row_of(centroids, e, width);
        Vector d_centroid(width, 0.0);
        add_scaled(d_unit, d_logits[e] / tau, unit(centroid));
        add_scaled(d_centroid, d_logits[e] / tau, unit(z));
        d_centroid = unit_backward(centroid, d_centroid);
        gradients.centroids.insert(gradients.centroids.end(), d_centroid.begin(), d_centroid.end());
    }
    gradients.z = unit_backward(z, d_unit);
    return gradients;
}

}  // namespace moe::inline MOE_ABI::reference
