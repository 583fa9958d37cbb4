#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "../../kernels/outer_product.hpp"
#include "../../layer/pass/pass_memory.hpp"
#include "../parts/gradients.hpp"
#include "../parts/tape.hpp"
#include "backward_layer.hpp"

namespace moe::inline MOE_ABI {

/// What may change from call to call of the backward pass.
struct BackwardOptions {
    bool accumulate_dx = false;  ///< dx += instead of dx =
    bool through_router =
        true;  ///< dx has what flows through the logits; the router's own gradients do not depend on it
};

/// Rows that go through one expert: those of a routed expert, by token, or all tokens that reach a shared one.
struct BackwardGroup {
    std::size_t expert;  ///< in its bank
    std::size_t first;   ///< entry of its first row
    std::size_t count;
    std::size_t shared;  ///< which of the shared experts, or none
    std::size_t offset;  ///< of its rows in BackwardMemory::rows

    static constexpr std::size_t none = static_cast<std::size_t>(-1);
};

/// All memory of a backward pass, cut from a workspace. An entry is a row of a group.
template <class T>
struct BackwardMemory {
    std::span<BackwardGroup> groups;    ///< (n_experts + n_shared)
    std::span<Index> tokens;            ///< (entries)
    std::span<T> input;                 ///< (entries) what x is multiplied with
    std::span<T> scale;                 ///< (entries) what dy is multiplied with
    std::span<const T*> x;              ///< (entries) rows
    std::span<const T*> dy;             ///< (entries) rows
    std::span<T*> hidden;               ///< (entries) rows of padded_d_ff
    std::span<T*> d_gate;               ///< (entries)
    std::span<T*> d_up;                 ///< (entries)
    std::span<T> dots;                  ///< (entries, strips)
    std::span<T> rows;                  ///< what the three point into
    std::span<Index> entry_of;          ///< (n_assignments)
    std::span<T> d_logits;              ///< (n_tokens, n_logits)
    std::span<T> d_shared;              ///< (n_tokens, n_shared) of the logits of shared gates
    std::span<T> gamma;                 ///< (n_tokens, n_shared) sigmoids of these logits
    std::span<ExpertId> dropped;        ///< (n_tokens, max_per_token) experts that a token lost
    std::span<const T*> router_rows;    ///< (n_tokens) of the router's input, padding left out
    std::span<const T*> d_logit_rows;   ///< (n_tokens) the same of d_logits
    std::span<const T*> x_rows;         ///< (n_tokens) the same of x
    std::span<const T*> d_shared_rows;  ///< (n_tokens)
    std::span<std::byte> workers;
    std::size_t worker_bytes = 0;
    std::size_t strips = 0;  ///< of the widest expert
};

/// Strips of hidden columns that a task takes at most: rows of dy are fetched from far memory for the first and found
/// in the first caches by the others.
inline constexpr std::size_t max_strips = 4;

/// Scratch of one worker.
template <class T>
struct BackwardScratch {
    PanelScratch<T> panel;
    OuterScratch<T> outer;
    std::span<T> gate;       ///< (max_strips, max_task_rows, width)
    std::span<T> up;         ///< the same
    std::span<T> selection;  ///< of the gate

    [[nodiscard]] static BackwardScratch take(Arena& arena, std::size_t selection_part) {
        const std::size_t block = max_strips * max_task_rows * Panel<T>::width;
        return {PanelScratch<T>::take(arena), OuterScratch<T>::take(arena), arena.take<T>(block), arena.take<T>(block),
                arena.take<T>(backward_scratch_size(selection_part))};
    }
};

namespace detail {

/// Rows as products take them, in the scratch of the worker.
template <class T>
[[nodiscard]] RowPointers as_bytes(std::span<const T* const> rows, const PanelScratch<T>& scratch) {
    for (std::size_t r = 0; r < rows.size(); ++r) {
        scratch.rows[r] = reinterpret_cast<const std::byte*>(rows[r]);
    }
    return scratch.rows.first(rows.size());
}

}  // namespace detail

/// What the phases of a backward pass share. They run in order, all workers done with one before the next begins:
/// hidden values and their derivatives (StripPhase), weights and logits (TokenPhase), dx (InputPhase), parameters
/// (ParameterPhase). Equations: see reference/backward/. Every number is summed by one worker in one order, whatever
/// their number.
template <class T>
struct BackwardState {
    const BackwardLayer<T>& layer;
    const Tape<T>& tape;
    PlanView<T> plan;
    MatrixView<const T> dy;
    MatrixView<T> dx;
    const LayerGradients<T>& gradients;
    BackwardOptions options;
    BackwardMemory<T> memory;
    std::size_t n_groups = 0;
    std::size_t n_router_rows = 0;  ///< tokens that are no padding
    std::size_t n_shared_rows = 0;  ///< tokens whose gradient reaches shared experts
    std::size_t selection_part = 0;

    [[nodiscard]] std::size_t n_tokens() const noexcept { return dy.rows(); }
    [[nodiscard]] std::size_t n_real() const noexcept { return layer.experts.n_experts(); }
    [[nodiscard]] std::size_t n_shared() const noexcept { return layer.pass.shared.size(); }
    [[nodiscard]] BackwardExperts<T> experts_of(const BackwardGroup& group) const {
        return group.shared == BackwardGroup::none ? layer.experts : layer.shared(group.shared);
    }
    /// What the tape kept of the products of these experts, a row for each kept_row(); or nothing.
    [[nodiscard]] std::span<const T> products_of(const BackwardGroup& group) const {
        if (group.shared == BackwardGroup::none) {
            return tape.products().routed;
        }
        std::span<const T> kept = tape.products().shared;
        for (std::size_t s = 0; s < group.shared && !kept.empty(); ++s) {
            kept = kept.subspan(n_tokens() * layer.shared(s).layout().kept_values());
        }
        return kept;
    }
    [[nodiscard]] std::size_t kept_row(const BackwardGroup& group, std::size_t entry) const {
        return group.shared == BackwardGroup::none ? entry : static_cast<std::size_t>(memory.tokens[entry]);
    }
    [[nodiscard]] bool weighs_input() const noexcept { return layer.pass.options->weight_at == WeightAt::input; }
    /// Shared experts compute padding, too: it counts where a gradient comes from it, else 0 times what stands in it
    /// might be NaN.
    [[nodiscard]] bool reaches_shared(std::size_t t) const {
        const T* const row = dy.row(t);
        return tape.is_valid(t) || std::any_of(row, row + dy.cols(), [](T value) { return value != 0; });
    }
    [[nodiscard]] BackwardScratch<T> scratch(std::size_t ith) const {
        Arena arena(memory.workers.data() + ith * memory.worker_bytes, memory.worker_bytes);
        return BackwardScratch<T>::take(arena, selection_part);
    }
    /// Entries of a group whose token is in [begin, end).
    [[nodiscard]] detail::OuterRange entries(const BackwardGroup& group, std::size_t begin, std::size_t end) const {
        const auto all = memory.tokens.subspan(group.first, group.count);
        const auto from = std::lower_bound(all.begin(), all.end(), begin);
        const auto to = std::lower_bound(from, all.end(), end);
        return {group.first + static_cast<std::size_t>(from - all.begin()), static_cast<std::size_t>(to - from)};
    }
};

}  // namespace moe::inline MOE_ABI
