#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>

#include "moe/reference/layer/layer.hpp"
#include "support/compare.hpp"

/// How far a layer computed in T may be from the definition.
namespace moe_test {

namespace reference = moe::reference;

/// A dot product and the sum of its absolute terms, inputs scaled with `in`.
struct Projection {
    double value = 0;
    double size = 0;
    Projection(const reference::Vector& weight, const reference::Vector& bias, std::size_t row, double in,
               const reference::Vector& x) {
        for (std::size_t i = 0; i < x.size(); ++i) {
            const double term = in * weight[row * x.size() + i] * x[i];
            value += term;
            size += std::abs(term);
        }
        value += bias.empty() ? 0 : bias[row];
        size += bias.empty() ? 0 : std::abs(bias[row]);
    }
};

/// The rounding of an output computed in T, element by element, by running error analysis (Higham, 3.3).
template <class T>
class OutputBound {
public:
    explicit OutputBound(const reference::Vector& before) : error_(before.size()), size_(before.size()) {
        add_terms(1, 0, before);
    }

    /// weight * term is added, the weight known to within `weight_error`.
    void add_terms(double weight, double weight_error, const reference::Vector& term) {
        for (std::size_t o = 0; o < term.size(); ++o) {
            size_[o] += std::abs(weight * term[o]);
            error_[o] += weight_error * std::abs(term[o]);
        }
        ++n_terms_;
    }

    /// out * expert(in * x) is added.
    void add_expert(const reference::Expert& expert, double in, double out, double out_error,
                    const reference::Vector& x) {
        reference::Vector hidden(expert.d_ff);
        reference::Vector error(expert.d_ff);
        for (std::size_t i = 0; i < expert.d_ff; ++i) {
            const Projection u(expert.up, expert.up_bias, i, in, x);
            const Projection g = is_gated(expert.form) ? Projection(expert.gate, expert.gate_bias, i, in, x) : u;
            hidden[i] = std::abs(reference::hidden_value(expert, g.value, u.value));
            error[i] = hidden_error(expert, g, u);
        }
        for (std::size_t o = 0; o < expert.d_model; ++o) {
            double size = expert.down_bias.empty() ? 0 : std::abs(expert.down_bias[o]);
            double from_hidden = 0;
            for (std::size_t i = 0; i < expert.d_ff; ++i) {
                const double weight = std::abs(expert.down[o * expert.d_ff + i]);
                size += weight * (hidden[i] + error[i]);
                from_hidden += weight * error[i];
            }
            error_[o] += std::abs(out) * (rounding_bound<T>(expert.d_ff + 3, size) + from_hidden) + out_error * size;
            size_[o] += std::abs(out) * size;
        }
        ++n_terms_;
    }

    /// Of element o. The reference rounds too: nothing beside float, as much as the layer in double.
    [[nodiscard]] double operator()(std::size_t o) const {
        const double both = std::is_same_v<T, double> ? 2 : 1 + 1e-6;
        return both * (error_[o] + rounding_bound<T>(n_terms_ + 4, size_[o]));
    }

private:
    /// |act'| <= 1.2 and |act(g)| <= 1 + |g| for all activations but the square; evaluating one costs a few units.
    static double hidden_error(const reference::Expert& expert, const Projection& g, const Projection& u) {
        const double g_error = rounding_bound<T>(expert.d_model + 4, g.size);
        const double u_error = rounding_bound<T>(expert.d_model + 4, u.size);
        const double evaluation = 8 * static_cast<double>(std::numeric_limits<T>::epsilon());
        const double g_top = 1 + std::abs(g.value) + g_error;
        const double u_top = 1 + std::abs(u.value) + u_error;
        if (is_gated(expert.form)) {
            return 1.2 * g_error * u_top + g_top * u_error + evaluation * g_top * u_top;
        }
        const double slope = expert.form == reference::Form::relu_squared ? 2 * u_top : 1.2;
        return slope * u_error + evaluation * u_top * u_top;
    }

    reference::Vector error_;
    reference::Vector size_;
    std::size_t n_terms_ = 0;
};

/// What rounding in T may do to combine(layer, choice, x), added to what y held before.
template <class T>
OutputBound<T> output_bound(const reference::Layer& layer, const reference::Choice& choice, const reference::Vector& x,
                            const reference::Vector& before) {
    const double half = layer.shared_mode == reference::Shared::average && !layer.shared.empty() ? 0.5 : 1;
    const double scale = half * layer.routed_scale;
    OutputBound<T> bound(before);
    bound.add_terms(1, 0, layer.output_bias);
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        const auto e = static_cast<std::size_t>(choice.experts[slot]);
        const double w = choice.weights[slot];
        if (choice.experts[slot] == moe::no_expert) {
            continue;
        }
        if (e < layer.experts.size()) {
            bound.add_expert(layer.experts[e], layer.weight_at_input ? w : 1, scale * (layer.weight_at_input ? 1 : w),
                             0, x);
        } else if (!layer.mixes.empty() && e >= layer.n_experts() - layer.constants.size()) {
            const std::size_t constant = e - (layer.n_experts() - layer.constants.size());
            const Projection of_x(layer.mixes[constant], {}, 0, 1, x);
            const Projection of_constant(layer.mixes[constant], {}, 1, 1, x);
            const double share = reference::sigmoid(of_x.value - of_constant.value);
            // the slope of a sigmoid is at most 1/4; the difference of the two products rounds once more
            const double error = rounding_bound<T>(x.size() + 1, of_x.size + of_constant.size) / 4 +
                                 10 * static_cast<double>(std::numeric_limits<T>::epsilon());
            bound.add_terms(scale * w * share, std::abs(scale * w) * error, x);
            bound.add_terms(scale * w * (1 - share), std::abs(scale * w) * error, layer.constants[constant]);
        } else {
            reference::Vector term(x.size(), 0.0);
            reference::add_expert(layer, e, w, x, term);
            bound.add_terms(scale, 0, term);
        }
    }
    for (std::size_t s = 0; s < layer.shared.size(); ++s) {
        double weight = half;
        double error = 0;
        if (layer.shared_mode == reference::Shared::gated) {  // the slope of a sigmoid is at most 1/4
            const Projection gate(layer.shared_gate, {}, s, 1, x);
            weight = reference::sigmoid(gate.value);
            error = rounding_bound<T>(x.size(), gate.size) / 4 +
                    8 * weight * static_cast<double>(std::numeric_limits<T>::epsilon());
        }
        bound.add_expert(layer.shared[s], 1, weight, error, x);
    }
    return bound;
}

}  // namespace moe_test
