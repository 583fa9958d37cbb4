#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "../core/matrix_view.hpp"
#include "../layer/parts/observer.hpp"

namespace moe::inline MOE_ABI {

/// Counts which experts are chosen together: for every pair, the tokens that go to both. Experts that often share
/// tokens may be redundant, or belong on one machine. O(n_tokens * K^2) a pass, 8 E^2 bytes, no allocation after
/// construction. Tokens that are not valid are not counted. For one layer and one pass at a time.
template <class T>
class CoActivation : public Observer<T> {
public:
    using Count = std::uint64_t;

    /// Throws Error: no experts (range), n_experts^2 that does not fit (overflow).
    explicit CoActivation(std::size_t n_experts) : n_experts_(n_experts) {
        ensure(n_experts > 0, ErrorCode::range, "CoActivation: there must be at least 1 expert");
        counts_.resize(checked_multiply(n_experts, n_experts));
    }

    /// Throws Error(shape), and counts nothing, if the plan is of another number of experts.
    void on_plan(const RoutingRecord<T>& record) override {
        ensure(record.plan.n_experts == n_experts_, ErrorCode::shape, "CoActivation: a plan of ", record.plan.n_experts,
               " experts, this object counts ", n_experts_);
        for (std::size_t t = 0; t < record.plan.n_tokens; ++t) {
            if (record.valid.empty() || record.valid[t] != 0) {
                count_token(record.plan.experts_of(t));
            }
        }
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return n_experts_; }

    /// (n_experts, n_experts), symmetric: tokens that go to both i and j; on the diagonal, tokens that go to i. A token
    /// whose plan names an expert twice counts once.
    [[nodiscard]] MatrixView<const Count> counts() const& {
        return {counts_.data(), n_experts_, n_experts_, n_experts_};
    }
    MatrixView<const Count> counts() const&& = delete;  // temporary: give the counter a name

    /// C_ij = N_ij / N_i, the share of the tokens of i that go to j too: expert co-activation of Muennighoff et al.
    /// 2024, "OLMoE" (2409.02060, section 5). 1 for j = i; NaN for an expert without tokens.
    [[nodiscard]] double conditional(std::size_t i, std::size_t j) const {
        return static_cast<double>(count(i, j)) / static_cast<double>(count(i, i));
    }

    /// Adds what another object has counted. Throws Error(shape) for another number of experts.
    void merge(const CoActivation& other) {
        ensure(other.n_experts_ == n_experts_, ErrorCode::shape, "CoActivation: to merge ", other.n_experts_,
               " experts with ", n_experts_);
        std::transform(counts_.begin(), counts_.end(), other.counts_.begin(), counts_.begin(), std::plus<>{});
    }

    void reset() noexcept { std::fill(counts_.begin(), counts_.end(), Count{0}); }

private:
    [[nodiscard]] Count count(std::size_t i, std::size_t j) const { return counts_[i * n_experts_ + j]; }

    void count_token(std::span<const ExpertId> experts) noexcept {
        for (std::size_t a = 0; a < experts.size(); ++a) {
            if (!is_first(experts, a)) {
                continue;
            }
            const auto i = static_cast<std::size_t>(experts[a]);
            ++counts_[i * n_experts_ + i];
            for (std::size_t b = 0; b < a; ++b) {
                if (is_first(experts, b)) {
                    const auto j = static_cast<std::size_t>(experts[b]);
                    ++counts_[i * n_experts_ + j];
                    ++counts_[j * n_experts_ + i];
                }
            }
        }
    }

    /// Whether no earlier slot names the expert of this one.
    [[nodiscard]] static bool is_first(std::span<const ExpertId> experts, std::size_t slot) noexcept {
        const auto end = experts.begin() + static_cast<std::ptrdiff_t>(slot);
        return std::find(experts.begin(), end, experts[slot]) == end;
    }

    std::size_t n_experts_;
    std::vector<Count> counts_;
};

}  // namespace moe::inline MOE_ABI
