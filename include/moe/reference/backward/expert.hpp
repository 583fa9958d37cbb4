#pragma once

#include <cstddef>

#include "../layer/layer.hpp"
#include "form.hpp"
#include "linear.hpp"

namespace moe::inline MOE_ABI::reference {

/// The gradients of an expert's parameters, each of the size of the parameter, empty where that is.
struct ExpertGradients {
    Vector gate{};
    Vector up{};
    Vector down{};
    Vector gate_bias{};
    Vector up_bias{};
    Vector down_bias{};
};

[[nodiscard]] inline ExpertGradients zero_gradients(const Expert& expert) {
    const auto zeros = [](const Vector& parameter) { return Vector(parameter.size(), 0.0); };
    return {zeros(expert.gate),      zeros(expert.up),      zeros(expert.down),
            zeros(expert.gate_bias), zeros(expert.up_bias), zeros(expert.down_bias)};
}

/// Of y = run(expert, x) with the gradient dy of y: gives that of x (d_model), adds those of the parameters.
[[nodiscard]] inline Vector backward(const Expert& expert, const Vector& x, const Vector& dy, ExpertGradients& sum) {
    const bool gated = is_gated(expert.form);
    const Vector u = linear(expert.up, expert.up_bias, x, expert.d_ff);
    const Vector g = gated ? linear(expert.gate, expert.gate_bias, x, expert.d_ff) : Vector(expert.d_ff, 0.0);
    Vector hidden(expert.d_ff);
    for (std::size_t i = 0; i < expert.d_ff; ++i) {
        hidden[i] = hidden_value(expert, g[i], u[i]);
    }
    const Vector d_hidden = linear_backward(expert.down, hidden, dy, sum.down, sum.down_bias);
    Vector dg(expert.d_ff);
    Vector du(expert.d_ff);
    for (std::size_t i = 0; i < expert.d_ff; ++i) {
        const Slopes slopes = hidden_slopes(expert, g[i], u[i]);
        dg[i] = d_hidden[i] * slopes.gate;
        du[i] = d_hidden[i] * slopes.up;
    }
    Vector dx = linear_backward(expert.up, x, du, sum.up, sum.up_bias);
    if (gated) {
        add_scaled(dx, 1, linear_backward(expert.gate, x, dg, sum.gate, sum.gate_bias));
    }
    return dx;
}

/// What one choice of a token gives back: the gradient of its weight and that of the token.
struct ChoiceGradient {
    double weight = 0;
    Vector x{};
};

/// Of y = w run(expert, x), or with the weight at the input y = run(expert, w x).
[[nodiscard]] inline ChoiceGradient backward_weighted(const Expert& expert, double w, bool weight_at_input,
                                                      const Vector& x, const Vector& dy, ExpertGradients& sum) {
    ChoiceGradient result{0, Vector(x.size(), 0.0)};
    if (weight_at_input) {
        Vector scaled(x.size(), 0.0);
        add_scaled(scaled, w, x);
        const Vector d_scaled = backward(expert, scaled, dy, sum);
        result.weight = dot(x, d_scaled);
        add_scaled(result.x, w, d_scaled);
    } else {
        Vector d_output(dy.size(), 0.0);
        add_scaled(d_output, w, dy);
        result.weight = dot(run(expert, x), dy);
        result.x = backward(expert, x, d_output, sum);
    }
    return result;
}

}  // namespace moe::inline MOE_ABI::reference
