#pragma once

#include <cstddef>

#include "../../strategies/product_keys.hpp"
#include "scores.hpp"

namespace moe::inline MOE_ABI::reference {

/// Of product_keys: the gradient of both halves of the logits (2n); the logit of expert i n + j is the sum of one each.
[[nodiscard]] inline Vector product_keys_backward(const Vector& logits, const Choice& choice, bool relu,
                                                  const Vector& d_weights) {
    const std::size_t n = logits.size() / 2;
    const Vector of_softmax = softmax_backward(choice.weights, d_weights);
    Vector dl(logits.size(), 0.0);
    for (std::size_t slot = 0; slot < choice.experts.size(); ++slot) {
        const auto e = static_cast<std::size_t>(choice.experts[slot]);
        const double sum = logits[e / n] + logits[n + e % n];
        const double d = relu ? score_slope(Score::relu, sum) * d_weights[slot] : of_softmax[slot];
        dl[e / n] += d;
        dl[n + e % n] += d;
    }
    return dl;
}

}  // namespace moe::inline MOE_ABI::reference
