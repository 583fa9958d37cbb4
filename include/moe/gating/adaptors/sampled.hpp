#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../../core/random.hpp"
#include "../backward.hpp"
#include "../gate.hpp"
#include "../gumbel.hpp"
#include "../selection.hpp"
#include "../weigh.hpp"
#include "adaptor.hpp"

namespace moe::inline MOE_ABI {

/// Another gate that draws its experts while it is trained: it chooses by l + Gumbel, so that every expert has its
/// chance, and weighs what it chose by l. A TokenChoice inside then draws its top_k from softmax(l), without
/// replacement. The gradient is that of the weights. With one expert, whose weight is its probability, its mean is the
/// gradient of the mean loss where the loss is linear in the weight: the part that a choice of the best leaves out.
///
///     moe::Sampled<moe::TokenChoice<>>{.gate = {.top_k = 1}, .training = true, .step = step}
///
/// The draws belong to (seed, step, position of the token, logit): the same in every batch and in the backward pass; a
/// training loop counts `step` up.
template <class G>
struct Sampled {
    static_assert(WeighingGate<G, float> || WeighingGate<G, double>,
                  "Sampled: the gate inside must be a moe::TokenGate with the member `weigh` (moe::WeighingGate).");

    G gate{};
    bool training = true;  ///< otherwise it is the gate inside
    std::uint64_t seed = 0;
    std::uint64_t step = 0;

    static constexpr bool needs_logits = detail::reads_logits<G>;

    [[nodiscard]] std::size_t n_experts(int n_logits) const {
        return moe::gate_n_experts(gate, static_cast<std::size_t>(n_logits));
    }
    [[nodiscard]] std::size_t max_per_token(int n_experts) const {
        return moe::gate_max_per_token(gate, 1, static_cast<std::size_t>(n_experts));
    }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const { return moe::gate_overlapped(gate, memory); }

    /// Throws what the gate inside refuses.
    void validate(std::size_t n_experts) const { detail::validate_inner("Sampled", gate, n_experts); }

    /// `logits` as the gate inside reads them. O(n_logits) beside it.
    template <std::floating_point T>
        requires WeighingGate<G, T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        if (!training || logits.empty()) {
            return static_cast<int>(moe::select_token<T>(gate, logits, context, out));
        }
        const std::span<T> noisy = detail::take_part(out, logits.size()).first(logits.size());
        moe::add_gumbel<T>(logits, random_stream(random_stream(seed, step), context.position), 0, 1, noisy);
        const std::size_t count = moe::select_token<T>(gate, noisy, context, out);
        moe::weigh_experts<T>(gate, logits, out.experts.first(count), out);
        return static_cast<int>(count);
    }

    /// As the gate inside weighs.
    template <std::floating_point T>
        requires WeighingGate<G, T>
    void weigh(std::span<const T> logits, std::span<const ExpertId> experts, BasicSelection<T> out) const {
        moe::weigh_experts<T>(gate, logits, experts, out);
    }

    /// See DifferentiableGate, gate_has_backward.
    [[nodiscard]] bool has_backward() const { return moe::gate_has_backward(gate); }
    template <std::floating_point T>
        requires detail::PassesGradient<G, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        moe::gate_backward<T>(gate, logits, chosen, d_weights, d_logits);
    }
};

template <class G>
inline constexpr bool detail::reads_logits_of_experts<Sampled<G>> = detail::reads_logits_of_experts<G>;

}  // namespace moe::inline MOE_ABI
