#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>

#include "../../core/float_environment.hpp"
#include "loss_call.hpp"

namespace moe::inline MOE_ABI {

struct ZLoss {
    double coefficient = 1;  ///< ST-MoE: 1e-3
    double scale = 1;
};

namespace detail {

/// log sum over e of exp(l_e).
template <class T>
[[nodiscard]] double log_sum_exp(std::span<const T> logits) {
    double max = -std::numeric_limits<double>::infinity();
    for (const T l : logits) {
        max = static_cast<double>(l) > max ? static_cast<double>(l) : max;
    }
    double sum = 0;
    for (const T l : logits) {
        sum += std::exp(static_cast<double>(l) - max);
    }
    return max + std::log(sum);
}

}  // namespace detail

/// The z-loss of ST-MoE (Zoph et al. 2022, 2202.08906, equation 5), which keeps logits small: the mean over the T
/// tokens that are no padding of z_t^2, z_t = log sum over e of exp(l_te). log(E)^2 for logits of 0, whatever the
/// balance. Returns it without coefficient and scale, and adds to tape.d_logits() coefficient * scale times
///
///     2 / T * z_t * softmax(l_t)_e
///
/// A NaN among a token's logits makes the value NaN, and no other token's gradient. Throws Error before anything is
/// written: a tape that is not recorded (state), without logits (missing), other than one logit an expert (shape),
/// factors that are not finite (range). Sums in double, ascending tokens. O(n_tokens n_experts), no allocation.
template <class T>
double add_z_loss(Tape<T>& tape, const ZLoss& options) {
    const double factor = detail::confirm_loss("add_z_loss", tape, options.coefficient, options.scale);
    detail::confirm_logits("add_z_loss", tape);
    const FloatEnvironment environment;
    const double n_tokens = static_cast<double>(detail::n_valid(tape));
    double sum = 0;
    for (std::size_t t = 0; t < tape.logits().rows(); ++t) {
        if (!tape.is_valid(t)) {
            continue;
        }
        const std::span<const T> logits = tape.logits().row_span(t);
        const double z = detail::log_sum_exp(logits);
        sum += z * z;
        const std::span<T> d_logits = tape.d_logits().row_span(t);
        for (std::size_t e = 0; e < logits.size() && factor != 0; ++e) {
            const double p = std::exp(static_cast<double>(logits[e]) - z);
            d_logits[e] += static_cast<T>(factor * (2 * z / n_tokens * p));
        }
    }
    return n_tokens > 0 ? sum / n_tokens : 0;
}

}  // namespace moe::inline MOE_ABI
