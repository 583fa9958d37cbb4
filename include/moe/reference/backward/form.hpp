#pragma once

#include <cmath>
#include <limits>
#include <numbers>

#include "../layer/layer.hpp"

namespace moe::inline MOE_ABI::reference {

/// The derivatives of a hidden value by its gate projection (0 where the form is not gated) and by its up projection.
struct Slopes {
    double gate = 0;
    double up = 0;
};

[[nodiscard]] inline double relu_slope(double x) { return x <= 0 ? 0 : 1; }
[[nodiscard]] inline double silu_slope(double x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }
[[nodiscard]] inline double gelu_erf_slope(double x) {
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    return 0.5 * (1 + std::erf(x / std::numbers::sqrt2)) + x * density;
}
[[nodiscard]] inline double gelu_tanh_slope(double x) {
    const double k = std::sqrt(2 / std::numbers::pi);
    const double t = std::tanh(k * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x);
}

/// The three forms with limits, whose derivative is 0 beyond a limit and that of the inside at it.
[[nodiscard]] inline Slopes clamped_slopes(const Expert& expert, double g, double u) {
    const double bounded_g = g > expert.limit ? expert.limit : g;
    const double bounded_u = u > expert.limit ? expert.limit : (u < -expert.limit ? -expert.limit : u);
    const double moves_g = g > expert.limit ? 0 : 1;
    const double moves_u = std::abs(u) > expert.limit ? 0 : 1;
    if (expert.form == Form::clamp_a) {
        const double s = sigmoid(expert.alpha * bounded_g);
        return {moves_g * (bounded_u + 1) * s * (1 + expert.alpha * bounded_g * (1 - s)), moves_u * bounded_g * s};
    }
    if (expert.form == Form::clamp_b) {
        return {moves_g * bounded_u * silu_slope(bounded_g), moves_u * silu(bounded_g)};
    }
    const bool beyond = silu(g) > expert.limit;
    return {beyond ? 0 : bounded_u * silu_slope(g), moves_u * (beyond ? expert.limit : silu(g))};
}

/// Of hidden_value(expert, g, u). Where a form has a corner the derivative is PyTorch's: 0 for relu at 0, 1 for a clamp
/// at its limit. A form with an activation of one's own needs Expert::custom_slope.
[[nodiscard]] inline Slopes hidden_slopes(const Expert& expert, double g, double u) {
    if (expert.custom) {
        return is_gated(expert.form) ? Slopes{expert.custom_slope(g) * u, expert.custom(g)}
                                     : Slopes{0, expert.custom_slope(u)};
    }
    switch (expert.form) {
        case Form::swiglu: return {silu_slope(g) * u, silu(g)};
        case Form::geglu_erf: return {gelu_erf_slope(g) * u, gelu_erf(g)};
        case Form::geglu_tanh: return {gelu_tanh_slope(g) * u, gelu_tanh(g)};
        case Form::reglu: return {relu_slope(g) * u, relu(g)};
        case Form::sigmoid_glu: return {sigmoid(g) * (1 - sigmoid(g)) * u, sigmoid(g)};
        case Form::clamp_a:
        case Form::clamp_b:
        case Form::clamp_c: return clamped_slopes(expert, g, u);
        case Form::relu: return {0, relu_slope(u)};
        case Form::relu_squared: return {0, 2 * relu(u)};
        case Form::gelu_erf: return {0, gelu_erf_slope(u)};
        case Form::gelu_tanh: return {0, gelu_tanh_slope(u)};
        case Form::silu: return {0, silu_slope(u)};
        case Form::identity: return {0, 1};
    }
    return {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN()};
}

}  // namespace moe::inline MOE_ABI::reference
