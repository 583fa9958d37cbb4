#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "../core/alignment.hpp"
#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../core/matrix_view.hpp"
#include "../core/workspace.hpp"

namespace moe::inline MOE_ABI {

/// Which experts each token goes to, with which weight, in two orders: by token and by expert. A token may have any
/// number of experts, none included. What check_plan verifies:
///  - token t has the assignments a in [token_offsets[t], token_offsets[t+1]), in the order its gate chose them (its
///    *slots*): expert experts[a], weight weights[a]; every expert is in [0, n_experts);
///  - expert e has the entries i in [expert_offsets[e], expert_offsets[e+1]): token tokens[i], which is assignment
///    assignments[i]; entries of an expert are in order of token, then slot;
///  - both orders list every assignment once.
template <class T>
struct PlanView {
    std::size_t n_tokens = 0;
    std::size_t n_experts = 0;
    std::span<const Index> token_offsets;   ///< (n_tokens + 1)
    std::span<const ExpertId> experts;      ///< (n_assignments) by token
    std::span<const T> weights;             ///< (n_assignments) by token
    std::span<const Index> expert_offsets;  ///< (n_experts + 1)
    std::span<const Index> tokens;          ///< (n_assignments) by expert
    std::span<const Index> assignments;     ///< (n_assignments) by expert

    [[nodiscard]] std::size_t n_assignments() const noexcept { return experts.size(); }

    /// Experts of token t, in slot order, and their weights.
    [[nodiscard]] std::span<const ExpertId> experts_of(std::size_t t) const {
        return experts.subspan(token_offsets[t], token_offsets[t + 1] - token_offsets[t]);
    }
    [[nodiscard]] std::span<const T> weights_of(std::size_t t) const {
        return weights.subspan(token_offsets[t], token_offsets[t + 1] - token_offsets[t]);
    }
    /// Tokens of expert e, ascending.
    [[nodiscard]] std::span<const Index> tokens_of(std::size_t e) const {
        return tokens.subspan(expert_offsets[e], expert_offsets[e + 1] - expert_offsets[e]);
    }
};

/// Memory of a plan of at most `max_assignments`, to be filled by build_plan.
template <class T>
struct PlanStorage {
    std::span<Index> token_offsets;
    std::span<ExpertId> experts;
    std::span<T> weights;
    std::span<Index> expert_offsets;
    std::span<Index> tokens;
    std::span<Index> assignments;

    [[nodiscard]] static PlanStorage take(Arena& arena, std::size_t n_tokens, std::size_t n_experts,
                                          std::size_t max_assignments) {
        ensure(max_assignments <= (std::numeric_limits<Index>::max)(), ErrorCode::overflow,
               "RoutingPlan: ", max_assignments, " assignments of ", n_tokens,
               " tokens do not fit the index type; split the batch");
        return {arena.take<Index>(n_tokens + 1),    arena.take<ExpertId>(max_assignments),
                arena.take<T>(max_assignments),     arena.take<Index>(n_experts + 1),
                arena.take<Index>(max_assignments), arena.take<Index>(max_assignments)};
    }
};

/// Fills `storage` from one row of experts a token (negative entries, no_expert and dropped(e), are skipped) and their
/// weights, by a stable counting sort. The ids must be less than n_experts. O(n_tokens * cols + n_experts), no
/// allocation.
template <class T>
PlanView<T> build_plan(MatrixView<const ExpertId> experts, MatrixView<const T> weights, std::size_t n_experts,
                       const PlanStorage<T>& storage) {
    const std::size_t n_tokens = experts.rows();
    std::fill_n(storage.expert_offsets.begin(), n_experts + 1, Index{0});
    Index n = 0;
    for (std::size_t t = 0; t < n_tokens; ++t) {
        storage.token_offsets[t] = n;
        for (std::size_t slot = 0; slot < experts.cols(); ++slot) {
            const ExpertId e = experts(t, slot);
            if (e >= 0) {
                storage.experts[n] = e;
                storage.weights[n] = weights(t, slot);
                ++n;
                ++storage.expert_offsets[static_cast<std::size_t>(e) + 1];
            }
        }
    }
    storage.token_offsets[n_tokens] = n;
    for (std::size_t e = 0; e < n_experts; ++e) {
        storage.expert_offsets[e + 1] += storage.expert_offsets[e];
    }
    // Filling moves the start of each expert to its end, which is the start of the next: shift back afterwards.
    for (std::size_t t = 0; t < n_tokens; ++t) {
        for (Index a = storage.token_offsets[t]; a < storage.token_offsets[t + 1]; ++a) {
            const Index at = storage.expert_offsets[static_cast<std::size_t>(storage.experts[a])]++;
            storage.tokens[at] = static_cast<Index>(t);
            storage.assignments[at] = a;
        }
    }
    for (std::size_t e = n_experts; e > 0; --e) {
        storage.expert_offsets[e] = storage.expert_offsets[e - 1];
    }
    storage.expert_offsets[0] = 0;
    return {n_tokens,
            n_experts,
            storage.token_offsets.first(n_tokens + 1),
            storage.experts.first(n),
            storage.weights.first(n),
            storage.expert_offsets.first(n_experts + 1),
            storage.tokens.first(n),
            storage.assignments.first(n)};
}

namespace detail {

template <class T>
void check_alignment(const PlanView<T>& plan) {
    require_aligned(plan.token_offsets.data(), "RoutingPlan", "token_offsets");
    require_aligned(plan.experts.data(), "RoutingPlan", "experts");
    require_aligned(plan.weights.data(), "RoutingPlan", "weights");
    require_aligned(plan.expert_offsets.data(), "RoutingPlan", "expert_offsets");
    require_aligned(plan.tokens.data(), "RoutingPlan", "tokens");
    require_aligned(plan.assignments.data(), "RoutingPlan", "assignments");
}

}  // namespace detail

/// Throws Error(range) naming the first invariant of PlanView that `plan` breaks, Error(alignment) for an array that is
/// not aligned to its type. O(n_assignments + n_experts).
template <class T>
void check_plan(const PlanView<T>& plan) {
    const std::size_t n = plan.n_assignments();
    const auto confirm = [](bool holds, const char* what, std::size_t at) {
        ensure(holds, ErrorCode::range, "RoutingPlan: ", what, " at ", at);
    };
    confirm(plan.weights.size() == n && plan.tokens.size() == n && plan.assignments.size() == n, "sizes disagree", n);
    // One is taken from the size, not added to the count: that could wrap to the size of an empty span.
    confirm(!plan.token_offsets.empty() && plan.token_offsets.size() - 1 == plan.n_tokens,
            "token_offsets has a wrong size", plan.token_offsets.size());
    confirm(!plan.expert_offsets.empty() && plan.expert_offsets.size() - 1 == plan.n_experts,
            "expert_offsets has a wrong size", plan.expert_offsets.size());
    detail::check_alignment(plan);
    confirm(plan.token_offsets.front() == 0 && plan.token_offsets.back() == n, "token_offsets do not span the plan", n);
    confirm(plan.expert_offsets.front() == 0 && plan.expert_offsets.back() == n, "expert_offsets do not span the plan",
            n);
    for (std::size_t t = 0; t < plan.n_tokens; ++t) {
        confirm(plan.token_offsets[t] <= plan.token_offsets[t + 1], "token_offsets descend", t);
    }
    for (std::size_t a = 0; a < n; ++a) {
        confirm(plan.experts[a] >= 0 && std::cmp_less(plan.experts[a], plan.n_experts), "an expert is out of range", a);
    }
    for (std::size_t e = 0; e < plan.n_experts; ++e) {  // all of them before any is used as a position
        confirm(plan.expert_offsets[e] <= plan.expert_offsets[e + 1], "expert_offsets descend", e);
    }
    for (std::size_t e = 0; e < plan.n_experts; ++e) {
        for (std::size_t i = plan.expert_offsets[e]; i < plan.expert_offsets[e + 1]; ++i) {
            const std::size_t a = plan.assignments[i];
            const std::size_t t = plan.tokens[i];
            confirm(a < n && std::cmp_equal(plan.experts[a], e), "an entry belongs to another expert", i);
            confirm(t < plan.n_tokens && plan.token_offsets[t] <= a && a < plan.token_offsets[t + 1],
                    "an entry belongs to another token", i);
            confirm(i == plan.expert_offsets[e] || plan.assignments[i - 1] < a, "entries of an expert are out of order",
                    i);
        }
    }
}

/// A plan that owns its memory: to be recorded, replayed, inspected, or given from outside. Reuses its memory.
template <class T = float>
class RoutingPlan {
public:
    RoutingPlan() { token_offsets_.push_back(0), expert_offsets_.push_back(0); }

    [[nodiscard]] PlanView<T> view() const& noexcept {
        const std::size_t n_tokens = token_offsets_.empty() ? 0 : token_offsets_.size() - 1;  // empty once moved from
        const std::size_t n_experts = expert_offsets_.empty() ? 0 : expert_offsets_.size() - 1;
        return {n_tokens, n_experts, token_offsets_, experts_, weights_, expert_offsets_, tokens_, assignments_};
    }
    PlanView<T> view() const&& = delete;                       // temporary: give the plan a name
    operator PlanView<T>() const& noexcept { return view(); }  // NOLINT: a plan is used wherever a view is asked for
    operator PlanView<T>() const&& = delete;                   // temporary: give the plan a name

    /// Takes the choice of somebody else: (n_tokens, k) expert ids, no_expert (-1) where a slot is unset, and weights
    /// of the same shape. Throws Error(shape, range) naming the token, slot and id; the plan is then unchanged.
    void assign(MatrixView<const ExpertId> experts, MatrixView<const T> weights, std::size_t n_experts) {
        ensure(n_experts <= static_cast<std::size_t>((std::numeric_limits<ExpertId>::max)()), ErrorCode::overflow,
               "RoutingPlan: ", n_experts, " experts are more than an expert id can name");
        ensure(experts.rows() == weights.rows() && experts.cols() == weights.cols(), ErrorCode::shape,
               "RoutingPlan: expert ids are ", experts.rows(), " x ", experts.cols(), " but weights are ",
               weights.rows(), " x ", weights.cols());
        const std::size_t most = checked_multiply(experts.rows(), experts.cols());
        ensure((std::max)(most, experts.rows()) <= (std::numeric_limits<Index>::max)(), ErrorCode::overflow,
               "RoutingPlan: ", most, " assignments of ", experts.rows(),
               " tokens do not fit the index type; split the batch");
        require_aligned(experts.data(), "RoutingPlan", "the expert ids");
        require_aligned(weights.data(), "RoutingPlan", "the weights");
        for (std::size_t t = 0; t < experts.rows(); ++t) {
            for (std::size_t slot = 0; slot < experts.cols(); ++slot) {
                const ExpertId e = experts(t, slot);
                ensure(e == no_expert || (e >= 0 && std::cmp_less(e, n_experts)), ErrorCode::range,
                       "RoutingPlan: token ", t, ", slot ", slot, " names expert ", e, " but there are ", n_experts,
                       " (-1 leaves a slot unset)");
            }
        }
        fill(experts.rows(), n_experts, most, [&](const PlanStorage<T>& storage) {
            return build_plan<T>(experts, weights, n_experts, storage).n_assignments();
        });
    }

    /// A copy of another plan. Throws as check_plan does; the plan is then unchanged.
    void assign(const PlanView<T>& other) {
        check_plan(other);
        reserve(other.n_tokens, other.n_experts, other.n_assignments());
        token_offsets_.assign(other.token_offsets.begin(), other.token_offsets.end());
        experts_.assign(other.experts.begin(), other.experts.end());
        weights_.assign(other.weights.begin(), other.weights.end());
        expert_offsets_.assign(other.expert_offsets.begin(), other.expert_offsets.end());
        tokens_.assign(other.tokens.begin(), other.tokens.end());
        assignments_.assign(other.assignments.begin(), other.assignments.end());
    }

private:
    /// All allocations come first: one that fails leaves the plan as it was.
    void reserve(std::size_t n_tokens, std::size_t n_experts, std::size_t n_assignments) {
        token_offsets_.reserve(n_tokens + 1);
        expert_offsets_.reserve(n_experts + 1);
        experts_.reserve(n_assignments);
        weights_.reserve(n_assignments);
        tokens_.reserve(n_assignments);
        assignments_.reserve(n_assignments);
    }

    template <class Build>
    void fill(std::size_t n_tokens, std::size_t n_experts, std::size_t most, Build&& build) {
        reserve(n_tokens, n_experts, most);
        token_offsets_.resize(n_tokens + 1);
        expert_offsets_.resize(n_experts + 1);
        experts_.resize(most);
        weights_.resize(most);
        tokens_.resize(most);
        assignments_.resize(most);
        const std::size_t n =
            build(PlanStorage<T>{token_offsets_, experts_, weights_, expert_offsets_, tokens_, assignments_});
        experts_.resize(n);
        weights_.resize(n);
        tokens_.resize(n);
        assignments_.resize(n);
    }

    std::vector<Index> token_offsets_;
    std::vector<ExpertId> experts_;
    std::vector<T> weights_;
    std::vector<Index> expert_offsets_;
    std::vector<Index> tokens_;
    std::vector<Index> assignments_;
};

}  // namespace moe::inline MOE_ABI
