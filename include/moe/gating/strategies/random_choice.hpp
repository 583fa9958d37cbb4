#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>

#include "../../core/random.hpp"
#include "../backward.hpp"
#include "../check_settings.hpp"
#include "../selection.hpp"

namespace moe::inline MOE_ABI {

/// `top_k` distinct experts drawn at random, each with weight 1 / top_k: the baseline that a trained router must beat;
/// trained with it, THOR (Zuo et al. 2021, 2110.04260). A token's experts depend on `seed` and its position alone
/// (core/random.hpp), not on the thread, the batch or the call: draw number position * top_k + slot, modulo the experts
/// left, chooses among those left; the first of them then takes the place of the one chosen (Fisher and Yates). Layers
/// that shall differ need different seeds.
struct RandomChoice {
    int top_k = 1;
    std::uint64_t seed = 0;

    static constexpr bool needs_logits = false;

    [[nodiscard]] int max_per_token() const { return top_k; }

    /// Throws Error(range): top_k outside 1..n_experts.
    void validate(std::size_t n_experts) const { detail::check_top_k("RandomChoice", top_k, n_experts); }

    /// Reads no logits. O(n_experts).
    template <std::floating_point T>
    int select(std::span<const T> /*logits*/, TokenContext context, BasicSelection<T> out) const {
        const auto k = static_cast<std::size_t>(top_k);
        std::iota(out.order.begin(), out.order.end(), ExpertId{0});
        for (std::size_t slot = 0; slot < k; ++slot) {
            const std::uint64_t left = out.order.size() - slot;
            const std::uint64_t draw = random_bits(seed, context.position * k + slot) % left;
            out.experts[slot] = std::exchange(out.order[slot + draw], out.order[slot]);
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
