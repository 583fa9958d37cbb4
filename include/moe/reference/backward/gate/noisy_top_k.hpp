#pragma once

#include <cstddef>
#include <cstdint>

#include "../../strategies/noisy_top_k.hpp"
#include "gate.hpp"

namespace moe::inline MOE_ABI::reference {

/// From the gradient of H, the logits with noise, to that of the clean logits and of the deviations (2 n_experts): the
/// normal numbers are constants.
[[nodiscard]] inline Vector noisy_logits_backward(const Vector& logits, std::uint64_t seed, std::uint64_t step,
                                                  std::uint64_t position, const Vector& dh) {
    const std::size_t n_experts = dh.size();
    Vector dl(2 * n_experts, 0.0);
    for (std::size_t e = 0; e < n_experts; ++e) {
        const double normal = random_normal(random_stream(random_stream(seed, step), position), e);
        dl[e] = dh[e];
        dl[n_experts + e] = dh[e] * normal * sigmoid(logits[n_experts + e]);
    }
    return dl;
}

/// Of choose_top_k: the gradient of H (n_experts).
[[nodiscard]] inline Vector choose_top_k_backward(const Vector& h, const Choice& choice, const Vector& d_weights) {
    return gate_backward({.weight_from = Source::softmax_of_selected}, h, choice, d_weights);
}

}  // namespace moe::inline MOE_ABI::reference
