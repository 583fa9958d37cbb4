#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <span>

#include "../../core/float_environment.hpp"
#include "../../core/workspace.hpp"
#include "loss_call.hpp"
#include "variation.hpp"

namespace moe::inline MOE_ABI {

struct NoisyLoad {
    double coefficient = 1;  ///< Shazeer et al.: 0.1
    double scale = 1;
    bool unbiased = false;               ///< the variance divided by E - 1
    bool threshold_is_constant = false;  ///< else the gradient also flows to the expert whose H is the threshold
};

namespace detail {

/// Memory of the load loss of a batch of T.
template <class T>
struct LoadMemory {
    std::span<double> loads;     ///< (n_experts), then the gradients by them
    std::span<double> d_logits;  ///< (2 n_experts) of a token
    std::span<T> noisy;          ///< (n_experts)
    std::span<ExpertId> order;   ///< (n_experts)

    /// Returns the bytes.
    std::size_t lay_out(Arena arena, std::size_t n_experts) {
        loads = arena.take<double>(n_experts);
        d_logits = arena.take<double>(2 * n_experts);
        noisy = arena.take<T>(n_experts);
        order = arena.take<ExpertId>(n_experts);
        return arena.used();
    }
};

/// The gradient of sum over e of c_e P(e) of a token, c being memory.loads, into memory.d_logits: see add_noisy_load.
template <class T>
void chances_backward(const NoisyTopK& gate, std::span<const T> logits, std::uint64_t position,
                      bool threshold_is_constant, const LoadMemory<T>& memory) {
    const std::size_t n = memory.noisy.size();
    const auto k = static_cast<std::size_t>(gate.top_k);
    const std::uint64_t stream = random_stream(random_stream(gate.seed, gate.step), position);
    const auto best = memory.order.first(k + 1);
    const auto top = best.first(k);
    gate.add_noise(logits, position, memory.noisy);
    top_k<T>(memory.noisy, best);
    std::fill(memory.d_logits.begin(), memory.d_logits.end(), 0.0);
    for (std::size_t e = 0; e < n; ++e) {
        const double deviation = gate.deviation(logits, e);
        if (deviation == 0) {
            continue;  // a step, which has no gradient
        }
        const bool within = std::find(top.begin(), top.end(), static_cast<ExpertId>(e)) != top.end();
        const auto j = static_cast<std::size_t>(within ? best[k] : best[k - 1]);
        const double z = (static_cast<double>(logits[e]) - static_cast<double>(memory.noisy[j])) / deviation;
        const double density = std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi);
        const double slope = memory.loads[e] * density / deviation;
        memory.d_logits[e] += slope;
        memory.d_logits[n + e] -= slope * z * sigmoid(static_cast<double>(logits[n + e]));
        if (!threshold_is_constant) {
            memory.d_logits[j] -= slope;
            memory.d_logits[n + j] -= slope * random_normal(stream, j) * sigmoid(static_cast<double>(logits[n + j]));
        }
    }
}

}  // namespace detail

/// The load loss of Shazeer et al. 2017 (1701.06538, equations 8 to 11), of a tape of a NoisyTopK layer: the squared
/// coefficient of variation of sum over t of P(e among the top k of t), the other experts' noise being as it was drawn.
/// 0 at balance. `gate` is the one of the forward pass, `layer.router().gate()`: its noise is drawn once more from
/// seed, step, position and expert, so `step` must not have moved on. Returns the value without coefficient and scale.
/// Adds to tape.d_logits() (2 n_experts a token, l then n) coefficient * scale * (the derivative by the load of e)
/// times, where H_j of another expert j is the threshold of e, s = softplus(n) + least deviation and z = (l_e - H_j)
/// over s_e, phi is the normal density, sigma the sigmoid and eps_j the noise of j,
///
///     dl_e += phi(z) / s_e                        dl_j -= phi(z) / s_e
///     dn_e -= phi(z) / s_e * z sigma(n_e)         dn_j -= phi(z) / s_e * eps_j sigma(n_j)
///
/// the right ones unless threshold_is_constant. Nothing where P is a step: without training, or with k = n_experts. A
/// NaN logit of a token is in sums that all gradients are made of. Throws Error before anything is written: a tape that
/// is not recorded (state), without logits (missing), other than 2 logits an expert (shape), factors not finite
/// (range), whatever gate.validate refuses. Sums in double, ascending tokens. O(n_tokens n_experts top_k); allocates
/// nothing once `workspace` has grown.
template <class T>
double add_load(Tape<T>& tape, const NoisyTopK& gate, const NoisyLoad& options, Workspace& workspace) {
    constexpr const char* name = "add_load";
    const double factor = detail::confirm_loss(name, tape, options.coefficient, options.scale);
    const std::size_t n_experts = tape.plan().n_experts;
    detail::confirm_logits(name, tape, 2);
    gate.validate(n_experts);
    detail::LoadMemory<T> memory;
    const WorkspaceLease lease = workspace.lease(memory.lay_out({}, n_experts));
    memory.lay_out(lease.arena(), n_experts);
    const FloatEnvironment environment;
    std::fill(memory.loads.begin(), memory.loads.end(), 0.0);
    const MatrixView<const T> logits = tape.logits();
    for (std::size_t t = 0; t < logits.rows(); ++t) {
        if (tape.is_valid(t)) {
            moe::add_noisy_load<T>(gate, logits.row_span(t), tape.context(t).position, memory.noisy, memory.order,
                                   memory.loads);
        }
    }
    const double value = detail::variation_backward(options.unbiased, memory.loads);
    if (factor == 0 || !gate.training || static_cast<std::size_t>(gate.top_k) == n_experts) {
        return value;
    }
    for (std::size_t t = 0; t < logits.rows(); ++t) {
        if (!tape.is_valid(t)) {
            continue;
        }
        detail::chances_backward<T>(gate, logits.row_span(t), tape.context(t).position, options.threshold_is_constant,
                                    memory);
        const std::span<T> d_logits = tape.d_logits().row_span(t);
        for (std::size_t i = 0; i < d_logits.size(); ++i) {
            d_logits[i] += static_cast<T>(factor * memory.d_logits[i]);
        }
    }
    return value;
}

}  // namespace moe::inline MOE_ABI
