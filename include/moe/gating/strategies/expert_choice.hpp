#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <memory>
#include <numeric>
#include <span>
#include <utility>

#include "../../core/error.hpp"
#include "../../core/index.hpp"
#include "../../core/matrix_view.hpp"
#include "../backward_rules.hpp"
#include "../gather_weights.hpp"
#include "../normalize.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// Every expert takes the tokens that score it highest: Zhou et al. 2022, "Mixture-of-experts with expert choice
/// routing" (2202.09368), section 3.2. For the valid tokens of the batch, T of them, and E experts:
///
///     s = score(l) of each token, over the experts
///     C = min(T, ceil(T capacity_factor / E))                    places an expert has
///     expert e takes the C first tokens by s(t, e) descending    ties to the lower token, NaN last
///     w(t, e) = s(t, e)
///
/// Scores that saturate are compared by their logits, where each depends on its own logit alone (ScoreFunction).
///
/// A token's experts stand in ascending order; it may have none, or all. `max_per_token_cap` bounds their number
/// (section 3.3 of the paper). The paper solves a linear program there; here pairs (t, e) are passed once in the order
/// s descending, token ascending, expert ascending, and a pair is taken while its expert and its token have room. Then
/// some places may stay empty.
///
/// Not causal: the experts of a token depend on all tokens of the batch, those after it included. The capacity counts
/// valid tokens only, and padding takes no place. A capacity factor of 0 leaves every token without experts.
template <class Score = Softmax>
struct ExpertChoice {
    Score score{};
    double capacity_factor = 1;  ///< how many experts a token has on average
    int max_per_token_cap = 0;   ///< most experts of a token; 0: as many as choose it

    static constexpr bool needs_logits = detail::score_needs_logits<Score>;

    [[nodiscard]] int max_per_token(int /*n_tokens*/, int n_experts) const {
        return max_per_token_cap == 0 ? n_experts : (std::min)(max_per_token_cap, n_experts);
    }

    /// n_experts * C where all tokens are valid.
    [[nodiscard]] std::size_t max_assignments(int n_tokens, int n_experts) const {
        return static_cast<std::size_t>(n_experts) *
               capacity(static_cast<std::size_t>(n_tokens), static_cast<std::size_t>(n_experts));
    }

    /// C. The quotient is rounded up, but not for the sake of its last bits: 110 tokens of 11 experts, times 1.1,
    /// give 11, not 12.
    [[nodiscard]] std::size_t capacity(std::size_t n_tokens, std::size_t n_experts) const {
        const double share = static_cast<double>(n_tokens) * capacity_factor / static_cast<double>(n_experts);
        const double places = std::ceil(share * (1 - 1e-12));
        return places < static_cast<double>(n_tokens) ? static_cast<std::size_t>(places) : n_tokens;
    }

    /// Throws Error(range): a capacity factor negative or not finite, a negative cap, a score that cannot be.
    void validate(std::size_t /*n_experts*/) const {
        ensure(capacity_factor >= 0 && std::isfinite(capacity_factor), ErrorCode::range,
               "ExpertChoice: capacity_factor is ", capacity_factor, ", it must be finite and not negative");
        ensure(max_per_token_cap >= 0, ErrorCode::range, "ExpertChoice: max_per_token_cap is ", max_per_token_cap,
               ", it must be 0 (no cap) or positive");
        detail::validate_score(score);
    }

    /// `logits` (n_tokens, n_experts), or empty where the score needs none. Without a cap O(T E) on average, with one
    /// O(T E (log T + log E)); no allocation. Throws Error(overflow) if there are more tokens than an ExpertId counts.
    template <std::floating_point T>
        requires ScoreFunction<Score, T>
    void select(MatrixView<const T> logits, BatchSelection<T> out) const;

    /// The weights that `experts` have for a token of these logits: what an adaptor that changes weights needs of a
    /// batch gate in its backward pass. `out` as that of WeighingGate.
    template <std::floating_point T>
        requires ScoreFunction<Score, T>
    void weigh(std::span<const T> logits, std::span<const ExpertId> experts, BasicSelection<T> out) const {
        const std::span<T> scores = out.scratch.first(out.order.size());
        score(logits, scores);
        detail::gather_weights<T>(scores, experts, Normalize::none(), 1, out.weights);
    }

    /// See DifferentiableGate.
    template <std::floating_point T>
        requires DifferentiableScore<Score, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        moe::weigh_backward<T>(score, Normalize::none(), 1, logits, chosen, d_weights, d_logits);
    }

private:
    template <class T>
    class Batch;
};

/// What both ways of choosing work on. Scores stand by expert, so that an expert reads one run of memory.
template <class Score>
template <class T>
class ExpertChoice<Score>::Batch {
public:
    Batch(const BatchSelection<T>& out, const Score& score, MatrixView<const T> logits)
        : out_(out),
          score_(score),
          by_logit_(detail::is_elementwise(score) && detail::is_strictly_increasing(score) && !logits.empty()),
          n_tokens_(out.experts.rows()),
          scores_(out.scratch.first(n_tokens_ * out.n_experts)),
          counts_(out.order.first(n_tokens_)),
          valid_(out.order.subspan(n_tokens_, n_tokens_)) {
        const std::span<T> row = out.scratch.subspan(scores_.size(), out.n_experts);
        std::size_t n_valid = 0;
        for (std::size_t t = 0; t < n_tokens_; ++t) {
            if (out.is_valid(t)) {
                valid_[n_valid++] = static_cast<ExpertId>(t);
                const std::span<const T> of_token = logits.empty() ? std::span<const T>{} : logits.row_span(t);
                if (by_logit_) {
                    std::copy(of_token.begin(), of_token.end(), row.begin());
                } else {
                    score(of_token, row);
                }
                for (std::size_t e = 0; e < row.size(); ++e) {
                    scores_[e * n_tokens_ + t] = row[e];
                }
            }
        }
        valid_ = valid_.first(n_valid);
        std::fill(counts_.begin(), counts_.end(), ExpertId{0});
    }

    [[nodiscard]] std::size_t n_valid() const { return valid_.size(); }

    /// Every expert takes the first `capacity` tokens of its order.
    void choose(std::size_t capacity) {
        for (std::size_t e = 0; e < out_.n_experts; ++e) {
            if (capacity < n_valid()) {
                std::nth_element(valid_.begin(), valid_.begin() + static_cast<std::ptrdiff_t>(capacity), valid_.end(),
                                 order_of(e));
            }
            for (const ExpertId t : valid_.first(capacity)) {
                take(t, e);
            }
        }
    }

    /// The greedy pass over all pairs: merges the experts' lists of tokens, each in the order of its expert.
    void choose_capped(std::size_t capacity, ExpertId cap) {
        const std::size_t n_experts = out_.n_experts;
        const std::span<ExpertId> memory = ids_behind_scores((n_valid() + 3) * n_experts);
        const std::span<ExpertId> heads = memory.first(n_experts);
        const std::span<ExpertId> taken = memory.subspan(n_experts, n_experts);
        std::span<ExpertId> waiting = memory.subspan(2 * n_experts, n_experts);
        const auto list = [&](std::size_t e) { return memory.subspan(3 * n_experts + e * n_valid(), n_valid()); };
        for (std::size_t e = 0; e < n_experts; ++e) {
            std::copy(valid_.begin(), valid_.end(), list(e).begin());
            std::sort(list(e).begin(), list(e).end(), order_of(e));
            heads[e] = taken[e] = 0;
        }
        const auto head = [&](ExpertId e) {
            return list(static_cast<std::size_t>(e))[static_cast<std::size_t>(heads[static_cast<std::size_t>(e)])];
        };
        const auto comes_later = [&](ExpertId a, ExpertId b) {  // the front of a heap is what comes last in its order
            const T x = score_at(head(a), static_cast<std::size_t>(a));
            const T y = score_at(head(b), static_cast<std::size_t>(b));
            if (detail::precedes(x, y) || detail::precedes(y, x)) {
                return detail::precedes(y, x);
            }
            return head(a) != head(b) ? head(a) > head(b) : a > b;
        };
        std::iota(waiting.begin(), waiting.end(), ExpertId{0});
        std::make_heap(waiting.begin(), waiting.end(), comes_later);
        while (!waiting.empty()) {
            std::pop_heap(waiting.begin(), waiting.end(), comes_later);
            const auto e = static_cast<std::size_t>(waiting.back());
            const ExpertId t = head(waiting.back());
            if (counts_[static_cast<std::size_t>(t)] < cap) {
                take(t, e);
                ++taken[e];
            }
            ++heads[e];
            if (std::cmp_equal(taken[e], capacity) || std::cmp_equal(heads[e], n_valid())) {
                waiting = waiting.first(waiting.size() - 1);
            } else {
                std::push_heap(waiting.begin(), waiting.end(), comes_later);
            }
        }
    }

    /// Puts the experts of each token in ascending order, and their scores beside them.
    void weigh() const {
        for (const ExpertId t : valid_) {
            const auto token = static_cast<std::size_t>(t);
            const auto chosen = out_.experts.row_span(token).first(static_cast<std::size_t>(counts_[token]));
            std::sort(chosen.begin(), chosen.end());
            for (std::size_t slot = 0; slot < chosen.size(); ++slot) {
                out_.weights(token, slot) = score_at(t, static_cast<std::size_t>(chosen[slot]));
            }
            if (by_logit_) {
                const std::span<T> weights = out_.weights.row_span(token).first(chosen.size());
                score_(std::span<const T>(weights), weights);
            }
        }
    }

private:
    [[nodiscard]] T score_at(ExpertId token, std::size_t expert) const {
        return scores_[expert * n_tokens_ + static_cast<std::size_t>(token)];
    }

    [[nodiscard]] auto order_of(std::size_t expert) const {
        return [this, expert](ExpertId a, ExpertId b) {
            const T x = score_at(a, expert);
            const T y = score_at(b, expert);
            return detail::precedes(x, y) || (!detail::precedes(y, x) && a < b);
        };
    }

    void take(ExpertId token, std::size_t expert) {
        const auto t = static_cast<std::size_t>(token);
        out_.experts(t, static_cast<std::size_t>(counts_[t]++)) = static_cast<ExpertId>(expert);
    }

    // The lists do not fit into the order of the selection: it has no entry a pair where a cap bounds the assignments.
    [[nodiscard]] std::span<ExpertId> ids_behind_scores(std::size_t count) const {
        static_assert(sizeof(ExpertId) <= sizeof(T) && alignof(ExpertId) <= alignof(T));
        auto* const ids = reinterpret_cast<ExpertId*>(out_.scratch.subspan(scores_.size(), count).data());
        std::uninitialized_default_construct_n(ids, count);
        return {ids, count};
    }

    const BatchSelection<T>& out_;
    const Score& score_;
    bool by_logit_;               // scores_ are still logits, whose order is theirs where they do not saturate
    std::size_t n_tokens_;        // padding included
    std::span<T> scores_;         // (n_experts, n_tokens)
    std::span<ExpertId> counts_;  // (n_tokens) how many experts a token has
    std::span<ExpertId> valid_;   // (n_valid) the tokens that are no padding
};

template <class Score>
template <std::floating_point T>
    requires ScoreFunction<Score, T>
void ExpertChoice<Score>::select(MatrixView<const T> logits, BatchSelection<T> out) const {
    ensure(std::in_range<ExpertId>(out.experts.rows()), ErrorCode::overflow, "ExpertChoice: ", out.experts.rows(),
           " tokens exceed ", (std::numeric_limits<ExpertId>::max)(), "; split the batch");
    Batch<T> batch(out, score, logits);
    const std::size_t places = capacity(batch.n_valid(), out.n_experts);
    if (places == 0) {
        return;
    }
    if (max_per_token_cap == 0) {
        batch.choose(places);
    } else {
        batch.choose_capped(places, max_per_token_cap);
    }
    batch.weigh();
}

}  // namespace moe::inline MOE_ABI
