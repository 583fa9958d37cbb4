#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../../core/error.hpp"
#include "../../core/random.hpp"
#include "../backward_rules.hpp"
#include "../check_settings.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// Noisy top-k gating: Shazeer et al. 2017 (1701.06538), eq. 3 to 5. The router gives 2 E logits for E experts, first
/// the clean ones l = x W_g, then n = x W_noise:
///
///     H = l + N(0, 1) (softplus(n) + 0.01)    while training, otherwise H = l
///     chosen = top_k of H                     descending, ties to the lower expert, NaN last
///     w = softmax of H over the chosen
///
/// The normal numbers belong to (seed, step, position of the token, expert): a token gets the same ones in every batch,
/// and a training loop counts `step` up to get others. O(n_experts + h top_k) a token, h insertions as in top_k.hpp.
struct NoisyTopK {
    int top_k = 2;
    bool training = true;
    double least_deviation = 1e-2;  ///< added to softplus(n): not in eq. 4, but in the authors' code (Tensor2Tensor)
    std::uint64_t seed = 0;
    std::uint64_t step = 0;

    [[nodiscard]] int max_per_token() const { return top_k; }

    /// Half of the logits. Throws Error(shape): their number is odd.
    [[nodiscard]] static int n_experts(int n_logits) {
        ensure(n_logits % 2 == 0, ErrorCode::shape, "NoisyTopK: it reads 2 logits an expert, the router gives ",
               n_logits);
        return n_logits / 2;
    }

    /// Throws Error(range): top_k outside 1..n_experts, a least deviation negative or not finite.
    void validate(std::size_t n_experts) const {
        detail::check_top_k("NoisyTopK", top_k, n_experts);
        ensure(least_deviation >= 0 && std::isfinite(least_deviation), ErrorCode::range,
               "NoisyTopK: least_deviation is ", least_deviation, ", it must be finite and not negative");
    }

    /// `logits` (2 n_experts).
    template <std::floating_point T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        const std::span<T> noisy = out.scratch.first(logits.size() / 2);
        add_noise(logits, context.position, noisy);
        const std::span<ExpertId> chosen = out.experts.first(static_cast<std::size_t>(top_k));
        detail::top_k<T>(noisy, chosen);
        const std::span<T> weights = out.weights.first(chosen.size());
        for (std::size_t slot = 0; slot < chosen.size(); ++slot) {
            weights[slot] = noisy[static_cast<std::size_t>(chosen[slot])];
        }
        Softmax{}(std::span<const T>(weights), weights);
        return top_k;
    }

    /// See DifferentiableGate: the noise is drawn once more.
    template <std::floating_point T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        const std::size_t n = logits.size() / 2;
        const std::span<T> noisy = chosen.scratch.first(n);
        const std::span<T> d_noisy = chosen.scratch.subspan(n, n);
        Chosen<T> rest = chosen;
        rest.scratch = chosen.scratch.subspan(2 * n);
        add_noise(logits, chosen.context.position, noisy);
        std::fill(d_noisy.begin(), d_noisy.end(), T(0));
        moe::weigh_selected_backward<T>(Softmax{}, Normalize::none(), 1, noisy, rest, d_weights, d_noisy);
        const std::uint64_t stream = random_stream(random_stream(seed, step), chosen.context.position);
        for (std::size_t e = 0; e < n; ++e) {
            d_logits[e] += d_noisy[e];
            if (training && d_noisy[e] != 0) {
                const double slope = random_normal(stream, e) * detail::sigmoid(static_cast<double>(logits[n + e]));
                d_logits[n + e] += static_cast<T>(static_cast<double>(d_noisy[e]) * slope);
            }
        }
    }

    /// H of one token (n_experts), from its logits (2 n_experts). Computed in double, rounded once.
    template <std::floating_point T>
    void add_noise(std::span<const T> logits, std::uint64_t position, std::span<T> noisy) const {
        const std::uint64_t stream = random_stream(random_stream(seed, step), position);
        for (std::size_t e = 0; e < noisy.size(); ++e) {
            noisy[e] =
                training
                    ? static_cast<T>(static_cast<double>(logits[e]) + random_normal(stream, e) * deviation(logits, e))
                    : logits[e];
        }
    }

    /// softplus(n_e) + least_deviation: the standard deviation of the noise of expert e.
    template <std::floating_point T>
    [[nodiscard]] double deviation(std::span<const T> logits, std::size_t e) const {
        return detail::softplus(static_cast<double>(logits[logits.size() / 2 + e])) + least_deviation;
    }
};

}  // namespace moe::inline MOE_ABI
