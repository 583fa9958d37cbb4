#pragma once

#include <algorithm>
#include <climits>
#include <concepts>
#include <cstddef>
#include <span>

#include "../../core/error.hpp"
#include "../check_settings.hpp"
#include "../reads_logits.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// What ProductKeys makes of the sums of the experts it has chosen.
enum class KeyWeights : unsigned char {
    softmax,  ///< softmax over the chosen: they compete (He 2024; Lample et al. 2019)
    relu,     ///< max(sum, 0): they do not (Csordás et al. 2023, 2310.10837)
};

/// Retrieval by product keys (Lample et al. 2019, "Large memory layers with product keys", 1907.05242; for experts He
/// 2024, "Mixture of a million experts", 2407.04153, algorithm 1). 2n logits, two halves a and b, choose among n * n
/// experts: expert i * n + j has the logit a[i] + b[j]. The top_k of each half make top_k * top_k sums, the top_k of
/// these are the choice, best first; ties to the lower index, NaN last. These are the top_k of all n * n sums wherever
/// rounding makes no two sums equal that are not, and no logit is infinite or NaN.
///
/// For experts of one neuron use NeuronLayer, which also knows heads; the scratch of a MoELayer is proportional to its
/// number of experts. O(n + top_k^2), after 2n logits instead of n * n.
struct ProductKeys {
    int top_k = 16;
    KeyWeights weights = KeyWeights::softmax;

    [[nodiscard]] int max_per_token() const { return top_k; }

    /// n * n for 2n logits. Throws Error: an odd number (shape), more experts than an int can count (overflow).
    [[nodiscard]] static int n_experts(int n_logits) {
        ensure(n_logits % 2 == 0, ErrorCode::shape, "ProductKeys: ", n_logits,
               " logits are not two halves of as many keys");
        const int n = n_logits / 2;
        ensure(n == 0 || n <= INT_MAX / n, ErrorCode::overflow, "ProductKeys: two halves of ", n,
               " keys are more experts than ", INT_MAX);
        return n * n;
    }

    /// Throws Error(range): n_experts no square, top_k not in 1..n_experts, weights of no kind.
    void validate(std::size_t n_experts) const {
        std::size_t n = 0;
        while (n * n < n_experts) {
            ++n;
        }
        ensure(n * n == n_experts, ErrorCode::range, "ProductKeys: the number of experts is a square, ", n_experts,
               " is none");
        detail::check_top_k("ProductKeys", top_k, n_experts);
        ensure(weights <= KeyWeights::relu, ErrorCode::range, "ProductKeys: no weights have the number ",
               static_cast<int>(weights));
    }

    /// Entries of `order` that choose needs for halves of `n` keys.
    [[nodiscard]] std::size_t order_size(std::size_t n) const { return 2 * kept(n); }

    /// `logits` (2n).
    template <std::floating_point T>
    int select(std::span<const T> logits, BasicSelection<T> out) const {
        const auto k = static_cast<std::size_t>(top_k);
        // with one key in each half, `order` has place for one of two lists that are then the same
        const std::size_t columns = out.order.size() > 1 ? kept(logits.size() / 2) : 0;
        choose<T>(logits, out.experts.first(k), out.weights.first(k), out.order, out.order.subspan(columns));
        return top_k;
    }

    /// The same with memory sized by the keys, not by the experts, which may be a million: `order` (order_size(n)),
    /// `experts` and `expert_weights` (top_k).
    template <std::floating_point T>
    void choose(std::span<const T> logits, std::span<ExpertId> experts, std::span<T> expert_weights,
                std::span<ExpertId> order) const {
        choose<T>(logits, experts, expert_weights, order, order.subspan(kept(logits.size() / 2)));
    }

private:
    /// Keys of a half that may be part of a choice.
    [[nodiscard]] std::size_t kept(std::size_t n) const { return (std::min)(static_cast<std::size_t>(top_k), n); }

    template <class T>
    void choose(std::span<const T> logits, std::span<ExpertId> experts, std::span<T> expert_weights,
                std::span<ExpertId> row_memory, std::span<ExpertId> column_memory) const {
        const std::size_t n = logits.size() / 2;
        const std::span<const T> a = logits.first(n);
        const std::span<const T> b = logits.subspan(n);
        const std::span<ExpertId> rows = row_memory.first(kept(n));
        const std::span<ExpertId> columns = column_memory.first(kept(n));
        detail::top_k<T>(a, rows);
        detail::top_k<T>(b, columns);
        std::sort(rows.begin(), rows.end());  // the pairs then come in order of expert, as ties are broken
        std::sort(columns.begin(), columns.end());
        std::size_t count = 0;
        for (const ExpertId i : rows) {
            for (const ExpertId j : columns) {
                const T sum = a[static_cast<std::size_t>(i)] + b[static_cast<std::size_t>(j)];
                count = insert(count, i * static_cast<ExpertId>(n) + j, sum, experts, expert_weights);
            }
        }
        weigh(expert_weights);
    }

    /// Puts an expert where it belongs among the `count` best so far. Returns how many there are now.
    template <class T>
    static std::size_t insert(std::size_t count, ExpertId expert, T sum, std::span<ExpertId> best, std::span<T> sums) {
        if (count == best.size()) {
            if (!detail::precedes(sum, sums[count - 1])) {
                return count;
            }
            --count;
        }
        std::size_t slot = count;
        for (; slot > 0 && detail::precedes(sum, sums[slot - 1]); --slot) {
            best[slot] = best[slot - 1];
            sums[slot] = sums[slot - 1];
        }
        best[slot] = expert;
        sums[slot] = sum;
        return count + 1;
    }

    template <class T>
    void weigh(std::span<T> sums) const {
        if (weights == KeyWeights::softmax) {
            return Softmax{}(std::span<const T>(sums), sums);
        }
        for (T& sum : sums) {
            sum = sum < 0 ? T(0) : sum;  // NaN stays
        }
    }
};

template <>
inline constexpr bool detail::reads_logits_of_experts<ProductKeys> = false;

}  // namespace moe::inline MOE_ABI
