#pragma once

#include <cmath>
#include <cstddef>

#include "../../routing.hpp"
#include "../linear.hpp"

namespace moe::inline MOE_ABI::reference {

/// The derivative of divisor(rule, c) by each of the weights. A maximum belongs to the first that reaches it, a sum at
/// its minimum still moves, |c| has the derivative 0 at 0.
[[nodiscard]] inline Vector divisor_slopes(const TokenChoiceRule& rule, const Vector& c) {
    const double n = divisor(rule, c);
    double sum = 0;
    for (const double weight : c) {
        sum += weight;
    }
    bool found = false;  // the greatest
    Vector slopes(c.size(), 0.0);
    for (std::size_t i = 0; i < c.size(); ++i) {
        const double sign = c[i] < 0 ? -1 : 1;
        if (rule.norm == Norm::sum || (rule.norm == Norm::clamped_sum && !(sum < rule.norm_value))) {
            slopes[i] = 1;
        } else if (rule.norm == Norm::lp && std::isinf(rule.norm_value)) {
            slopes[i] = !found && std::abs(c[i]) == n ? sign : 0;
            found = found || slopes[i] != 0;
        } else if (rule.norm == Norm::lp && c[i] != 0) {
            slopes[i] = sign * std::pow(std::abs(c[i]) / n, rule.norm_value - 1);
        }
    }
    return slopes;
}

/// Of w = normalized(rule, c) = c / n(c): dc = (dw - <dw, w> dn/dc) / n.
[[nodiscard]] inline Vector normalized_backward(const TokenChoiceRule& rule, const Vector& c, const Vector& dw) {
    const Vector slopes = divisor_slopes(rule, c);
    const double n = divisor(rule, c);
    const double common = dot(dw, normalized(rule, c));
    Vector dc(c.size());
    for (std::size_t i = 0; i < c.size(); ++i) {
        dc[i] = (dw[i] - common * slopes[i]) / n;
    }
    return dc;
}

}  // namespace moe::inline MOE_ABI::reference
