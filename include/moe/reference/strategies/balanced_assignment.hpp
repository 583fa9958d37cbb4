#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <vector>

#include "../routing.hpp"

/// The balanced assignment of BASE layers (Lewis et al. 2021, 2103.16716), two ways.
namespace moe::inline MOE_ABI::reference {

/// What the assignment reads for the logits of the valid tokens: NaN and -infinity are the lowest finite one, +infinity
/// is the highest.
[[nodiscard]] inline std::vector<Vector> finite_benefits(std::vector<Vector> logits) {
    Vector finite{};
    for (const Vector& row : logits) {
        std::copy_if(row.begin(), row.end(), std::back_inserter(finite), [](double l) { return std::isfinite(l); });
    }
    const double low = finite.empty() ? 0 : *std::min_element(finite.begin(), finite.end());
    const double high = finite.empty() ? 0 : *std::max_element(finite.begin(), finite.end());
    for (Vector& row : logits) {
        for (double& l : row) {
            l = std::isfinite(l) ? l : (l > 0 ? high : low);
        }
    }
    return logits;
}

/// The greatest sum of benefits, by trying every assignment in which each expert has floor(T / E) or ceil(T / E)
/// tokens: E^T of them. `counts` holds what the experts got from the tokens before `first`.
[[nodiscard]] inline double best_balanced_sum(const std::vector<Vector>& benefits, std::vector<std::size_t> counts,
                                              std::size_t first = 0) {
    const std::size_t n_tokens = benefits.size();
    const std::size_t n_experts = counts.size();
    if (first == n_tokens) {
        const bool full = *std::min_element(counts.begin(), counts.end()) == n_tokens / n_experts;
        return full ? 0 : -std::numeric_limits<double>::infinity();
    }
    double best = -std::numeric_limits<double>::infinity();
    for (std::size_t e = 0; e < n_experts; ++e) {
        if (counts[e] < divide_up(n_tokens, n_experts)) {
            ++counts[e];
            best = (std::max)(best, benefits[first][e] + best_balanced_sum(benefits, counts, first + 1));
            --counts[e];
        }
    }
    return best;
}

/// The same for larger sizes, by the Hungarian method (Kuhn 1955) with potentials: the expert of each token. An expert
/// has ceil(T / E) slots; the first floor(T / E) of each cost so much less that they are filled. O(T^2 (T + E)).
[[nodiscard]] inline std::vector<ExpertId> balanced_assignment(const std::vector<Vector>& benefits,
                                                               std::size_t n_experts) {
    const std::size_t n_tokens = benefits.size();
    const std::size_t per_expert = divide_up(n_tokens, n_experts);
    const std::size_t n_slots = per_expert * n_experts;
    double size = 1;
    for (const Vector& row : benefits) {
        for (const double b : row) {
            size = (std::max)(size, std::abs(b));
        }
    }
    const double bonus = 4 * static_cast<double>(n_tokens) * size;
    const auto cost = [&](std::size_t t, std::size_t slot) {
        return -benefits[t][slot / per_expert] - (slot % per_expert < n_tokens / n_experts ? bonus : 0);
    };
    // Token n_tokens and slot n_slots stand for "none". Each token is added with the cheapest path of exchanges.
    Vector token_price(n_tokens + 1, 0.0);
    Vector slot_price(n_slots + 1, 0.0);
    std::vector<std::size_t> owner(n_slots + 1, n_tokens);
    for (std::size_t t = 0; t < n_tokens; ++t) {
        Vector distance(n_slots + 1, std::numeric_limits<double>::infinity());
        std::vector<std::size_t> before(n_slots + 1, n_slots);
        std::vector<bool> reached(n_slots + 1, false);
        std::size_t slot = n_slots;
        owner[n_slots] = t;
        while (owner[slot] != n_tokens) {
            reached[slot] = true;
            const std::size_t token = owner[slot];
            std::size_t nearest = n_slots;
            for (std::size_t s = 0; s < n_slots; ++s) {
                const double reduced = reached[s] ? 0 : cost(token, s) - token_price[token] - slot_price[s];
                if (!reached[s] && reduced < distance[s]) {
                    distance[s] = reduced;
                    before[s] = slot;
                }
                nearest = !reached[s] && distance[s] < distance[nearest] ? s : nearest;
            }
            const double step = distance[nearest];
            for (std::size_t s = 0; s <= n_slots; ++s) {
                if (reached[s]) {
                    token_price[owner[s]] += step;
                    slot_price[s] -= step;
                } else {
                    distance[s] -= step;
                }
            }
            slot = nearest;
        }
        for (; slot != n_slots; slot = before[slot]) {
            owner[slot] = owner[before[slot]];
        }
    }
    std::vector<ExpertId> experts(n_tokens, no_expert);
    for (std::size_t s = 0; s < n_slots; ++s) {
        if (owner[s] != n_tokens) {
            experts[owner[s]] = static_cast<ExpertId>(s / per_expert);
        }
    }
    return experts;
}

/// What an assignment gathers.
[[nodiscard]] inline double balanced_sum(const std::vector<Vector>& benefits, const std::vector<ExpertId>& experts) {
    double sum = 0;
    for (std::size_t t = 0; t < experts.size(); ++t) {
        sum += benefits[t][static_cast<std::size_t>(experts[t])];
    }
    return sum;
}

}  // namespace moe::inline MOE_ABI::reference
