#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "../../core/workspace.hpp"
#include "../../experts/ffn.hpp"
#include "../../gating/selection.hpp"
#include "../../parallel/countdown.hpp"
#include "../../routing/plan.hpp"
#include "../../routing/router.hpp"
#include "../parts/residency.hpp"
#include "phase_order.hpp"

namespace moe::inline MOE_ABI {

/// Sizes that decide how much scratch memory a forward pass needs.
struct PassShape {
    std::size_t n_tokens = 0;
    std::size_t n_workers = 0;
    std::size_t n_experts = 0;        ///< null experts included
    std::size_t max_per_token = 0;    ///< 0 when the plan is given
    std::size_t max_assignments = 0;  ///< of the plan to be made, or of the one given
    std::size_t router_outputs = 0;   ///< logits a token; 0 when none are computed
    std::size_t router_panels = 0;
    std::size_t router_blocks = 0;  ///< of k, whose sums are computed one by one for few tokens; 0: never
    std::size_t output_panels = 0;
    std::size_t hidden_stride = 0;        ///< bytes of a row of hidden activations
    std::size_t input_stride = 0;         ///< bytes of an encoded row of x; 0 when x is used as it is
    std::size_t shared_input_stride = 0;  ///< the same for the shared experts, when they need other rows
    std::size_t n_shared = 0;
    std::size_t shared_hidden = 0;  ///< bytes: sum of the hidden strides of the shared experts
    bool shared_gated = false;
    bool mixes = false;  ///< constant experts add a part of x too
    bool batch_gate = false;
    bool plan_given = false;

    /// Whether the product of the router is cut into blocks of k.
    [[nodiscard]] bool cuts_router() const noexcept { return router_blocks > 0 && n_tokens <= few_linear_rows; }

    /// What the scratch of gates is measured in.
    [[nodiscard]] std::size_t selection_part() const noexcept { return (std::max)(n_experts, router_outputs); }
};

/// Experts that are computed together: places [first, end) in the order of work, the first `n_there` of which are in
/// memory. They are neighbours in the order of ids, too.
struct PassWave {
    std::size_t first = 0;
    std::size_t end = 0;
    std::size_t n_there = 0;

    [[nodiscard]] std::size_t n_missing() const noexcept { return end - first - n_there; }
};

/// Scratch of one worker.
template <class T>
struct WorkerMemory {
    PanelScratch<T> panel;
    std::span<T> selection_scratch;       ///< (selection_parts, selection_part)
    std::span<ExpertId> selection_order;  ///< (n_experts)

    [[nodiscard]] static WorkerMemory take(Arena& arena, std::size_t n_experts, std::size_t selection_part) {
        return {PanelScratch<T>::take(arena), arena.take<T>(checked_multiply(selection_parts, selection_part)),
                arena.take<ExpertId>(n_experts)};
    }
};

/// All memory of one forward pass, cut from a workspace. Grows linearly with n_tokens:
/// about n_tokens * (max_per_token * hidden_stride + n_experts * sizeof(T)) bytes.
template <class T>
struct PassMemory {
    std::span<detail::PhaseOrder::Begun> phases_begun;  ///< (n_workers)
    std::span<T> logits;                                ///< (n_tokens, n_logits)
    std::span<T> logit_sums;                            ///< (router_panels, router_blocks, few tokens, Panel<T>::width)
    std::span<Countdown> logits_left;                   ///< (router_panels): parts of a panel that are cut into blocks
    std::span<T> shared_weights;                        ///< (n_tokens, n_shared)
    std::span<T> mixed;           ///< (max_assignments, 2), by expert: the shares of x and constant, if mixed
    std::span<ExpertId> chosen;   ///< (n_tokens, max_per_token)
    std::span<T> chosen_weights;  ///< (n_tokens, max_per_token)
    std::span<T> batch_scratch;
    std::span<ExpertId> batch_order;
    PlanStorage<T> plan;
    std::span<std::size_t> first_task;   ///< (n_experts + 1): by place in the order of work
    std::span<std::size_t> first_panel;  ///< (output_panels + 1): where groups of output panels begin
    std::span<ExpertId> active;          ///< (n_experts): those with tokens
    std::span<std::size_t> order;        ///< (n_experts): in which of those is each place in the order of work
    std::span<WantedExpert> wanted;      ///< (n_experts)
    std::span<PassWave> waves;           ///< (n_experts + 1)
    std::span<Countdown> outputs_left;   ///< (n_experts + 1): of each wave
    std::span<Countdown> hidden_left;    ///< (n_experts + 1): of each active expert, then of all else
    std::span<std::byte> inputs;         ///< (n_tokens, input_stride)
    std::span<std::byte> shared_inputs;  ///< (n_tokens, shared_input_stride)
    std::span<std::byte> hidden;         ///< (max_assignments, hidden_stride), by expert
    std::span<std::byte> shared_hidden;  ///< (n_shared of (n_tokens, its stride))
    std::span<std::byte> workers;        ///< one slice a worker, each of whole cache lines
    std::size_t worker_bytes = 0;
    std::size_t n_experts = 0;
    std::size_t selection_part = 0;

    [[nodiscard]] static PassMemory lay_out(Arena& arena, const PassShape& shape) {
        PassMemory memory;
        const std::size_t t = shape.n_tokens;
        const auto take = [&arena](std::size_t rows, std::size_t cols) {
            return arena.take<T>(checked_multiply(rows, cols));
        };
        const auto take_bytes = [&arena](std::size_t rows, std::size_t stride) {
            return arena.take<std::byte>(checked_multiply(rows, stride));
        };
        memory.phases_begun = arena.take<detail::PhaseOrder::Begun>(shape.n_workers);
        memory.logits = take(t, shape.router_outputs);
        // as much for many tokens, which do not use it: memory for more tokens is enough for fewer
        memory.logit_sums = take(checked_multiply((std::min)(t, few_linear_rows), shape.router_panels),
                                 checked_multiply(shape.router_blocks, Panel<T>::width));
        memory.logits_left = arena.take<Countdown>(shape.router_blocks > 0 ? shape.router_panels : 0);
        memory.shared_weights = take(t, shape.shared_gated ? shape.n_shared : 0);
        memory.mixed = take(shape.max_assignments, shape.mixes ? 2 : 0);
        if (!shape.plan_given) {
            memory.chosen = arena.take<ExpertId>(checked_multiply(t, shape.max_per_token));
            memory.chosen_weights = take(t, shape.max_per_token);
            memory.plan = PlanStorage<T>::take(arena, t, shape.n_experts, shape.max_assignments);
        }
        if (shape.batch_gate) {
            memory.batch_scratch = arena.take<T>(batch_scratch_size(t, shape.selection_part()));
            memory.batch_order = arena.take<ExpertId>(batch_order_size(t, shape.n_experts, shape.max_per_token));
        }
        memory.first_task = arena.take<std::size_t>(shape.n_experts + 1);
        memory.first_panel = arena.take<std::size_t>(shape.output_panels + 1);
        memory.active = arena.take<ExpertId>(shape.n_experts);
        memory.order = arena.take<std::size_t>(shape.n_experts);
        memory.wanted = arena.take<WantedExpert>(shape.n_experts);
        memory.waves = arena.take<PassWave>(shape.n_experts + 1);
        memory.outputs_left = arena.take<Countdown>(shape.n_experts + 1);
        memory.hidden_left = arena.take<Countdown>(shape.n_experts + 1);
        memory.inputs = take_bytes(t, shape.input_stride);
        memory.shared_inputs = take_bytes(t, shape.shared_input_stride);
        memory.hidden = take_bytes(shape.max_assignments, shape.hidden_stride);
        memory.shared_hidden = take_bytes(t, shape.shared_hidden);
        memory.n_experts = shape.n_experts;
        memory.selection_part = shape.selection_part();
        Arena measure;
        (void)WorkerMemory<T>::take(measure, memory.n_experts, memory.selection_part);
        memory.worker_bytes = measure.used();
        memory.workers = take_bytes(shape.n_workers, memory.worker_bytes);
        return memory;
    }

    [[nodiscard]] WorkerMemory<T> worker(std::size_t ith) const {
        Arena arena(workers.data() + ith * worker_bytes, worker_bytes);
        return WorkerMemory<T>::take(arena, n_experts, selection_part);
    }
};

}  // namespace moe::inline MOE_ABI
