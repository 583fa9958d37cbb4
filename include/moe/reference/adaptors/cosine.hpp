#pragma once

#include <cmath>
#include <cstddef>

#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// v / |v|; zeros where the norm is 0.
[[nodiscard]] inline Vector unit(Vector v) {
    double square = 0;
    for (const double x : v) {
        square += x * x;
    }
    for (double& x : v) {
        x = square == 0 ? 0 : x / std::sqrt(square);
    }
    return v;
}

/// The cosine of z (width) with each of the centroids (n_experts, width), over the temperature.
[[nodiscard]] inline Vector cosine_logits(const Vector& z, const Vector& centroids, double temperature) {
    const std::size_t width = z.size();
    Vector logits(centroids.size() / width, 0.0);
    for (std::size_t e = 0; e < logits.size(); ++e) {
        const auto first = centroids.begin() + static_cast<std::ptrdiff_t>(e * width);
        const Vector c = unit(Vector(first, first + static_cast<std::ptrdiff_t>(width)));
        for (std::size_t i = 0; i < width; ++i) {
            logits[e] += unit(z)[i] * c[i];
        }
        logits[e] /= temperature;
    }
    return logits;
}

}  // namespace moe::inline MOE_ABI::reference
