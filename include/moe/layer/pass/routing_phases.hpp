#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <memory>
#include <span>

#include "hidden_tasks.hpp"
#include "work_order.hpp"

namespace moe::inline MOE_ABI::detail {

/// Tokens of one task that quantises inputs.
inline constexpr std::size_t encoded_tokens = 16;

/// Phase::logits: the products of the router and of the gates of shared experts; inputs encoded for experts that
/// multiply integers or bfloat16, which waits for nothing either.
template <class T>
class LogitsPhase {
public:
    explicit LogitsPhase(PassState<T>& pass) : pass_(pass), shape_(pass.shape) {}

    void work(std::size_t ith) const;

private:
    static constexpr std::size_t tasks_per_worker = 4;

    struct Tokens {
        std::size_t first;
        std::size_t count;
    };

    /// Few tokens are one block, and the panels are shared out; many are blocks enough for all workers.
    [[nodiscard]] std::size_t rows_per_task() const noexcept {
        const std::size_t even = divide_up(shape_.n_tokens, tasks_per_worker * shape_.n_workers);
        return std::clamp<std::size_t>(round_up(even, Panel<T>::tile_rows), 4 * Panel<T>::tile_rows, max_task_rows);
    }

    static void multiply(const LinearRef<T>& linear, std::size_t first_panel, std::size_t together, Tokens tokens,
                         MatrixView<const T> x, T* y, std::size_t stride, const PanelScratch<T>& scratch) {
        const RowPointers rows =
            point_at(scratch, tokens.count, [&](std::size_t r) { return x.row(tokens.first + r); });
        linear.compute_panels({first_panel, (std::min)(together, linear.panels() - first_panel)}, rows,
                              y + tokens.first * stride, stride, scratch);
    }

    /// Some blocks of a panel of the router, for all of the few tokens; whoever does the last part adds them up.
    void multiply_part(std::size_t task, const PanelScratch<T>& scratch) const {
        const LinearRef<T>& linear = pass_.layer.router;
        const std::size_t parts = router_parts(shape_);
        const std::size_t panel = task / parts;
        const std::size_t first = shape_.router_blocks * (task % parts) / parts;
        const std::size_t end = shape_.router_blocks * (task % parts + 1) / parts;
        const std::size_t block = shape_.n_tokens * Panel<T>::width;
        T* const sums = pass_.memory.logit_sums.data() + panel * shape_.router_blocks * block;
        const RowPointers rows =
            point_at(scratch, shape_.n_tokens, [&](std::size_t r) { return pass_.router_input.row(r); });
        linear.compute_blocks(panel, first, end, rows, sums + first * block, scratch);
        if (pass_.memory.logits_left[panel].done()) {
            linear.add_blocks(panel, shape_.router_blocks, shape_.n_tokens, sums, pass_.memory.logits.data(),
                              shape_.router_outputs);
        }
    }

    void encode_tokens(std::size_t first) const {
        if constexpr (std::is_same_v<T, float>) {
            const std::size_t end = (std::min)(first + encoded_tokens, shape_.n_tokens);
            for (std::size_t t = first; t < end; ++t) {
                if (shape_.input_stride > 0) {
                    pass_.layer.experts.activations().encode_row(pass_.x.cols(), pass_.x.row(t),
                                                                 pass_.memory.inputs.data() + t * shape_.input_stride);
                }
                if (shape_.shared_input_stride > 0) {
                    pass_.layer.shared[0].activations().encode_row(
                        pass_.x.cols(), pass_.x.row(t),
                        pass_.memory.shared_inputs.data() + t * shape_.shared_input_stride);
                }
            }
        }
    }

    PassState<T>& pass_;
    const PassShape& shape_;
};

template <class T>
void LogitsPhase<T>::work(std::size_t ith) const {
    const PanelScratch<T> scratch = pass_.memory.worker(ith).panel;
    const std::size_t rows = rows_per_task();
    const std::size_t blocks = divide_up(shape_.n_tokens, rows);
    const std::size_t together = blocks >= tasks_per_worker * shape_.n_workers ? max_task_panels : 1;
    const std::size_t router =
        shape_.cuts_router() ? shape_.router_panels * router_parts(shape_) : divide_up(shape_.router_panels, together);
    const std::size_t gates = shape_.shared_gated ? divide_up(pass_.layer.shared.gate().panels(), together) : 0;
    const std::size_t products = blocks * (router + gates);
    const bool encodes = shape_.input_stride + shape_.shared_input_stride > 0;
    const std::size_t n_tasks = products + (encodes ? divide_up(shape_.n_tokens, encoded_tokens) : 0);
    TaskQueue& queue = pass_.queue(Phase::logits);
    for (std::size_t task = queue.take(); task < n_tasks; task = queue.take()) {
        const std::size_t first = task % blocks * rows;
        const Tokens tokens{first, (std::min)(rows, shape_.n_tokens - (std::min)(first, shape_.n_tokens))};
        if (task >= products) {
            encode_tokens((task - products) * encoded_tokens);
        } else if (task < router && shape_.cuts_router()) {
            multiply_part(task, scratch);
        } else if (task / blocks < router) {
            multiply(pass_.layer.router, task / blocks * together, together, tokens, pass_.router_input,
                     pass_.memory.logits.data(), shape_.router_outputs, scratch);
        } else {
            multiply(pass_.layer.shared.gate(), (task / blocks - router) * together, together, tokens, pass_.x,
                     pass_.memory.shared_weights.data(), shape_.n_shared, scratch);
        }
    }
}

/// Phase::gating: the gate chooses, token by token or for the whole batch.
template <class T>
class GatingPhase {
public:
    explicit GatingPhase(PassState<T>& pass) : pass_(pass), shape_(pass.shape), memory_(pass.memory) {}

    void work(std::size_t ith) const;

private:
    void choose_for_token(std::size_t t, const WorkerMemory<T>& worker) const {
        const std::size_t k = shape_.max_per_token;
        const auto experts = memory_.chosen.subspan(t * k, k);
        std::fill(experts.begin(), experts.end(), no_expert);  // should the gate throw, a host may still go on
        if (!pass_.options.valid.empty() && pass_.options.valid[t] == 0) {
            return;
        }
        const std::span<const T> row = memory_.logits.empty() ? std::span<const T>{} : pass_.logits().row_span(t);
        const TokenContext context{
            pass_.options.token_ids.empty() ? -1 : pass_.options.token_ids[t],
            pass_.options.positions.empty() ? pass_.options.first_position + t : pass_.options.positions[t]};
        const std::size_t n = pass_.layer.gate.select_token(
            row, context,
            {experts, memory_.chosen_weights.subspan(t * k, k), worker.selection_scratch, worker.selection_order});
        std::fill(experts.begin() + static_cast<std::ptrdiff_t>(n), experts.end(), no_expert);
    }

    void choose_for_batch() const {
        std::fill(memory_.chosen.begin(), memory_.chosen.end(), no_expert);
        pass_.layer.gate.select_batch(
            pass_.logits(), {shape_.n_experts, view(memory_.chosen.data(), shape_.n_tokens, shape_.max_per_token),
                             view(memory_.chosen_weights.data(), shape_.n_tokens, shape_.max_per_token),
                             memory_.batch_scratch, memory_.batch_order, pass_.options.token_ids, pass_.options.valid,
                             pass_.options.first_position, pass_.options.positions});
    }

    PassState<T>& pass_;
    const PassShape& shape_;
    const PassMemory<T>& memory_;
};

template <class T>
void GatingPhase<T>::work(std::size_t ith) const {
    if (ith == 0) {
        for (T& weight : memory_.shared_weights) {
            weight = math::sigmoid(weight);
        }
    }
    if (shape_.plan_given) {
        return;
    }
    if (shape_.batch_gate) {
        return ith == 0 ? choose_for_batch() : void();
    }
    const WorkerMemory<T> worker = memory_.worker(ith);
    TaskQueue& queue = pass_.queue(Phase::gating);
    for (std::size_t t = queue.take(); t < shape_.n_tokens; t = queue.take()) {
        choose_for_token(t, worker);
    }
}

/// Cuts the output panels into groups, large ones first: each takes its share of what is left, so that the last are
/// single panels and all workers end together.
template <class T>
void group_output_panels(PassState<T>& pass, bool few) {
    const std::size_t panels = pass.shape.output_panels;
    std::size_t panel = 0;
    pass.output_groups = 0;
    while (panel < panels) {
        pass.memory.first_panel[pass.output_groups++] = panel;
        const std::size_t left = panels - panel;
        panel += few ? std::bit_floor(std::clamp<std::size_t>(left / pass.shape.n_workers, 1, max_task_panels))
                     : std::clamp<std::size_t>(left / (2 * pass.shape.n_workers), 1, max_task_panels);
    }
    pass.memory.first_panel[pass.output_groups] = panels;
    // A panel reads the weights of every expert once: cut the tokens only when there are too few panels to share.
    constexpr std::size_t tasks_per_worker = 4;
    const std::size_t wanted = divide_up(pass.shape.n_workers * tasks_per_worker, std::max<std::size_t>(1, panels));
    pass.output_blocks = std::clamp<std::size_t>(pass.shape.n_tokens / max_task_rows, 1, wanted);
    for (std::size_t w = 0; w < pass.n_waves; ++w) {
        std::construct_at(&pass.memory.outputs_left[w], pass.output_groups * pass.output_blocks);
    }
}

/// Phase::plan: sorts the choices by expert and cuts the next phases into tasks. One worker, O(assignments).
template <class T>
void make_plan(PassState<T>& pass) {
    const PassShape& shape = pass.shape;
    PassMemory<T>& memory = pass.memory;
    if (!shape.plan_given) {
        const std::size_t k = shape.max_per_token;
        const auto unset = std::count_if(memory.chosen.begin(), memory.chosen.end(), [](ExpertId e) { return e < 0; });
        const std::size_t n = memory.chosen.size() - static_cast<std::size_t>(unset);
        ensure(n <= shape.max_assignments, ErrorCode::range, pass.layer.name, ": the gate chose ", n,
               " assignments, more than the ", shape.max_assignments, " it announced");
        pass.plan = build_plan<T>(MatrixView<const ExpertId>(memory.chosen.data(), shape.n_tokens, k, k),
                                  MatrixView<const T>(memory.chosen_weights.data(), shape.n_tokens, k, k),
                                  shape.n_experts, memory.plan);
    }
    const auto blocks_of = [&pass](std::size_t e) {
        return divide_up(std::size_t{pass.plan.expert_offsets[e + 1] - pass.plan.expert_offsets[e]}, max_task_rows);
    };
    const std::size_t n_experts = pass.layer.experts.n_experts();
    const std::size_t panels = pass.layer.experts.layout().hidden_panels();
    std::size_t blocks = 0;
    std::size_t active = 0;
    for (std::size_t e = 0; e < n_experts; ++e) {
        blocks += blocks_of(e);
        active += blocks_of(e) > 0 ? std::size_t{1} : 0;
    }
    const std::size_t rows = divide_up(pass.plan.n_assignments(), std::max<std::size_t>(active, 1));
    pass.hidden_chunk = panels_per_task(blocks * panels, shape.n_workers, rows);
    std::size_t shared_panels = 0;
    for (std::size_t s = 0; s < pass.layer.shared.size(); ++s) {
        shared_panels += pass.layer.shared[s].layout().hidden_panels();
    }
    pass.shared_chunk =
        panels_per_task(divide_up(shape.n_tokens, max_task_rows) * shared_panels, shape.n_workers, shape.n_tokens);
    pass.n_active = 0;
    for (std::size_t e = 0; e < n_experts; ++e) {
        if (blocks_of(e) > 0) {
            memory.active[pass.n_active++] = static_cast<ExpertId>(e);
        }
    }
    order_experts(pass);
    list_hidden_tasks(pass, [&](std::size_t i) {
        return blocks_of(static_cast<std::size_t>(memory.active[i])) * divide_up(panels, pass.hidden_chunk);
    });
    std::construct_at(&memory.hidden_left[pass.n_active], n_other_tasks(pass));
    group_output_panels(pass, rows <= few_rows);
}

}  // namespace moe::inline MOE_ABI::detail
