#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <moe/core/matrix_view.hpp>

#include "logits.hpp"

namespace compare {

/// Tokens for which a router has the logits one wants: normal values, moved by the least that gives these logits.
class SpeedInput {
public:
    /// `router` (n_experts, d_model) with independent rows; enough rows for the largest of `tokens`.
    SpeedInput(moe::MatrixView<const float> router, Distribution distribution, std::span<const std::size_t> tokens,
               std::uint64_t seed);

    /// Different batches of so many tokens: each call gets the next, and so other experts.
    [[nodiscard]] std::size_t batches(std::size_t tokens) const noexcept { return ids_.size() / tokens; }

    /// (tokens, d_model), and their ids, below 256. The first token is the same whatever their number.
    [[nodiscard]] moe::MatrixView<const float> x(std::size_t tokens, std::size_t batch) const;
    [[nodiscard]] std::span<const std::int32_t> ids(std::size_t tokens, std::size_t batch) const;

private:
    std::size_t d_model_;
    std::vector<float> x_;
    std::vector<std::int32_t> ids_;
};

}  // namespace compare
