#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "moe/layer/parts/observer.hpp"

namespace moe_test {

/// A routing written by hand, as an observer sees it: rows of choices, with dropped(e) where an expert was full.
template <class T>
class HandRecord {
public:
    using Rows = std::vector<std::vector<moe::ExpertId>>;

    /// One weight a choice; none: all 1. Rows may have different lengths.
    HandRecord(std::size_t n_experts, const Rows& rows, const std::vector<std::vector<T>>& weights = {})
        : n_tokens_(rows.size()) {
        for (const auto& row : rows) {
            width_ = std::max(width_, row.size());
        }
        choices_.resize(n_tokens_ * width_, moe::no_expert);
        weights_.resize(n_tokens_ * width_, T(1));
        for (std::size_t t = 0; t < n_tokens_; ++t) {
            std::copy(rows[t].begin(), rows[t].end(), choices_.begin() + static_cast<std::ptrdiff_t>(t * width_));
            if (!weights.empty()) {
                std::copy(weights[t].begin(), weights[t].end(),
                          weights_.begin() + static_cast<std::ptrdiff_t>(t * width_));
            }
        }
        std::vector<moe::ExpertId> kept = choices_;
        std::replace_if(
            kept.begin(), kept.end(), [](moe::ExpertId e) { return e < 0; }, moe::no_expert);
        plan_.assign(moe::view(std::as_const(kept).data(), n_tokens_, width_),
                     moe::view(std::as_const(weights_).data(), n_tokens_, width_), n_experts);
    }

    std::vector<T> logits{};            ///< (n_tokens, any number) or empty
    std::vector<std::uint8_t> valid{};  ///< (n_tokens) or empty

    [[nodiscard]] moe::PlanView<T> plan() const { return plan_; }
    [[nodiscard]] moe::RoutingRecord<T> view() const {
        const std::size_t cols = n_tokens_ == 0 ? 0 : logits.size() / n_tokens_;
        return {plan_, moe::view(logits.data(), cols == 0 ? 0 : n_tokens_, cols),
                moe::view(choices_.data(), n_tokens_, width_), valid};
    }

private:
    std::size_t n_tokens_;
    std::size_t width_ = 0;
    std::vector<moe::ExpertId> choices_;
    std::vector<T> weights_;
    moe::RoutingPlan<T> plan_;
};

}  // namespace moe_test
