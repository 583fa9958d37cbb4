#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "../../gating/top_k.hpp"
#include "../../layer/parts/observer.hpp"
#include "../parts/check_call.hpp"
#include "../parts/tape.hpp"

namespace moe::inline MOE_ABI {

/// Which choices are counted. Padding never is.
enum class CountsFrom : unsigned char {
    choices,       ///< all that the gate chose, by its groups, bias and noise, dropped ones too: before capacity
    plan,          ///< where the tokens went: without those dropped
    first_choice,  ///< of each token the first choice alone, dropped or not: GShard (2006.16668, algorithm 1)
    scores         ///< the top k of the logits, whatever groups, bias, noise and capacity made of it: Megatron-LM
};

namespace detail {

/// each(e) for the k <= n first of the experts in the order of top_k, without its memory: O(k n).
template <class T, class Each>
void for_top_k(std::span<const T> scores, std::size_t k, const Each& each) {
    const std::size_t none = scores.size();
    const auto before = [&](std::size_t a, std::size_t b) {
        return precedes(scores[a], scores[b]) || (a < b && !precedes(scores[b], scores[a]));
    };
    std::size_t last = none;
    for (std::size_t place = 0; place < k; ++place) {
        std::size_t best = none;
        for (std::size_t e = 0; e < scores.size(); ++e) {
            if ((last == none || before(last, e)) && (best == none || before(e, best))) {
                best = e;
            }
        }
        each(best);
        last = best;
    }
}

/// What an observer of the forward pass was given, as the tape has it.
template <class T>
[[nodiscard]] RoutingRecord<T> record_of(const Tape<T>& tape) {
    return {tape.plan(), tape.logits(), tape.choices(), tape.valid()};
}

/// Throws Error(range, missing, shape): what cannot be counted.
template <class T>
void confirm_counts(const char* name, const RoutingRecord<T>& record, CountsFrom from, int top_k) {
    ensure(from <= CountsFrom::scores, ErrorCode::range, name, ": CountsFrom has no value ", static_cast<int>(from));
    if (record.plan.n_tokens == 0) {
        return;
    }
    ensure(from == CountsFrom::plan || from == CountsFrom::scores || record.choices.rows() > 0, ErrorCode::missing,
           name, ": the plan was given, so there are no choices to count; CountsFrom::plan counts where tokens went");
    if (from == CountsFrom::scores) {
        ensure(record.logits.rows() > 0 && record.logits.cols() == record.plan.n_experts, ErrorCode::shape, name,
               ": counts from scores need one logit an expert, there are ",
               record.logits.rows() > 0 ? record.logits.cols() : 0, " for ", record.plan.n_experts, " experts");
        ensure(top_k >= 1 && static_cast<std::size_t>(top_k) <= record.plan.n_experts, ErrorCode::range, name,
               ": top_k is ", top_k, ", it must be in 1..", record.plan.n_experts);
    }
}

/// Adds the choices of the tokens [first, first + count) to `counts` (n_experts).
template <class T>
void count_tokens(const RoutingRecord<T>& record, CountsFrom from, int top_k, std::size_t first, std::size_t count,
                  std::span<std::uint64_t> counts) {
    const auto add = [&](std::integral auto e) { ++counts[static_cast<std::size_t>(e)]; };
    for (std::size_t t = first; t < first + count; ++t) {
        if (!record.valid.empty() && record.valid[t] == 0) {
            continue;
        }
        if (from == CountsFrom::plan) {
            for (const ExpertId e : record.plan.experts_of(t)) {
                add(e);
            }
        } else if (from == CountsFrom::scores) {
            for_top_k(record.logits.row_span(t), static_cast<std::size_t>(top_k), add);
        } else {
            const std::size_t slots = from == CountsFrom::choices ? record.choices.cols() : std::size_t{1};
            for (const ExpertId e : record.choices.row_span(t).first(slots)) {
                if (e != no_expert) {
                    add(e < no_expert ? dropped(e) : e);
                }
            }
        }
    }
}

}  // namespace detail

/// How many choices fell on each expert, null experts included, over the micro-batches of a step: for balancers, which
/// are updated once a step, and for the losses of a global batch. Whole numbers, exact up to 2^64: 16-bit floats stand
/// still at 256, those of 32 bits at 2^24. Counts change in `add` alone: neither a backward pass nor a forward pass run
/// again moves them. On several machines, their counts and n_tokens are added up before use.
///
///     counts.reset(n_experts);                             // once a step
///     counts.add(tape);                                    // after each forward pass of a micro-batch
///     balancer.update(counts.counts);                      // SignBalancer, once a step
///     controller.update(counts.total(), counts.n_tokens);  // SparsityController, once a step
struct RoutingCounts {
    std::vector<std::uint64_t> counts{};  ///< (n_experts)
    std::uint64_t n_tokens = 0;           ///< without padding

    /// Back to 0. Allocates where it grows.
    void reset(std::size_t n_experts) {
        counts.assign(n_experts, 0);
        n_tokens = 0;
    }

    /// `top_k` is read for CountsFrom::scores alone. Throws Error: a tape that is not recorded (state), not one count
    /// an expert (shape), choices that are not there (missing), a top_k outside 1..n_experts (range). No allocation.
    template <class T>
    void add(const Tape<T>& tape, CountsFrom from = CountsFrom::choices, int top_k = 1) {
        detail::ensure_recorded("RoutingCounts", tape.recorded());
        add(detail::record_of(tape), from, top_k);
    }
    template <class T>
    void add(const RoutingRecord<T>& record, CountsFrom from = CountsFrom::choices, int top_k = 1) {
        ensure(counts.size() == record.plan.n_experts, ErrorCode::shape, "RoutingCounts: ", counts.size(),
               " counts for ", record.plan.n_experts, " experts; reset(n_experts) sets their number");
        detail::confirm_counts("RoutingCounts", record, from, top_k);
        const std::size_t n = record.plan.n_tokens;
        detail::count_tokens(record, from, top_k, 0, n, counts);
        const auto padding = std::count(record.valid.begin(), record.valid.end(), std::uint8_t{0});
        n_tokens += n - static_cast<std::size_t>(padding);
    }

    /// Choices of all experts.
    [[nodiscard]] std::uint64_t total() const {
        return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
    }
};

/// Counts while a layer routes or runs forward, without a tape: the first sweep of a loss of a global batch routes
/// every micro-batch, `layer.route(x, plan, workspace, executor, {.observer = &observer})`, the second runs them with
/// these counts in the loss. `counts` must outlive it.
template <class T>
class CountingObserver final : public Observer<T> {
public:
    explicit CountingObserver(RoutingCounts& counts, CountsFrom from = CountsFrom::choices, int top_k = 1)
        : counts_(counts), from_(from), top_k_(top_k) {}

    /// Throws what RoutingCounts::add does.
    void on_plan(const RoutingRecord<T>& record) override { counts_.add(record, from_, top_k_); }

private:
    RoutingCounts& counts_;
    CountsFrom from_;
    int top_k_;
};

}  // namespace moe::inline MOE_ABI
