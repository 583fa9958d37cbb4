#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "moe/gating/any_gate.hpp"
#include "support/layer_cases.hpp"

namespace moe_test {

class GateCases;

/// What decides on the experts of a token, beside its logits and its id.
enum class Hangs : unsigned char { on_nothing, on_position, on_batch };

/// A gate, and what its documentation promises.
struct Strategy {
    std::string name;
    moe::AnyGate gate;
    std::size_t n_logits = 0;   ///< 0 becomes one an expert
    bool other_logits = false;  ///< they are not those of the experts, be they as many
    Hangs hangs = Hangs::on_nothing;
    bool permutes = true;         ///< tokens in another order are given the same experts, where none are equal
    bool ignores_padding = true;  ///< without its padding a batch is given the same experts
    bool distinct = true;         ///< no expert twice in a token
};

/// Every strategy there is, with settings drawn by lot, and the memory their settings refer to. Link
/// support/strategy_cases.cpp, where all of them are compiled once.
class StrategyCases {
public:
    /// For tokens at positions `first_position` to `first_position + n_tokens - 1`.
    StrategyCases(Draw& draw, std::size_t n_experts, std::size_t n_tokens, std::uint64_t first_position);
    StrategyCases(const StrategyCases&) = delete;
    StrategyCases& operator=(const StrategyCases&) = delete;
    ~StrategyCases();

    [[nodiscard]] const std::vector<Strategy>& all() const { return all_; }
    [[nodiscard]] std::vector<Strategy> those_that_hang(Hangs hangs) const;
    /// Of any strategy.
    [[nodiscard]] std::size_t most_logits() const;

private:
    struct Memory;

    void add(Strategy strategy);
    void add_other_logits();
    void add_positioned();
    void add_trained();
    void add_given(Draw& draw, std::size_t n_tokens, std::uint64_t first_position);
    void add_expert_choices();
    void add_capacity_orders();
    void add_capacity_around();
    void add_capacity_presets();

    std::unique_ptr<Memory> memory_;
    std::size_t n_experts_;
    int k_;
    std::vector<Strategy> all_;
};

}  // namespace moe_test
