#pragma once

#include <cstddef>
#include <span>

#include "../core/index.hpp"

namespace moe::inline MOE_ABI::detail {

/// Whether score `a` strictly precedes `b`: greater first, NaN after everything. Neither precedes where they are equal
/// or both NaN; the caller then keeps the lower index first.
template <class T>
[[nodiscard]] constexpr bool precedes(T a, T b) noexcept {
    return a > b || (b != b && a == a);
}

/// Writes the indices of the `best.size()` first of `scores` in the order of `precedes`, ties to the lower index. Needs
/// best.size() <= scores.size(). Insertion: O(E + h k) for h insertions, and h is small, about k log(E / k), on scores
/// in random order.
template <class T>
constexpr void top_k(std::span<const T> scores, std::span<ExpertId> best) noexcept {
    std::size_t count = 0;
    for (std::size_t e = 0; e < scores.size() && !best.empty(); ++e) {
        const auto score_at = [&](std::size_t slot) { return scores[static_cast<std::size_t>(best[slot])]; };
        if (count == best.size()) {
            if (!precedes(scores[e], score_at(count - 1))) {
                continue;
            }
            --count;
        }
        std::size_t slot = count++;
        for (; slot > 0 && precedes(scores[e], score_at(slot - 1)); --slot) {
            best[slot] = best[slot - 1];
        }
        best[slot] = static_cast<ExpertId>(e);
    }
}

}  // namespace moe::inline MOE_ABI::detail
