#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../../core/error.hpp"
#include "../../core/random.hpp"
#include "../backward.hpp"
#include "../gate.hpp"
#include "../gumbel.hpp"
#include "../selection.hpp"
#include "../strategies/threshold.hpp"
#include "adaptor.hpp"

namespace moe::inline MOE_ABI {

/// Another gate that reads (l + Gumbel) / temperature while it is trained, and l / temperature otherwise: the
/// Gumbel-softmax of dense-to-sparse gating (Nie et al. 2021, "EvoMoE: An evolutional mixture-of-experts training
/// framework via dense-to-sparse gate", 2112.14397). At a high temperature the weights are nearly equal and a Threshold
/// inside takes all experts; as it falls, one is left. See dense_to_sparse().
///
/// The noise belongs to (seed, step, position of the token, logit): the same in every batch and in the backward pass; a
/// training loop counts `step` up and takes the temperature from annealed_temperature().
template <class G>
struct Annealed {
    static_assert(detail::AdaptableSomewhere<G>, "Annealed: the gate inside must be a moe::TokenGate.");

    G gate{};
    double temperature = 1;
    bool training = true;  ///< with noise
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

    /// Throws Error(range): a temperature that is not positive and finite; else what the gate inside refuses.
    void validate(std::size_t n_experts) const {
        ensure(temperature > 0 && std::isfinite(temperature), ErrorCode::range, "Annealed: temperature is ",
               temperature, ", it must be positive and finite");
        detail::validate_inner("Annealed", gate, n_experts);
    }

    /// `logits` as the gate inside reads them. O(n_logits) beside it.
    template <std::floating_point T>
        requires detail::Adaptable<G, T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        if (!logits.empty()) {
            logits = noisy<T>(logits, context, detail::take_part(out, logits.size()));
        }
        return static_cast<int>(moe::select_token<T>(gate, logits, context, out));
    }

    /// See DifferentiableGate, gate_has_backward: the noise is drawn once more.
    [[nodiscard]] bool has_backward() const { return moe::gate_has_backward(gate); }
    template <std::floating_point T>
        requires detail::PassesGradient<G, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        if (logits.empty()) {
            return;
        }
        Chosen<T> rest = chosen;
        const std::span<const T> read = noisy<T>(logits, chosen.context, detail::take_part(rest, logits.size()));
        const std::span<T> d_read = detail::take_part(rest, logits.size());
        std::fill(d_read.begin(), d_read.end(), T(0));
        moe::gate_backward<T>(gate, read, rest, d_weights, d_read);
        for (std::size_t e = 0; e < d_read.size(); ++e) {
            d_logits[e] += static_cast<T>(static_cast<double>(d_read[e]) / temperature);
        }
    }

private:
    template <class T>
    [[nodiscard]] std::span<const T> noisy(std::span<const T> logits, TokenContext context, std::span<T> memory) const {
        const std::span<T> read = memory.first(logits.size());
        if (training) {
            const std::uint64_t stream = random_stream(random_stream(seed, step), context.position);
            moe::add_gumbel<T>(logits, stream, 0, temperature, read);
        } else {
            std::transform(logits.begin(), logits.end(), read.begin(),
                           [&](T l) { return static_cast<T>(static_cast<double>(l) / temperature); });
        }
        return read;
    }
};

template <class G>
inline constexpr bool detail::reads_logits_of_experts<Annealed<G>> = detail::reads_logits_of_experts<G>;

/// The gate of EvoMoE: experts with w = softmax((l + Gumbel) / temperature) above the threshold, the best one always.
[[nodiscard]] inline Annealed<Threshold<Softmax>> dense_to_sparse(double temperature, double threshold) {
    return {.gate = {.threshold = threshold, .keep_best = true}, .temperature = temperature};
}

/// A temperature that falls in equal steps from `first` to `last`, where it stays: that after `step` of `n_steps`.
/// Throws Error(range): a temperature that is not positive and finite.
[[nodiscard]] inline double annealed_temperature(double first, double last, std::uint64_t step, std::uint64_t n_steps) {
    ensure(first > 0 && last > 0 && std::isfinite(first) && std::isfinite(last), ErrorCode::range,
           "annealed_temperature: from ", first, " to ", last, "; both must be positive and finite");
    return step >= n_steps ? last : first + (last - first) * (static_cast<double>(step) / static_cast<double>(n_steps));
}

}  // namespace moe::inline MOE_ABI
