#pragma once

#include <cmath>
#include <type_traits>

#include "simd.hpp"

namespace moe::inline MOE_ABI {

/// Functions for activations, over a scalar (float, double) or a Vector of them. NaN goes in, NaN comes out.
namespace math {

template <class V>
struct ScalarOf {
    using type = V;
};
template <class T, class Arch>
struct ScalarOf<xsimd::batch<T, Arch>> {
    using type = T;
};
template <class V>
using Scalar = typename ScalarOf<V>::type;

/// A constant of the type of V.
template <class V>
[[nodiscard]] MOE_ALWAYS_INLINE V constant(double value) noexcept {
    return V(static_cast<Scalar<V>>(value));
}

template <class V>
[[nodiscard]] MOE_ALWAYS_INLINE V exp(const V& x) noexcept {
    using std::exp;
    using xsimd::exp;
    return exp(x);
}

template <class V>
[[nodiscard]] MOE_ALWAYS_INLINE V tanh(const V& x) noexcept {
    using std::tanh;
    using xsimd::tanh;
    return tanh(x);
}

template <class V>
[[nodiscard]] MOE_ALWAYS_INLINE V erf(const V& x) noexcept {
    using std::erf;
    using xsimd::erf;
    return erf(x);
}

template <class V>
[[nodiscard]] MOE_ALWAYS_INLINE V sqrt(const V& x) noexcept {
    using std::sqrt;
    using xsimd::sqrt;
    return sqrt(x);
}

/// `yes` where `condition`, else `no`; written out because min and max of NaN differ between versions of xsimd.
template <class Condition, class V>
[[nodiscard]] MOE_ALWAYS_INLINE V select(const Condition& condition, const V& yes, const V& no) noexcept {
    if constexpr (is_vector<V>) {
        return xsimd::select(condition, yes, no);
    } else {
        return condition ? yes : no;
    }
}

/// min(x, limit), NaN where x is NaN.
template <class V>
[[nodiscard]] MOE_ALWAYS_INLINE V at_most(const V& x, double limit) noexcept {
    const V bound = constant<V>(limit);
    return math::select(x > bound, bound, x);
}

/// max(x, limit), NaN where x is NaN.
template <class V>
[[nodiscard]] MOE_ALWAYS_INLINE V at_least(const V& x, double limit) noexcept {
    const V bound = constant<V>(limit);
    return math::select(x < bound, bound, x);
}

/// 1 / (1 + e^-x). Saturates to 0 and 1: e^-x becomes infinite only where the result
/// is below the smallest normal number.
template <class V>
[[nodiscard]] MOE_ALWAYS_INLINE V sigmoid(const V& x) noexcept {
    const V one = constant<V>(1);
    return one / (one + math::exp(V(-x)));
}

}  // namespace math

}  // namespace moe::inline MOE_ABI
