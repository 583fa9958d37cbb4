#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <moe/gating/any_gate.hpp>

namespace compare {

/// What a strategy is to choose among.
struct Setting {
    std::size_t n_experts = 0;
    std::size_t top_k = 0;          ///< experts a token of the model: a strategy that has a choice costs as much
    std::uint64_t seed = 0;         ///< of strategies that draw lots; another in every layer
    std::span<const float> bias{};  ///< (n_experts) of the choice, balances the load where one was found; or empty
    std::span<const float> thresholds{};  ///< (n_experts) that let top_k experts a token pass, on average; or empty
    std::size_t vocabulary = 256;         ///< token ids are less than that
};

/// A way to choose experts.
struct Strategy {
    std::string_view name;
    std::string_view description;
    bool causal = true;  ///< a token's experts don't depend on later tokens

    /// Nothing where it can't choose among so many experts. What the setting points to may be gone afterwards.
    std::optional<moe::AnyGate> (*make)(const Setting& setting);
};

/// All that are compared. One takes part by its line in strategies.cpp.
[[nodiscard]] std::span<const Strategy> strategies() noexcept;

/// What is not compared, and why: a few lines.
[[nodiscard]] std::string_view left_out() noexcept;

}  // namespace compare
