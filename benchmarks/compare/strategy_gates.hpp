#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include <moe/instantiate.hpp>

namespace compare {

/// A gate and the numbers that it views.
template <moe::TokenGate G, class Data>
struct Owning {
    G gate;
    std::shared_ptr<const Data> data;

    static constexpr bool needs_logits = moe::needs_logits(G{});

    [[nodiscard]] std::size_t max_per_token(int n_experts) const {
        return moe::gate_max_per_token(gate, 1, static_cast<std::size_t>(n_experts));
    }
    void validate(std::size_t n_experts) const { moe::validate_gate(gate, n_experts); }
    template <std::floating_point T>
    std::size_t select(std::span<const T> logits, moe::TokenContext context, moe::BasicSelection<T> out) const {
        return moe::select_token<T>(gate, logits, context, out);
    }
};

/// moe::NoisyTopK for a router that gives no logits of the noise: they are 0, as at the beginning of its training.
struct EvenNoise {
    moe::NoisyTopK gate{};

    [[nodiscard]] int max_per_token() const { return gate.max_per_token(); }
    void validate(std::size_t n_experts) const { gate.validate(n_experts); }
    template <std::floating_point T>
    int select(std::span<const T> logits, moe::TokenContext context, moe::BasicSelection<T> out) const {
        const std::span<T> both = out.scratch.last(2 * logits.size());
        std::fill(std::copy(logits.begin(), logits.end(), both.begin()), both.end(), T(0));
        out.scratch = out.scratch.first(out.scratch.size() - both.size());
        return gate.select(std::span<const T>(both), context, out);
    }
};

}  // namespace compare
