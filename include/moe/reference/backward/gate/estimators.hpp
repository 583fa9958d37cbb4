#pragma once

#include <cstddef>

#include "../../strategies/gumbel.hpp"
#include "gate.hpp"

/// Gradients of gates that draw. Of `sampled` and `straight_through` it is gate_backward(rule, logits, ...) for the
/// experts they chose.
namespace moe::inline MOE_ABI::reference {

/// Of route(rule, noisy), noisy = gumbel_logits(logits, ..., temperature): the noise is a constant.
[[nodiscard]] inline Vector annealed_backward(const TokenChoiceRule& rule, const Vector& noisy, double temperature,
                                              const Choice& choice, const Vector& d_weights) {
    Vector dl = gate_backward(rule, noisy, choice, d_weights);
    for (double& d : dl) {
        d /= temperature;
    }
    return dl;
}

/// J(p) g, with g the gradient by each entry of the one-hot vector that was drawn from p = softmax(l).
[[nodiscard]] inline Vector straight_through_backward(const Vector& logits, const Vector& g) {
    return softmax_backward(softmax(logits), g);
}

/// 2 J((softmax(l / temperature) + D) / 2) g - J(p) g / 2, with D the one-hot vector of `drawn`.
[[nodiscard]] inline Vector reinmax_backward(const Vector& logits, std::size_t drawn, double temperature,
                                             const Vector& g) {
    Vector middle = logits;
    for (double& l : middle) {
        l /= temperature;
    }
    middle = softmax(middle);
    for (std::size_t e = 0; e < middle.size(); ++e) {
        middle[e] = (middle[e] + (e == drawn ? 1 : 0)) / 2;
    }
    Vector dl = softmax_backward(middle, g);
    const Vector of_softmax = softmax_backward(softmax(logits), g);
    for (std::size_t e = 0; e < dl.size(); ++e) {
        dl[e] = 2 * dl[e] - of_softmax[e] / 2;
    }
    return dl;
}

}  // namespace moe::inline MOE_ABI::reference
