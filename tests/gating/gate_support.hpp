#pragma once

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
    std::vector<T> scratch(4 * n_experts, std::numeric_limits<T>::quiet_NaN());
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

/// The text of the Error that `call` throws, or "no error".
template <class Call>
std::string error_of(const Call& call) {
    try {
        call();
    } catch (const moe::Error& error) {
        return error.what();
    }
    return "no error";
}

}  // namespace moe_test
