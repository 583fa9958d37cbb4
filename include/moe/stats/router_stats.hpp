#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../gating/scores.hpp"
#include "../layer/parts/observer.hpp"
#include "load.hpp"

namespace moe::inline MOE_ABI {

/// What a RouterStats counts beside the choices.
struct RouterStatsOptions {
    /// Number of logits a token whose softmax is studied too, or 0 for none: an exp for each of them, which costs more
    /// than all the rest (70 us for 64 tokens and 128 experts).
    std::size_t n_logits = 0;
    std::size_t tile_rows = 6;  ///< rows of a tile, for padding_efficiency; Panel<float>::tile_rows
};

/// Counts what a router does, cheap enough to be left on: O(experts + assignments) a pass and no allocation, 3 us for
/// 64 tokens of 128 experts, 8 a token. Sums run from construction or reset().
///
/// Tokens that are not valid are not counted; the load of a plan that was given is that of the whole plan. For one
/// layer and one pass at a time: each thread has its own, merged when they are read.
template <class T>
class RouterStats : public Observer<T> {
public:
    using Count = std::uint64_t;

    /// Allocates all it needs. Throws Error(range): no experts, tiles of 0 rows.
    explicit RouterStats(std::size_t n_experts, const RouterStatsOptions& options = {})
        : n_experts_(n_experts), options_(options) {
        ensure(n_experts > 0, ErrorCode::range, "RouterStats: there must be at least 1 expert");
        ensure(options.tile_rows > 0, ErrorCode::range, "RouterStats: tiles of 0 rows");
        counters_.resize(checked_add(n_counters, checked_multiply(n_per_expert, checked_add(n_experts, 1))));
        scores_.resize(options.n_logits);
        marked_.resize(n_experts);
    }

    /// Throws Error(shape), and counts nothing, if the plan is of another number of experts, or there are logits and
    /// not as many as were announced.
    void on_plan(const RoutingRecord<T>& record) override {
        ensure(record.plan.n_experts == n_experts_, ErrorCode::shape, "RouterStats: a plan of ", record.plan.n_experts,
               " experts, this object counts ", n_experts_);
        const bool studied = options_.n_logits > 0 && !record.logits.empty();
        ensure(!studied || record.logits.cols() == options_.n_logits, ErrorCode::shape,
               "RouterStats: ", record.logits.cols(), " logits a token, this object was made for ", options_.n_logits);
        count_load(record.plan);
        count_drops(record);
        for (std::size_t t = 0; t < record.plan.n_tokens; ++t) {
            if (record.valid.empty() || record.valid[t] != 0) {
                count_token(record.plan.weights_of(t));
                if (studied) {
                    study_softmax(record.logits.row_span(t), record.plan.experts_of(t));
                }
            } else {
                ++counters_[padding];
            }
        }
    }

    // ---- what was counted

    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_; }
    [[nodiscard]] const RouterStatsOptions& options() const noexcept { return options_; }
    [[nodiscard]] Count n_passes() const noexcept { return counters_[passes]; }
    [[nodiscard]] Count n_tokens() const noexcept { return counters_[tokens]; }
    [[nodiscard]] Count n_padding() const noexcept { return counters_[padding]; }
    [[nodiscard]] Count n_assignments() const noexcept { return counters_[assignments]; }

    /// (n_experts) assignments of each expert: the counts of load.hpp.
    [[nodiscard]] std::span<const Count> load() const& noexcept { return part(load_part).first(n_experts_); }
    std::span<const Count> load() const&& = delete;  // temporary: give the statistics a name

    /// (n_experts + 1) tokens that got i experts; the last holds those of n_experts and, should a plan name an expert
    /// twice, more.
    [[nodiscard]] std::span<const Count> experts_per_token() const& noexcept { return part(histogram_part); }
    std::span<const Count> experts_per_token() const&& = delete;  // temporary: give the statistics a name

    /// (n_experts) choices that were dropped for want of capacity, by slot: slot 0 is a token's first choice.
    [[nodiscard]] std::span<const Count> drops_by_slot() const& noexcept { return part(slot_part).first(n_experts_); }
    std::span<const Count> drops_by_slot() const&& = delete;  // temporary: give the statistics a name
    /// (n_experts) the same by the expert that was full.
    [[nodiscard]] std::span<const Count> drops_by_expert() const& noexcept { return part(drop_part).first(n_experts_); }
    std::span<const Count> drops_by_expert() const&& = delete;  // temporary: give the statistics a name
    [[nodiscard]] Count n_drops() const noexcept { return counters_[drops]; }

    // ---- what follows from it; NaN where nothing was counted

    /// Dropped choices by all choices, those that were dropped included.
    [[nodiscard]] double drop_rate() const noexcept { return ratio(n_drops(), n_drops() + n_assignments()); }

    /// Mean number of experts of a token, n_assignments / n_tokens.
    [[nodiscard]] double mean_experts_per_token() const noexcept { return ratio(n_assignments(), n_tokens()); }

    /// Share of the tokens that got at least one expert.
    [[nodiscard]] double routed_share() const noexcept {
        return ratio(n_tokens() - experts_per_token().front(), n_tokens());
    }

    /// Mean over tokens of the largest weight, as the gate gave it. Tokens without a finite one are left out.
    [[nodiscard]] double mean_largest_weight() const noexcept {
        return sums_[largest_sum] / static_cast<double>(counters_[weighed]);
    }

    /// MaxVio_batch (2408.15664): max_violation of each pass, averaged over the passes that made assignments.
    [[nodiscard]] double mean_pass_violation() const noexcept {
        return sums_[violation_sum] / static_cast<double>(counters_[busy_passes]);
    }
    /// The greatest max_violation of a pass; MaxVio_global is max_violation(load()).
    [[nodiscard]] double worst_pass_violation() const noexcept {
        return counters_[busy_passes] > 0 ? worst_violation_ : detail::undefined();
    }

    /// padding_efficiency of all passes together: assignments by the rows that tiles of them have.
    [[nodiscard]] double padding_efficiency() const noexcept { return ratio(n_assignments(), counters_[padded_rows]); }

    // ---- the softmax p of the logits, where options().n_logits asks for it; means over tokens whose p is finite

    /// -sum p log p in nats.
    [[nodiscard]] double mean_gate_entropy() const noexcept { return studied_mean(entropy_sum, studied_tokens); }
    /// max p.
    [[nodiscard]] double mean_top_probability() const noexcept { return studied_mean(top_sum, studied_tokens); }
    /// Sum of p over the experts of the token: the mass its top-k have before they are normalised. As the next, only of
    /// as many logits as experts.
    [[nodiscard]] double mean_selected_mass() const noexcept { return studied_mean(mass_sum, massed_tokens); }
    /// The least p among the experts of the token less the greatest among the others, p_K - p_K+1 for a top-k;
    /// negative where the choice looked at more than p. Tokens that have no expert, or all, are left out.
    [[nodiscard]] double mean_selection_margin() const noexcept { return studied_mean(margin_sum, margin_tokens); }

    // ---- drift: how the load changes between two windows of time

    /// Ends the window, which becomes the previous one, and begins the next. Allocates nothing.
    void next_window() noexcept {
        const std::span<Count> start = part(start_part);
        const std::span<Count> previous = part(previous_part);
        for (std::size_t e = 0; e < n_experts_; ++e) {
            previous[e] = load()[e] - start[e];
            start[e] = load()[e];
        }
    }
    /// (n_experts) assignments in the previous window.
    [[nodiscard]] std::span<const Count> previous_window() const& noexcept {
        return part(previous_part).first(n_experts_);
    }
    std::span<const Count> previous_window() const&& = delete;  // temporary: give the statistics a name
    /// The same of the current one. Allocates.
    [[nodiscard]] std::vector<Count> current_window() const {
        std::vector<Count> counts(n_experts_);
        std::transform(load().begin(), load().end(), part(start_part).begin(), counts.begin(), std::minus<>{});
        return counts;
    }
    /// load_distance (total variation) of the two windows; NaN while one is empty. Allocates.
    [[nodiscard]] double drift() const { return moe::load_distance(previous_window(), current_window()); }

    // ---- together with others

    /// All that is counted in whole numbers, and all sums, in an order that depends on n_experts alone: two objects are
    /// merged by adding both element by element and taking the larger worst_pass_violation.
    [[nodiscard]] std::span<const Count> counters() const& noexcept { return counters_; }
    std::span<const Count> counters() const&& = delete;  // temporary: give the statistics a name
    [[nodiscard]] std::span<const double> sums() const& noexcept { return sums_; }
    std::span<const double> sums() const&& = delete;  // temporary: give the statistics a name

    /// Adds what another object has counted, of another thread say. Windows are added to windows. Throws Error(shape)
    /// for another number of experts, logits or rows of a tile.
    void merge(const RouterStats& other) {
        ensure(other.n_experts_ == n_experts_ && other.options_.n_logits == options_.n_logits &&
                   other.options_.tile_rows == options_.tile_rows,
               ErrorCode::shape, "RouterStats: to merge ", other.n_experts_, " experts, ", other.options_.n_logits,
               " logits and tiles of ", other.options_.tile_rows, " rows with ", n_experts_, ", ", options_.n_logits,
               " and ", options_.tile_rows);
        merge(other.counters(), other.sums(), other.worst_violation_);
    }
    /// The same for counters(), sums() and worst_pass_violation() that came from another machine.
    void merge(std::span<const Count> counters, std::span<const double> sums, double worst_violation) {
        ensure(counters.size() == counters_.size() && sums.size() == sums_.size(), ErrorCode::shape,
               "RouterStats: to merge ", counters.size(), " counters and ", sums.size(), " sums with ",
               counters_.size(), " and ", sums_.size());
        std::transform(counters_.begin(), counters_.end(), counters.begin(), counters_.begin(), std::plus<>{});
        std::transform(sums_.begin(), sums_.end(), sums.begin(), sums_.begin(), std::plus<>{});
        worst_violation_ = worst_violation > worst_violation_ ? worst_violation : worst_violation_;
    }

    /// Forgets all, the windows too.
    void reset() noexcept {
        std::fill(counters_.begin(), counters_.end(), Count{0});
        sums_.fill(0);
        worst_violation_ = least_violation;
    }

private:
    enum Counter : std::size_t {
        passes,
        busy_passes,  // with at least one assignment
        tokens,
        padding,
        assignments,
        drops,
        weighed,
        padded_rows,
        studied_tokens,
        massed_tokens,
        margin_tokens,
        n_counters
    };
    enum Sum : std::size_t { largest_sum, violation_sum, entropy_sum, top_sum, mass_sum, margin_sum, n_sums };
    enum Part : std::size_t {
        load_part,
        start_part,  // the load when the window began
        previous_part,
        slot_part,
        drop_part,
        histogram_part,
        n_per_expert
    };
    static constexpr double least_violation = 0;  // max_violation is never below

    [[nodiscard]] static double ratio(Count a, Count b) noexcept {
        return static_cast<double>(a) / static_cast<double>(b);
    }
    [[nodiscard]] double studied_mean(Sum sum, Counter count) const noexcept {
        return sums_[sum] / static_cast<double>(counters_[count]);
    }
    /// (n_experts + 1)
    [[nodiscard]] std::span<Count> part(Part which) noexcept {
        return std::span(counters_).subspan(n_counters + which * (n_experts_ + 1), n_experts_ + 1);
    }
    [[nodiscard]] std::span<const Count> part(Part which) const noexcept {
        return std::span(counters_).subspan(n_counters + which * (n_experts_ + 1), n_experts_ + 1);
    }

    void count_load(const PlanView<T>& plan) noexcept {
        const std::span<Count> total = part(load_part);
        const auto tile = static_cast<Index>(std::min<std::size_t>(options_.tile_rows, max_tile));
        Index most = 0;
        Count tiles = 0;
        for (std::size_t e = 0; e < n_experts_; ++e) {
            const Index n = plan.expert_offsets[e + 1] - plan.expert_offsets[e];
            total[e] += n;
            most = (std::max)(most, n);
            tiles += n / tile + (n % tile != 0 ? 1U : 0U);
        }
        ++counters_[passes];
        counters_[assignments] += plan.n_assignments();
        counters_[padded_rows] += tiles * tile;
        if (plan.n_assignments() > 0) {
            const double mean = static_cast<double>(plan.n_assignments()) / static_cast<double>(n_experts_);
            const double violation = static_cast<double>(most) / mean - 1;
            ++counters_[busy_passes];
            sums_[violation_sum] += violation;
            worst_violation_ = (std::max)(worst_violation_, violation);
        }
    }

    void count_drops(const RoutingRecord<T>& record) noexcept {
        const std::span<Count> by_slot = part(slot_part);
        const std::span<Count> by_expert = part(drop_part);
        for (std::size_t t = 0; t < record.choices.rows(); ++t) {
            const std::span<const ExpertId> row = record.choices.row_span(t);
            for (std::size_t slot = 0; slot < row.size(); ++slot) {
                if (row[slot] < no_expert) {
                    ++by_slot[(std::min)(slot, n_experts_ - 1)];
                    ++by_expert[static_cast<std::size_t>(dropped(row[slot]))];
                    ++counters_[drops];
                }
            }
        }
    }

    void count_token(std::span<const T> weights) noexcept {
        ++counters_[tokens];
        ++part(histogram_part)[(std::min)(weights.size(), n_experts_)];
        T largest = -std::numeric_limits<T>::infinity();
        for (const T weight : weights) {
            largest = weight > largest ? weight : largest;
        }
        if (std::isfinite(largest)) {
            ++counters_[weighed];
            sums_[largest_sum] += static_cast<double>(largest);
        }
    }

    void study_softmax(std::span<const T> logits, std::span<const ExpertId> experts) noexcept {
        Softmax{}(logits, std::span<T>(scores_));
        double entropy = 0;
        double top = 0;
        for (const T p : scores_) {
            entropy -= detail::times_log(static_cast<double>(p));
            top = (std::max)(top, static_cast<double>(p));
        }
        if (!std::isfinite(scores_.front())) {  // one NaN, or infinity as the maximum, makes NaN of all
            return;
        }
        ++counters_[studied_tokens];
        sums_[entropy_sum] += entropy;
        sums_[top_sum] += top;
        if (logits.size() == n_experts_) {
            study_selected(experts);
        }
    }

    void study_selected(std::span<const ExpertId> experts) noexcept {
        std::fill(marked_.begin(), marked_.end(), std::uint8_t{0});
        for (const ExpertId e : experts) {
            marked_[static_cast<std::size_t>(e)] = 1;
        }
        double mass = 0;
        double least = std::numeric_limits<double>::infinity();
        double greatest = -least;
        for (std::size_t e = 0; e < n_experts_; ++e) {
            const auto p = static_cast<double>(scores_[e]);
            if (marked_[e] != 0) {
                mass += p;
                least = (std::min)(least, p);
            } else {
                greatest = (std::max)(greatest, p);
            }
        }
        ++counters_[massed_tokens];
        sums_[mass_sum] += mass;
        if (std::isfinite(least - greatest)) {
            ++counters_[margin_tokens];
            sums_[margin_sum] += least - greatest;
        }
    }

    static constexpr std::size_t max_tile = (std::numeric_limits<Index>::max)();

    std::size_t n_experts_;
    RouterStatsOptions options_;
    std::vector<Count> counters_;
    std::array<double, n_sums> sums_{};
    double worst_violation_ = least_violation;
    std::vector<T> scores_;             // (n_logits)
    std::vector<std::uint8_t> marked_;  // (n_experts) 1 for the experts of the token at hand
};

}  // namespace moe::inline MOE_ABI
