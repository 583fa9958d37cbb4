#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace bench {

/// The sizes of one MoE layer of a released model.
struct Shape {
    std::string_view name;
    std::size_t n_experts = 0;
    std::size_t top_k = 0;
    std::size_t d_model = 0;
    std::size_t d_ff = 0;
    std::size_t shared_d_ff = 0;  ///< width of all shared experts together; 0: none
    bool slice = false;           ///< the real layer is larger than most memories: as many of its experts as fit
    bool tiny = false;            ///< for tests of the program; named explicitly or not at all

    /// Weights of one routed expert, and of the shared ones.
    [[nodiscard]] std::size_t expert_weights() const noexcept { return 3 * d_model * d_ff; }
    [[nodiscard]] std::size_t shared_weights() const noexcept { return 3 * d_model * shared_d_ff; }
    [[nodiscard]] std::size_t weights() const noexcept { return n_experts * expert_weights() + shared_weights(); }

    /// Operations (a multiplication and an addition are two) of the experts for a batch.
    [[nodiscard]] double operations(std::size_t tokens) const noexcept {
        return 2.0 * static_cast<double>(tokens) * static_cast<double>(top_k * expert_weights() + shared_weights());
    }
};

[[nodiscard]] std::span<const Shape> shapes() noexcept;

/// Null for a name there is none of.
[[nodiscard]] const Shape* find_shape(std::string_view name) noexcept;

}  // namespace bench
