#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numbers>
#include <vector>

#include "../routing.hpp"

namespace moe::inline MOE_ABI::reference {

/// y = W x + b: weight (outputs, inputs) row-major, bias (outputs) or empty.
[[nodiscard]] inline Vector linear(const Vector& weight, const Vector& bias, const Vector& x, std::size_t outputs) {
    Vector y = bias.empty() ? Vector(outputs, 0.0) : bias;
    for (std::size_t o = 0; o < outputs; ++o) {
        for (std::size_t i = 0; i < x.size(); ++i) {
            y[o] += weight[o * x.size() + i] * x[i];
        }
    }
    return y;
}

/// What an expert computes between its projections.
enum class Form {
    swiglu,       // silu(g) u
    geglu_erf,    // gelu(g) u
    geglu_tanh,   // gelu(g) u, gelu approximated with tanh
    reglu,        // relu(g) u
    sigmoid_glu,  // sigmoid(g) u
    clamp_a,      // g' = min(g, limit), u' = clamp(u, +-limit): (u' + 1) g' sigmoid(alpha g')
    clamp_b,      // silu(min(g, limit)) clamp(u, +-limit)
    clamp_c,      // min(silu(g), limit) clamp(u, +-limit)
    relu,         // not gated from here on
    relu_squared,
    gelu_erf,
    gelu_tanh,
    silu,
    identity,
};

[[nodiscard]] inline bool is_gated(Form form) { return form < Form::relu; }

[[nodiscard]] inline double relu(double x) { return x < 0 ? 0 : x; }
[[nodiscard]] inline double silu(double x) { return x * sigmoid(x); }
[[nodiscard]] inline double gelu_erf(double x) { return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2)); }
[[nodiscard]] inline double gelu_tanh(double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

/// One feed-forward network: a routed or a shared expert.
struct Expert {
    std::size_t d_model = 0;
    std::size_t d_ff = 0;
    Form form = Form::swiglu;
    Vector gate{};                                 // (d_ff, d_model), gated forms only
    Vector up{};                                   // (d_ff, d_model)
    Vector down{};                                 // (d_model, d_ff)
    Vector gate_bias{};                            // (d_ff) or empty
    Vector up_bias{};                              // (d_ff) or empty
    Vector down_bias{};                            // (d_model) or empty
    double limit = 7;                              // clamp_a, clamp_b, clamp_c
    double alpha = 1.702;                          // clamp_a
    std::function<double(double)> custom{};        // if set: custom(g) u, or custom(u) where the form is not gated
    std::function<double(double)> custom_slope{};  // its derivative
};

/// One hidden value of an expert, from its gate projection g (0 where the form is not gated) and its up projection u.
[[nodiscard]] inline double hidden_value(const Expert& expert, double g, double u) {
    const double bounded_g = std::isnan(g) ? g : (std::min)(g, expert.limit);
    const double bounded_u = std::isnan(u) ? u : std::clamp(u, -expert.limit, expert.limit);
    if (expert.custom) {
        return is_gated(expert.form) ? expert.custom(g) * u : expert.custom(u);
    }
    switch (expert.form) {
        case Form::swiglu: return silu(g) * u;
        case Form::geglu_erf: return gelu_erf(g) * u;
        case Form::geglu_tanh: return gelu_tanh(g) * u;
        case Form::reglu: return relu(g) * u;
        case Form::sigmoid_glu: return sigmoid(g) * u;
        case Form::clamp_a: return (bounded_u + 1) * bounded_g * sigmoid(expert.alpha * bounded_g);
        case Form::clamp_b: return silu(bounded_g) * bounded_u;
        case Form::clamp_c: return (silu(g) > expert.limit ? expert.limit : silu(g)) * bounded_u;
        case Form::relu: return relu(u);
        case Form::relu_squared: return relu(u) * relu(u);
        case Form::gelu_erf: return gelu_erf(u);
        case Form::gelu_tanh: return gelu_tanh(u);
        case Form::silu: return silu(u);
        case Form::identity: return u;
    }
    return std::numeric_limits<double>::quiet_NaN();
}

/// down(hidden(gate(x), up(x))): x (d_model) -> (d_model).
[[nodiscard]] inline Vector run(const Expert& expert, const Vector& x) {
    const Vector u = linear(expert.up, expert.up_bias, x, expert.d_ff);
    const bool gated = is_gated(expert.form);
    const Vector g = gated ? linear(expert.gate, expert.gate_bias, x, expert.d_ff) : Vector(expert.d_ff, 0.0);
    Vector hidden(expert.d_ff);
    for (std::size_t i = 0; i < expert.d_ff; ++i) {
        hidden[i] = hidden_value(expert, g[i], u[i]);
    }
    return linear(expert.down, expert.down_bias, hidden, expert.d_model);
}

enum class Shared { add, gated, average };

/// A whole layer. Experts 0..experts.size() - 1 are real; behind them n_zero that add nothing, n_identity that add w x,
/// and one for each of the constants, which add w constant, or with `mixes` w (a1 x + a2 constant).
struct Layer {
    std::size_t d_model = 0;
    Vector router{};       // (n_experts, d_router), d_router the length of a token as the router reads it
    Vector router_bias{};  // (n_experts) or empty
    TokenChoiceRule rule{};
    std::vector<Expert> experts{};
    std::size_t n_zero = 0;
    std::size_t n_identity = 0;
    std::vector<Vector> constants{};
    std::vector<Vector> mixes{};   // (2, d_model) for each of the constants, or none: [a1, a2] = softmax(mix x)
    bool weight_at_input = false;  // expert(w x) instead of w expert(x)
    double routed_scale = 1;
    Shared shared_mode = Shared::add;
    std::vector<Expert> shared{};
    Vector shared_gate{};        // (shared.size(), d_model): each shared expert is weighted with sigmoid(its row . x)
    Vector output_bias{};        // (d_model) or empty
    bool pass_unrouted = false;  // y = x, plus bias and shared experts, for a token without experts

    [[nodiscard]] std::size_t n_experts() const { return experts.size() + n_zero + n_identity + constants.size(); }
};

inline void add_scaled(Vector& sum, double scale, const Vector& x) {
    for (std::size_t i = 0; i < sum.size(); ++i) {
        sum[i] += scale * x[i];
    }
}

/// Adds what expert e contributes to a token x it has weight w for.
inline void add_expert(const Layer& layer, std::size_t e, double w, const Vector& x, Vector& sum) {
    const std::size_t identity = layer.experts.size() + layer.n_zero;
    const std::size_t constant = identity + layer.n_identity;
    if (e < layer.experts.size()) {
        Vector scaled(x.size(), 0.0);
        add_scaled(scaled, layer.weight_at_input ? w : 1, x);
        add_scaled(sum, layer.weight_at_input ? 1 : w, run(layer.experts[e], scaled));
    } else if (e >= constant && !layer.mixes.empty()) {
        const Vector shares = softmax(linear(layer.mixes[e - constant], {}, x, 2));
        add_scaled(sum, w * shares[0], x);
        add_scaled(sum, w * shares[1], layer.constants[e - constant]);
    } else if (e >= constant) {
        add_scaled(sum, w, layer.constants[e - constant]);
    } else if (e >= identity) {
        add_scaled(sum, w, x);
    }
}

/// The experts of one token, from what the router reads of it.
[[nodiscard]] inline Choice route(const Layer& layer, const Vector& router_input) {
    return route(layer.rule, linear(layer.router, layer.router_bias, router_input, layer.n_experts()));
}

/// What the layer makes of token x (d_model) once its experts are chosen. Negative entries are unused.
[[nodiscard]] inline Vector combine(const Layer& layer, const Choice& choice, const Vector& x) {
    Vector routed(layer.d_model, 0.0);
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        if (choice.experts[slot] >= 0) {
            add_expert(layer, static_cast<std::size_t>(choice.experts[slot]), choice.weights[slot], x, routed);
        }
    }
    const bool routed_somewhere =
        std::any_of(choice.experts.begin(), choice.experts.end(), [](ExpertId e) { return e >= 0; });
    Vector shared(layer.d_model, 0.0);
    const bool gated = layer.shared_mode == Shared::gated;
    const Vector gates =
        gated ? linear(layer.shared_gate, {}, x, layer.shared.size()) : Vector(layer.shared.size(), 0.0);
    for (std::size_t s = 0; s < layer.shared.size(); ++s) {
        add_scaled(shared, gated ? sigmoid(gates[s]) : 1, run(layer.shared[s], x));
    }
    Vector y = layer.output_bias.empty() ? Vector(layer.d_model, 0.0) : layer.output_bias;
    const double half = layer.shared_mode == Shared::average && !layer.shared.empty() ? 0.5 : 1;
    add_scaled(y, half * layer.routed_scale, routed);
    add_scaled(y, layer.pass_unrouted && !routed_somewhere ? 1 : 0, x);
    add_scaled(y, half, shared);
    return y;
}

/// y = layer(x), or y += layer(x): x, y (n_tokens, d_model) row-major; `router_input` (n_tokens, d_router) where the
/// router reads something else, otherwise x itself.
inline void forward(const Layer& layer, const Vector& x, const Vector& router_input, Vector& y,
                    bool accumulate = false) {
    const std::size_t n_tokens = layer.d_model == 0 ? 0 : x.size() / layer.d_model;
    const std::size_t d_router = n_tokens == 0 ? 0 : router_input.size() / n_tokens;
    y.resize(x.size(), 0.0);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        const auto row = [t](const Vector& rows, std::size_t d) {
            const auto first = rows.begin() + static_cast<std::ptrdiff_t>(t * d);
            return Vector(first, first + static_cast<std::ptrdiff_t>(d));
        };
        const Vector result = combine(layer, route(layer, row(router_input, d_router)), row(x, layer.d_model));
        for (std::size_t i = 0; i < layer.d_model; ++i) {
            double& out = y[t * layer.d_model + i];
            out = accumulate ? out + result[i] : result[i];
        }
    }
}

}  // namespace moe::inline MOE_ABI::reference
