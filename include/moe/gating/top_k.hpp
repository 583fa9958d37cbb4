#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>

#include "../core/index.hpp"

namespace moe::inline MOE_ABI::detail {

/// Whether score `a` strictly precedes `b`: greater first, NaN after everything. Neither precedes where they are equal
/// or both NaN; the caller then keeps the lower index first.
template <class T>
[[nodiscard]] constexpr bool precedes(T a, T b) noexcept {
    return a > b || (b != b && a == a);
}

/// Writes the first best.size() of 0..n-1 in the order of `before(a, b)`, a strict weak order of indices; ties to the
/// lower index. Needs best.size() <= n. Insertion: O(n + h k) for h insertions, and h is small, about k log(n / k), on
/// scores in random order.
template <class Before>
constexpr void top_k_by(std::size_t n, std::span<ExpertId> best, const Before& before) noexcept {
    std::size_t count = 0;
    for (std::size_t e = 0; e < n && !best.empty(); ++e) {
        const auto at = [&](std::size_t slot) { return static_cast<std::size_t>(best[slot]); };
        if (count == best.size()) {
            if (!before(e, at(count - 1))) {
                continue;
            }
            --count;
        }
        std::size_t slot = count++;
        for (; slot > 0 && before(e, at(slot - 1)); --slot) {
            best[slot] = best[slot - 1];
        }
        best[slot] = static_cast<ExpertId>(e);
    }
}

/// Writes the indices of the best.size() first of `scores` in the order of `precedes`, ties to the lower index. Needs
/// best.size() <= scores.size(). The cost is that of top_k_by.
template <class T>
constexpr void top_k(std::span<const T> scores, std::span<ExpertId> best) noexcept {
    top_k_by(scores.size(), best, [&](std::size_t a, std::size_t b) { return precedes(scores[a], scores[b]); });
}

/// Whether a logit says that its expert is not to be chosen: how a mask reaches a gate.
template <class T>
[[nodiscard]] constexpr bool excludes(T logit) noexcept {
    return logit == -std::numeric_limits<T>::infinity();
}

/// The order of experts by `keys`, those whose logit is -infinity behind all others, NaN too: a bias or a rounding to 0
/// may hide in a key that its expert is excluded. `logits` may be empty, then nobody is.
template <class T>
class Ranking {
public:
    Ranking(std::span<const T> keys, std::span<const T> logits) : keys_(keys), logits_(logits) {}

    /// A strict weak order, in which experts of equal keys are equal.
    [[nodiscard]] bool precedes(std::size_t a, std::size_t b) const {
        if (!logits_.empty() && excludes(logits_[a]) != excludes(logits_[b])) {
            return excludes(logits_[b]);
        }
        return detail::precedes(keys_[a], keys_[b]);
    }

    /// The same with ties to the lower index, a strict total order.
    [[nodiscard]] bool operator()(ExpertId a, ExpertId b) const {
        const auto x = static_cast<std::size_t>(a);
        const auto y = static_cast<std::size_t>(b);
        return precedes(x, y) || (a < b && !precedes(y, x));
    }

private:
    std::span<const T> keys_;
    std::span<const T> logits_;
};

/// top_k in the order of a Ranking. Most tokens exclude nobody, and pay one pass over their logits.
template <class T>
void top_k(std::span<const T> keys, std::span<const T> logits, std::span<ExpertId> best) {
    // Counted, since a search that may stop early is not vectorised.
    if (std::count(logits.begin(), logits.end(), -std::numeric_limits<T>::infinity()) == 0) {
        top_k(keys, best);
    } else {
        const Ranking<T> ranking(keys, logits);
        top_k_by(keys.size(), best, [&](std::size_t a, std::size_t b) { return ranking.precedes(a, b); });
    }
}

}  // namespace moe::inline MOE_ABI::detail
