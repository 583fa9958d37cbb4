#pragma once

#include <cstddef>

#include "../expert.hpp"
#include "../gate/scores.hpp"
#include "../linear.hpp"

namespace moe::inline MOE_ABI::reference {

/// Of y = w constant: adds w dy to the gradient of the constant.
[[nodiscard]] inline ChoiceGradient backward_constant(const Vector& constant, double w, const Vector& dy,
                                                      Vector& d_constant) {
    add_scaled(d_constant, w, dy);
    return {dot(constant, dy), Vector(dy.size(), 0.0)};
}

/// Of y = w (a1 x + a2 constant), [a1, a2] = softmax(mix x): adds the gradients of the constant and of the mix.
[[nodiscard]] inline ChoiceGradient backward_mixed(const Vector& constant, const Vector& mix, double w, const Vector& x,
                                                   const Vector& dy, Vector& d_constant, Vector& d_mix) {
    const Vector shares = softmax(linear(mix, {}, x, 2));
    const Vector d_shares{w * dot(x, dy), w * dot(constant, dy)};
    Vector no_bias;
    ChoiceGradient result{shares[0] * dot(x, dy) + shares[1] * dot(constant, dy), Vector(x.size(), 0.0)};
    add_scaled(result.x, w * shares[0], dy);
    add_scaled(result.x, 1, linear_backward(mix, x, softmax_backward(shares, d_shares), d_mix, no_bias));
    add_scaled(d_constant, w * shares[1], dy);
    return result;
}

}  // namespace moe::inline MOE_ABI::reference
