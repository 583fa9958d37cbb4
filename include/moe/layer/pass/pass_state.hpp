#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "../../parallel/executor.hpp"
#include "../parts/layer_options.hpp"
#include "pass_layer.hpp"
#include "pass_memory.hpp"
#include "tasks.hpp"

namespace moe::inline MOE_ABI {

/// What the phases of one forward pass share.
template <class T>
struct PassState {
    PassLayer<T> layer;
    MatrixView<const T> x;
    MatrixView<T> y;
    MatrixView<const T> router_input;
    ForwardOptions<T> options;
    PassShape shape;
    PassMemory<T> memory;
    PlanView<T> plan;
    KeptProducts<T> kept{};          ///< asked of the observer once the plan is made
    Residency* residency = nullptr;  ///< of the experts, where there is one and it was asked
    std::size_t n_active = 0;        ///< experts with tokens
    std::size_t n_waves = 1;
    std::size_t hidden_chunk = 1;   ///< panels of a task of the hidden phase
    std::size_t shared_chunk = 1;   ///< the same for the shared experts
    std::size_t output_groups = 0;  ///< groups of panels of the output phase
    std::size_t output_blocks = 0;  ///< blocks of tokens of the same

    /// One a phase, a cache line each.
    struct alignas(buffer_alignment) Queue {
        TaskQueue tasks;
    };
    std::array<Queue, static_cast<std::size_t>(n_phases)> queues;

    [[nodiscard]] TaskQueue& queue(Phase phase) noexcept { return queues[static_cast<unsigned>(phase)].tasks; }

    [[nodiscard]] MatrixView<T> logits() const {
        return view(memory.logits.data(), memory.logits.empty() ? 0 : shape.n_tokens, shape.router_outputs);
    }

    /// As the gate wrote them.
    [[nodiscard]] MatrixView<const ExpertId> choices() const {
        return view(static_cast<const ExpertId*>(memory.chosen.data()), memory.chosen.empty() ? 0 : shape.n_tokens,
                    shape.max_per_token);
    }

    struct Range {
        std::size_t begin;
        std::size_t end;
    };

    /// Entries of expert e whose token is in [begin, end); they are in order of token.
    [[nodiscard]] Range entries(std::size_t e, std::size_t begin, std::size_t end) const {
        const std::size_t from = plan.expert_offsets[e];
        const std::size_t to = plan.expert_offsets[e + 1];
        if (begin == 0 && end == shape.n_tokens) {
            return {from, to};
        }
        const auto tokens = plan.tokens.subspan(from, to - from);
        const auto at = [&](std::size_t token) {
            return from +
                   static_cast<std::size_t>(std::lower_bound(tokens.begin(), tokens.end(), token) - tokens.begin());
        };
        return {at(begin), at(end)};
    }
};

namespace detail {

/// The place from which on experts are brought, and how many.
struct WaveBrings {
    std::size_t first = 0;
    std::size_t count = 0;
};

/// Counts a task as done, also one that throws: others may wait for it, and the error is told when all have ended.
struct CountedTask {
    Countdown& left;
    ~CountedTask() { left.done(); }
};

/// Parts of a panel of the router that is cut into blocks.
[[nodiscard]] inline std::size_t router_parts(const PassShape& shape) noexcept {
    return std::clamp<std::size_t>(
        router_parts_per_worker * shape.n_workers / std::max<std::size_t>(1, shape.router_panels), 1,
        std::max<std::size_t>(1, shape.router_blocks));
}

}  // namespace detail

/// Fills `scratch.rows` with `row(0), row(1), ...`.
template <class T, class Row>
[[nodiscard]] RowPointers point_at(const PanelScratch<T>& scratch, std::size_t count, Row&& row) {
    for (std::size_t r = 0; r < count; ++r) {
        scratch.rows[r] = reinterpret_cast<const std::byte*>(row(r));
    }
    return scratch.rows.first(count);
}

}  // namespace moe::inline MOE_ABI
