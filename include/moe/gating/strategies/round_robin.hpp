#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../backward.hpp"
#include "../check_settings.hpp"
#include "../selection.hpp"

namespace moe::inline MOE_ABI {

/// The experts in turn, `top_k` a token, each with weight 1 / top_k: expert (position * top_k + slot) mod n_experts. A
/// baseline that knows nothing of the token and balances perfectly: any n_experts tokens on end give every expert
/// top_k.
struct RoundRobin {
    int top_k = 1;

    static constexpr bool needs_logits = false;

    [[nodiscard]] int max_per_token() const { return top_k; }

    /// Throws Error(range): top_k outside 1..n_experts.
    void validate(std::size_t n_experts) const { detail::check_top_k("RoundRobin", top_k, n_experts); }

    /// Reads no logits. O(top_k).
    template <std::floating_point T>
    int select(std::span<const T> /*logits*/, TokenContext context, BasicSelection<T> out) const {
        const std::uint64_t n_experts = out.order.size();
        const auto k = static_cast<std::size_t>(top_k);
        // Reduced first: position * k need not fit. Both factors are then below 2^31.
        const std::uint64_t first = context.position % n_experts * k;
        for (std::size_t slot = 0; slot < k; ++slot) {
            out.experts[slot] = static_cast<ExpertId>((first + slot) % n_experts);
        }
        std::fill_n(out.weights.begin(), k, T(1) / static_cast<T>(k));
        return top_k;
    }

    /// See DifferentiableGate: the weights are constants, nobody learns.
    template <std::floating_point T>
    void backward(std::span<const T> /*logits*/, const Chosen<T>& /*chosen*/, std::span<const T> /*d_weights*/,
                  std::span<T> /*d_logits*/) const {}
};

}  // namespace moe::inline MOE_ABI
