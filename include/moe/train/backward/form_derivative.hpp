#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <numbers>
#include <type_traits>

#include "../../experts/any_form.hpp"

namespace moe::inline MOE_ABI {

/// What an activation's own derivative is asked for: a member `V derivative(const V& x) const`, written as its call
/// operator is. That of the activations here stands below, so that inference does not carry it. At a kink it is what
/// PyTorch takes: relu'(0) = 0.
template <class Activation, class T>
concept DifferentiableActivation = requires(const Activation& activation, const T& x) {
    { activation.derivative(x) } -> std::convertible_to<T>;
};

namespace detail {

template <class V>
[[nodiscard]] V one() {
    return math::constant<V>(1);
}

template <class V>
[[nodiscard]] V derivative_of(const Relu&, const V& x) {
    const V zero = math::constant<V>(0);
    return math::select(x > zero, one<V>(), math::select(x <= zero, zero, x));  // NaN stays
}
template <class V>
[[nodiscard]] V derivative_of(const ReluSquared&, const V& x) {
    return math::constant<V>(2) * math::at_least(x, 0.0);
}
template <class V>
[[nodiscard]] V derivative_of(const SigmoidActivation&, const V& x) {
    const V s = math::sigmoid(x);
    return s * (one<V>() - s);
}
template <class V>
[[nodiscard]] V derivative_of(const Silu&, const V& x) {
    const V s = math::sigmoid(x);
    return s * (one<V>() + x * (one<V>() - s));
}
template <class V>
[[nodiscard]] V derivative_of(const IdentityActivation&, const V&) {
    return one<V>();
}
/// Phi(x) + x phi(x), the normal distribution and its density.
template <class V>
[[nodiscard]] V derivative_of(const Gelu&, const V& x) {
    const V half = math::constant<V>(0.5);
    const V distribution = half * (one<V>() + math::erf(V(x * math::constant<V>(1 / std::numbers::sqrt2))));
    constexpr double top = std::numbers::inv_sqrtpi / std::numbers::sqrt2;
    return distribution + x * math::constant<V>(top) * math::exp(V(-half * x * x));
}
template <class V>
[[nodiscard]] V derivative_of(const GeluTanh&, const V& x) {
    constexpr double slope = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
    const V half = math::constant<V>(0.5);
    const V cubic = x + math::constant<V>(0.044715) * x * x * x;
    const V t = math::tanh(V(math::constant<V>(slope) * cubic));
    return half * (one<V>() + t) + half * x * (one<V>() - t * t) * math::constant<V>(slope) *
                                       (one<V>() + math::constant<V>(3 * 0.044715) * x * x);
}

/// The derivative of an activation of the user's, lane by lane where it only knows scalars.
template <class Activation, class V>
    requires DifferentiableActivation<Activation, math::Scalar<V>>
[[nodiscard]] V derivative_of(const Activation& activation, const V& x) {
    if constexpr (!is_vector<V>) {
        return static_cast<V>(activation.derivative(x));
    } else if constexpr (requires {
                             { activation.derivative(x) } -> std::same_as<V>;
                         }) {
        return activation.derivative(x);
    } else {
        using T = math::Scalar<V>;
        std::array<T, lanes<T>> values;
        store(values.data(), x);
        for (T& value : values) {
            value = static_cast<T>(activation.derivative(value));
        }
        return load(values.data());
    }
}

template <class Activation, class V>
concept HasDerivative = requires(const Activation& activation, const V& x) {
    detail::derivative_of(activation, x);
};

/// The derivative of an activation, or one sentence that says what to write.
template <class Activation, class V>
[[nodiscard]] V differentiate(const Activation& activation, const V& x) {
    static_assert(HasDerivative<Activation, V>,
                  "this activation has no derivative: write `V derivative(const V& x) const` beside its call operator");
    if constexpr (HasDerivative<Activation, V>) {
        return detail::derivative_of(activation, x);
    } else {
        return x;
    }
}

}  // namespace detail

/// What a form gives for one hidden value, and what that changes by with each of its projections.
template <class V>
struct FormDerivative {
    V value;
    V by_gate;  ///< 0 of a plain form
    V by_up;
};

/// Of a gated form at (gate, up); of a plain one at `up`, whatever `gate` is. Clamps pass the gradient at equality.
template <class Activation, class V>
[[nodiscard]] FormDerivative<V> differentiate(const Gated<Activation>& form, const V& gate, const V& up) {
    return {form(gate, up), detail::differentiate(form.activation, gate) * up, moe::activate(form.activation, gate)};
}
template <class Activation, class V>
[[nodiscard]] FormDerivative<V> differentiate(const Plain<Activation>& form, const V&, const V& up) {
    return {form(up), math::constant<V>(0), detail::differentiate(form.activation, up)};
}

namespace detail {

/// `value` where a clamp lets x through, else 0.
template <class V>
[[nodiscard]] V where_inside(const V& x, double low, double high, const V& value) {
    const V zero = math::constant<V>(0);
    const V below = math::select(x > math::constant<V>(high), zero, value);
    return math::select(x < math::constant<V>(low), zero, below);
}
template <class V>
[[nodiscard]] V where_at_most(const V& x, double high, const V& value) {
    return math::select(x > math::constant<V>(high), math::constant<V>(0), value);
}

}  // namespace detail

template <class V>
[[nodiscard]] FormDerivative<V> differentiate(const SwiGLUOai& form, const V& gate, const V& up) {
    const V alpha = math::constant<V>(form.alpha);
    const V one = detail::one<V>();
    const V g = math::at_most(gate, form.limit);
    const V u = math::at_least(math::at_most(up, form.limit), -form.limit);
    const V s = math::sigmoid(V(alpha * g));
    return {form(gate, up), detail::where_at_most(gate, form.limit, V((u + one) * s * (one + alpha * g * (one - s)))),
            detail::where_inside(up, -form.limit, form.limit, V(g * s))};
}
template <class Activation, class V>
[[nodiscard]] FormDerivative<V> differentiate(const ClampedBefore<Activation>& form, const V& gate, const V& up) {
    const V g = math::at_most(gate, form.limit);
    const V u = math::at_least(math::at_most(up, form.limit), -form.limit);
    return {form(gate, up), detail::where_at_most(gate, form.limit, V(u * detail::differentiate(form.activation, g))),
            detail::where_inside(up, -form.limit, form.limit, moe::activate(form.activation, g))};
}
template <class Activation, class V>
[[nodiscard]] FormDerivative<V> differentiate(const ClampedAfter<Activation>& form, const V& gate, const V& up) {
    const V a = moe::activate(form.activation, gate);
    const V u = math::at_least(math::at_most(up, form.limit), -form.limit);
    return {form(gate, up), detail::where_at_most(a, form.limit, V(u * detail::differentiate(form.activation, gate))),
            detail::where_inside(up, -form.limit, form.limit, math::at_most(a, form.limit))};
}

}  // namespace moe::inline MOE_ABI
