#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <numbers>
#include <type_traits>

#include "../kernels/math.hpp"

namespace moe::inline MOE_ABI {

/// Activation functions as types: copy one to add another. An activation is a default-constructible struct with a
/// `const` call operator from a value to the same type, written once for scalars and vectors with the functions of
/// moe::math.
///
/// One written for scalars alone also works; it is called lane by lane. Its operator must say so in its declaration: no
/// template, or one that is constrained (`requires std::is_floating_point_v<V>`). An unconstrained template is taken
/// at its word and given vectors, and a vector decides nothing: `x > 0 ? x : a * x` or `if (x > 0)` in it does not
/// compile. Write such a choice as math::select(x > math::constant<V>(0), x, V(math::constant<V>(a) * x)), which works
/// out both sides, or constrain the operator.

/// max(x, 0).
struct Relu {
    template <class V>
    [[nodiscard]] V operator()(const V& x) const noexcept {
        return math::at_least(x, 0.0);
    }
};

/// max(x, 0)^2 (So et al. 2021, "Primer").
struct ReluSquared {
    template <class V>
    [[nodiscard]] V operator()(const V& x) const noexcept {
        const V positive = math::at_least(x, 0.0);
        return positive * positive;
    }
};

struct SigmoidActivation {
    template <class V>
    [[nodiscard]] V operator()(const V& x) const noexcept {
        return math::sigmoid(x);
    }
};

/// x * sigmoid(x) (Elfwing et al. 2017; Ramachandran et al. 2017 call it Swish).
struct Silu {
    template <class V>
    [[nodiscard]] V operator()(const V& x) const noexcept {
        return x * math::sigmoid(x);
    }
};

/// x/2 * (1 + erf(x / sqrt 2)) (Hendrycks, Gimpel 2016).
struct Gelu {
    template <class V>
    [[nodiscard]] V operator()(const V& x) const noexcept {
        const V half = math::constant<V>(0.5);
        return half * x * (math::constant<V>(1) + math::erf(V(x * math::constant<V>(1 / std::numbers::sqrt2))));
    }
};

/// x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))): the approximation of the same paper.
struct GeluTanh {
    template <class V>
    [[nodiscard]] V operator()(const V& x) const noexcept {
        constexpr double slope = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
        const V cubic = x + math::constant<V>(0.044715) * x * x * x;
        return math::constant<V>(0.5) * x * (math::constant<V>(1) + math::tanh(V(math::constant<V>(slope) * cubic)));
    }
};

/// x: a plain expert is then the product of two matrices. With few hidden values routed experts of this kind are the
/// adapters of a mixture of LoRA (Zadouri et al. 2023, 2309.05444), beside the network they adapt as a shared expert.
struct IdentityActivation {
    template <class V>
    [[nodiscard]] V operator()(const V& x) const noexcept {
        return x;
    }
};

namespace detail {

template <class Activation, class V>
concept KnowsVectors = requires(const Activation& activation, const V& x) {
    { activation(x) } -> std::same_as<V>;
};

}  // namespace detail

/// activation(x), lane by lane where the activation only knows scalars.
template <class Activation, class V>
[[nodiscard]] MOE_ALWAYS_INLINE V activate(const Activation& activation, const V& x) {
    if constexpr (!is_vector<V>) {
        return static_cast<V>(activation(x));
    } else if constexpr (detail::KnowsVectors<Activation, V>) {
        return activation(x);
    } else {
        using T = math::Scalar<V>;
        std::array<T, lanes<T>> values;
        store(values.data(), x);
        for (T& value : values) {
            value = static_cast<T>(activation(value));
        }
        return load(values.data());
    }
}

}  // namespace moe::inline MOE_ABI
