#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "moe/gating/adaptors/masked.hpp"
#include "moe/gating/adaptors/without_null.hpp"
#include "moe/gating/any_gate.hpp"
#include "moe/gating/strategies/dense.hpp"
#include "moe/gating/strategies/hash.hpp"
#include "moe/gating/strategies/sparse_mixer.hpp"
#include "moe/gating/strategies/threshold.hpp"
#include "moe/gating/strategies/token_choice.hpp"
#include "moe/gating/strategies/top_k_per_group.hpp"
#include "moe/gating/strategies/top_p.hpp"
#include "support/layer_cases.hpp"

namespace moe_test {

/// A user's gate: every expert whose logit is positive, at most `limit`, weighted with it. Often none.
struct PositiveLogits {
    int limit = 3;
    [[nodiscard]] int max_per_token() const { return limit; }
    int select(std::span<const float> logits, moe::Selection out) const {
        std::size_t count = 0;
        for (std::size_t e = 0; e < logits.size() && count < out.experts.size(); ++e) {
            if (logits[e] > 0) {
                out.experts[count] = static_cast<moe::ExpertId>(e);
                out.weights[count++] = logits[e];
            }
        }
        return static_cast<int>(count);
    }
};
static_assert(moe::TokenGate<PositiveLogits> && moe::TokenGate<PositiveLogits, double>);

/// One token gate of every kind over `n_experts`, and the memory their settings refer to.
class GateCases {
public:
    static constexpr std::size_t vocabulary = 17;

    GateCases(Draw& draw, std::size_t n_experts);
    GateCases(const GateCases&) = delete;
    GateCases& operator=(const GateCases&) = delete;

    [[nodiscard]] const std::vector<moe::AnyGate>& gates() const { return gates_; }

    static std::vector<std::int32_t> token_ids(Draw& draw, std::size_t n_tokens) {
        std::vector<std::int32_t> ids(n_tokens);
        for (std::int32_t& id : ids) {
            id = static_cast<std::int32_t>(draw.size(0, vocabulary - 1));
        }
        return ids;
    }

private:
    void add_token_choices(int k, std::size_t n_experts);
    /// Gates that choose more experts for some tokens than for others, or none.
    void add_variable_counts(int k, std::size_t n_experts);

    std::vector<float> bias_;
    std::vector<float> scale_;
    std::vector<std::int32_t> table_;
    std::vector<std::uint8_t> allowed_;
    std::vector<moe::AnyGate> gates_;
};

}  // namespace moe_test
