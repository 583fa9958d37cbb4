#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include "../../core/float_environment.hpp"
#include "z_loss.hpp"

namespace moe::inline MOE_ABI {

struct EntropyLoss {
    double coefficient = 1;  ///< Huang et al.: 1e-4; below 0 it spreads the choice instead
    double scale = 1;
};

/// The entropy of the router's choice, which a gate like TopP lets grow without bound: Huang et al. 2024 (2403.07652).
/// The mean over the T tokens that are no padding of H_t = -sum over e of p_te log p_te, p = softmax(l). log(E) for a
/// token without preference, 0 for one that is certain, whatever the balance. Returns it without coefficient and scale,
/// and adds to tape.d_logits() coefficient * scale times
///
///     -1 / T * p_te (log p_te + H_t)
///
/// A NaN among a token's logits makes the value NaN, and no other token's gradient. Throws Error before anything is
/// written, as add_z_loss does. Sums in double, ascending tokens. O(n_tokens n_experts), no allocation.
template <class T>
double add_entropy(Tape<T>& tape, const EntropyLoss& options) {
    const double factor = detail::confirm_loss("add_entropy", tape, options.coefficient, options.scale);
    detail::confirm_logits("add_entropy", tape);
    const FloatEnvironment environment;
    const double n_tokens = static_cast<double>(detail::n_valid(tape));
    double sum = 0;
    for (std::size_t t = 0; t < tape.logits().rows(); ++t) {
        if (!tape.is_valid(t)) {
            continue;
        }
        const std::span<const T> logits = tape.logits().row_span(t);
        const double z = detail::log_sum_exp(logits);
        double entropy = 0;
        for (const T l : logits) {
            const double log_p = static_cast<double>(l) - z;
            const double p = std::exp(log_p);
            entropy -= p == 0 ? 0 : p * log_p;  // else 0 * -infinity
        }
        sum += entropy;
        const std::span<T> d_logits = tape.d_logits().row_span(t);
        for (std::size_t e = 0; e < logits.size() && factor != 0; ++e) {
            const double log_p = static_cast<double>(logits[e]) - z;
            const double p = std::exp(log_p);
            d_logits[e] -= p == 0 ? T(0) : static_cast<T>(factor * (p * (log_p + entropy) / n_tokens));
        }
    }
    return n_tokens > 0 ? sum / n_tokens : 0;
}

}  // namespace moe::inline MOE_ABI
