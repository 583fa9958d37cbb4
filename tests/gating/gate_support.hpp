#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <moe/gating/gate.hpp>
#include <string>
#include <vector>

namespace moe_test {

/// The experts and weights that a token gate chose.
template <class T>
struct Chosen {
    std::vector<moe::ExpertId> experts;
    std::vector<T> weights;
    bool operator==(const Chosen&) const = default;
};

/// Validates the gate and lets it choose for one token, with memory of exactly the stated sizes, so that the sanitizers
/// see a step beyond; its scratch is full of NaN. An empty `logits` stands for a gate that reads none.
template <class T, class G>
Chosen<T> choose(const G& gate, const std::vector<T>& logits, std::size_t n_experts, moe::TokenContext context = {}) {
    moe::validate_gate(gate, n_experts);
    const std::size_t max = moe::gate_max_per_token(gate, 1, n_experts);
    Chosen<T> chosen{std::vector<moe::ExpertId>(max, -7), std::vector<T>(max, T(-7))};
    std::vector<T> scratch(moe::selection_parts * std::max(n_experts, logits.size()),
                           std::numeric_limits<T>::quiet_NaN());
    std::vector<moe::ExpertId> order(n_experts, -7);
    const std::size_t count =
        moe::select_token<T>(gate, logits, context, {chosen.experts, chosen.weights, scratch, order});
    chosen.experts.resize(count);
    chosen.weights.resize(count);
    return chosen;
}

template <class T, class G>
Chosen<T> choose(const G& gate, const std::vector<T>& logits) {
    return choose(gate, logits, logits.size());
}

/// What a batch gate is told beside its logits.
struct BatchFacts {
    std::vector<std::int32_t> token_ids{};
    std::vector<std::uint8_t> valid{};
    std::uint64_t first_position = 0;
    std::vector<std::uint64_t> positions{};
};

/// The rows that a batch gate leaves, whole: with no_expert and dropped(e).
template <class T>
struct ChosenRows {
    std::size_t max_per_token = 0;
    std::vector<moe::ExpertId> experts;  // (n_tokens, max_per_token)
    std::vector<T> weights;              // (n_tokens, max_per_token)

    /// The experts of token t that have a place, and their weights.
    [[nodiscard]] Chosen<T> kept(std::size_t t) const {
        Chosen<T> chosen;
        for (std::size_t i = t * max_per_token; i < (t + 1) * max_per_token; ++i) {
            if (experts[i] >= 0) {
                chosen.experts.push_back(experts[i]);
                chosen.weights.push_back(weights[i]);
            }
        }
        return chosen;
    }
};

/// Validates a batch gate and lets it choose for the rows of `logits` (n_tokens, n_logits), with memory of exactly the
/// stated sizes; its scratch is full of NaN.
template <class T, class G>
ChosenRows<T> choose_batch(const G& gate, const std::vector<T>& logits, std::size_t n_tokens, std::size_t n_logits,
                           const BatchFacts& facts = {}) {
    const std::size_t n_experts = moe::gate_n_experts(gate, n_logits);
    moe::validate_gate(gate, n_experts);
    const std::size_t max = moe::gate_max_per_token(gate, n_tokens, n_experts);
    ChosenRows<T> rows{max, std::vector<moe::ExpertId>(n_tokens * max, moe::no_expert),
                       std::vector<T>(n_tokens * max, std::numeric_limits<T>::quiet_NaN())};
    std::vector<T> scratch(moe::batch_scratch_size(n_tokens, std::max(n_experts, n_logits)),
                           std::numeric_limits<T>::quiet_NaN());
    std::vector<moe::ExpertId> order(moe::batch_order_size(n_tokens, n_experts, max), -7);
    moe::select_batch<T>(
        gate, moe::view(logits.data(), logits.empty() ? 0 : n_tokens, n_logits),
        {n_experts, moe::view(rows.experts.data(), n_tokens, max), moe::view(rows.weights.data(), n_tokens, max),
         scratch, order, facts.token_ids, facts.valid, facts.first_position, facts.positions});
    const auto kept = std::count_if(rows.experts.begin(), rows.experts.end(), [](moe::ExpertId e) { return e >= 0; });
    moe::ensure(static_cast<std::size_t>(kept) <= moe::gate_max_assignments(gate, n_tokens, n_experts),
                moe::ErrorCode::range, "the gate made ", kept, " assignments, more than it announced");
    return rows;
}

/// The text of the Error that `call` throws, or "no error".
template <class Call>
std::string message_of(const Call& call) {
    try {
        call();
    } catch (const moe::Error& error) {
        return error.what();
    }
    return "no error";
}

}  // namespace moe_test
