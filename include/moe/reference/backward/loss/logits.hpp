#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "../../routing.hpp"
#include "load_balance.hpp"

/// Losses of the logits by themselves, without their coefficients, of the valid tokens.
namespace moe::inline MOE_ABI::reference {

/// log sum over e of exp(l_e).
[[nodiscard]] inline double log_sum_exp(const Vector& logits) {
    double max = -std::numeric_limits<double>::infinity();
    for (const double l : logits) {
        max = l > max ? l : max;
    }
    double sum = 0;
    for (const double l : logits) {
        sum += std::exp(l - max);
    }
    return max + std::log(sum);
}

/// The mean over the tokens of (log sum exp l)^2: ST-MoE (Zoph et al. 2022, 2202.08906, equation 5).
[[nodiscard]] inline LogitLoss z_loss(const std::vector<Vector>& logits) {
    const double n_tokens = static_cast<double>(logits.size());
    LogitLoss result;
    for (const Vector& token : logits) {
        const double z = log_sum_exp(token);
        Vector dl = softmax(token);
        for (double& d : dl) {
            d *= 2 * z / n_tokens;
        }
        result.value += z * z / n_tokens;
        result.d_logits.push_back(dl);
    }
    return result;
}

/// The L1 loss of ReMoE (Wang et al. 2024, 2412.14711), E / (K T^2) * sum over e of n_e * sum over t of relu(l_te);
/// `counts` (n_experts) of the experts whose logits are positive, `top_k` the number a token shall have.
[[nodiscard]] inline LogitLoss l1_loss(const std::vector<Vector>& logits, const Vector& counts, double top_k,
                                       double n_tokens) {
    const double factor = static_cast<double>(counts.size()) / (top_k * n_tokens * n_tokens);
    LogitLoss result;
    for (const Vector& token : logits) {
        Vector dl(token.size(), 0.0);
        for (std::size_t e = 0; e < token.size(); ++e) {
            if (token[e] > 0) {
                result.value += factor * counts[e] * token[e];
                dl[e] = factor * counts[e];
            }
        }
        result.d_logits.push_back(dl);
    }
    return result;
}

/// The mean over the tokens of the entropy of the softmax, -sum of p log p: Huang et al. 2024 (2403.07652).
[[nodiscard]] inline LogitLoss entropy_loss(const std::vector<Vector>& logits) {
    const double n_tokens = static_cast<double>(logits.size());
    LogitLoss result;
    for (const Vector& token : logits) {
        const Vector p = softmax(token);
        const double z = log_sum_exp(token);
        double entropy = 0;
        for (std::size_t e = 0; e < p.size(); ++e) {
            entropy -= p[e] == 0 ? 0 : p[e] * (token[e] - z);
        }
        Vector dl(p.size(), 0.0);
        for (std::size_t e = 0; e < p.size(); ++e) {
            dl[e] = p[e] == 0 ? 0 : -p[e] * (token[e] - z + entropy) / n_tokens;
        }
        result.value += entropy / n_tokens;
        result.d_logits.push_back(dl);
    }
    return result;
}

}  // namespace moe::inline MOE_ABI::reference
