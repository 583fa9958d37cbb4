#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "../parallel/executor.hpp"
#include "layer_options.hpp"
#include "pass_memory.hpp"
#include "shared_experts.hpp"

namespace moe::inline MOE_ABI {

/// One forward pass of a layer, cut into phases. MoELayer::forward drives it with an executor; a host with threads of
/// its own gets it from MoELayer::prepare and calls run_phase(phase, ith, nth) from each of them, with a barrier after
/// every phase. Workers take tasks from a queue; who computes what never changes a bit of the result.
///
/// Each element of y is written by one task, which adds the experts of the token in ascending order of expert id (of
/// one id, in slot order), then the shared experts: no buffer of single outputs, and one fixed order for any batch.
template <class Layer>
class ForwardPass {
public:
    using T = typename Layer::value_type;

    /// Lays out the workspace (the only allocation, if it must grow). `plan` null: route; else use that one. A `y`
    /// without columns: only route. To be run once.
    ForwardPass(const Layer& layer, MatrixView<const T> x, MatrixView<T> y, const PlanView<T>* plan,
                Workspace& workspace, std::size_t n_workers, const ForwardOptions<T>& options)
        : layer_(&layer),
          x_(x),
          y_(y),
          router_input_(options.router_input.cols() == 0 ? x : options.router_input),
          options_(options),
          shape_(layer.pass_shape(x.rows(), n_workers, plan, y.cols() == 0)) {
        Arena measure;
        (void)PassMemory<T>::lay_out(measure, shape_);
        workspace.reserve(measure.used());
        Arena arena = workspace.arena();
        memory_ = PassMemory<T>::lay_out(arena, shape_);
        if (plan != nullptr) {
            plan_ = *plan;
        }
    }

    [[nodiscard]] std::size_t n_workers() const noexcept { return shape_.n_workers; }
    [[nodiscard]] const PlanView<T>& plan() const noexcept { return plan_; }

    /// The work of worker `ith` of `nth` in one phase, 1 <= nth <= n_workers(). Any number of threads may run the same
    /// phase; all must be done before one starts the next. Errors of the gate or an observer are thrown here.
    void run_phase(Phase phase, std::size_t ith, std::size_t nth) {
        check_worker(ith, nth);
        if (ith == 0 && options_.observer != nullptr) {
            options_.observer->on_phase_begin(phase);
        }
        work(phase, ith);
        if (ith == 0 && options_.observer != nullptr) {
            finish_observed(phase);
        }
    }

    /// Phases first to last, each on all workers of `executor`.
    void run(const ExecutorRef& executor, Phase first, Phase last) {
        for (int p = static_cast<int>(first); p <= static_cast<int>(last); ++p) {
            const auto phase = static_cast<Phase>(p);
            if (options_.observer != nullptr) {
                options_.observer->on_phase_begin(phase);
            }
            if (is_serial(phase)) {
                work(phase, 0);
            } else {
                executor.run([&](std::size_t ith, std::size_t nth) {
                    check_worker(ith, nth);  // an executor of somebody else may have grown since it was asked
                    work(phase, ith);
                });
            }
            if (options_.observer != nullptr) {
                finish_observed(phase);
            }
        }
    }

private:
    void check_worker(std::size_t ith, std::size_t nth) const {
        require(ith < nth && nth <= shape_.n_workers, ErrorCode::range, "ForwardPass: worker ", ith, " of ", nth,
                ", the pass was prepared for ", shape_.n_workers);
    }

    /// Whether a phase is done sooner by the calling thread alone than by waking the others. 2^17 products take some 5
    /// us from the cache and 50 us from memory; a parallel region costs 2 us where all its threads have a processor
    /// each, and milliseconds where they have not, which for a tiny model is the difference between fast and unusable.
    [[nodiscard]] bool is_serial(Phase phase) const noexcept {
        constexpr std::size_t few_products = std::size_t{1} << 17U;
        constexpr std::size_t few_tokens = 16;
        switch (phase) {
            case Phase::logits:
                return shape_.n_tokens * (shape_.router_outputs + shape_.n_shared) * router_input_.cols() <
                       few_products;
            case Phase::gating: return shape_.batch_gate || shape_.n_tokens <= few_tokens;
            case Phase::plan: return true;
            case Phase::hidden:
            case Phase::output: break;
        }
        const std::size_t hidden =
            plan_.n_assignments() * shape_.hidden_stride + shape_.n_tokens * shape_.shared_hidden;
        return 2 * hidden * x_.cols() < few_products;
    }

    void finish_observed(Phase phase) {
        options_.observer->on_phase_end(phase);
        if (phase == Phase::plan) {
            options_.observer->on_plan(plan_, logits());
        }
    }

    void work(Phase phase, std::size_t ith) {
        if (shape_.n_tokens == 0 && phase != Phase::plan) {
            return;
        }
        switch (phase) {
            case Phase::logits: return compute_logits(ith);
            case Phase::gating: return choose_experts(ith);
            case Phase::plan: return ith == 0 ? make_plan() : void();
            case Phase::hidden: return compute_hidden_tasks(ith);
            case Phase::output: return compute_output_tasks(ith);
        }
    }

    [[nodiscard]] TaskQueue& queue(Phase phase) noexcept { return queues_[static_cast<unsigned>(phase)]; }
    [[nodiscard]] MatrixView<T> logits() const {
        return view(memory_.logits.data(), memory_.logits.empty() ? 0 : shape_.n_tokens, shape_.router_outputs);
    }

    /// Pointers to rows [first, first + count) of `m`.
    static std::span<const T* const> rows_of(MatrixView<const T> m, std::size_t first, std::size_t count,
                                             const FfnScratch<T>& scratch) {
        for (std::size_t r = 0; r < count; ++r) {
            scratch.rows[r] = m.row(first + r);
        }
        return scratch.rows.first(count);
    }

    void compute_logits(std::size_t ith) {
        const FfnScratch<T> scratch = memory_.worker(ith).ffn;
        const std::size_t router_panels = divide_up(shape_.router_outputs, Panel<T>::width);
        const std::size_t gate_panels = shape_.shared_gated ? layer_->shared().gate().panels() : 0;
        const std::size_t blocks = divide_up(shape_.n_tokens, max_task_rows);
        const std::size_t n_tasks = blocks * (router_panels + gate_panels);
        for (std::size_t task = queue(Phase::logits).take(); task < n_tasks; task = queue(Phase::logits).take()) {
            const std::size_t panel = task / blocks;
            const std::size_t first = task % blocks * max_task_rows;
            const std::size_t count = std::min(max_task_rows, shape_.n_tokens - first);
            if (panel < router_panels) {
                layer_->router().linear().compute_panel(panel, rows_of(router_input_, first, count, scratch),
                                                        &memory_.logits[first * shape_.router_outputs],
                                                        shape_.router_outputs, scratch);
            } else {
                layer_->shared().gate().compute_panel(panel - router_panels, rows_of(x_, first, count, scratch),
                                                      &memory_.shared_weights[first * shape_.n_shared], shape_.n_shared,
                                                      scratch);
            }
        }
    }

    void choose_experts(std::size_t ith) {
        if (ith == 0) {
            for (T& weight : memory_.shared_weights) {
                weight = math::sigmoid(weight);
            }
        }
        if (shape_.plan_given) {
            return;
        }
        using G = typename Layer::router_type::gate_type;
        if constexpr (BatchGate<G, T> || erases_gates<G>) {
            if (shape_.batch_gate) {
                return ith == 0 ? choose_for_batch() : void();
            }
        }
        if constexpr (TokenGate<G, T> || erases_gates<G>) {
            const WorkerMemory<T> worker = memory_.worker(ith);
            for (std::size_t t = queue(Phase::gating).take(); t < shape_.n_tokens; t = queue(Phase::gating).take()) {
                choose_for_token(t, worker);
            }
        }
    }

    void choose_for_token(std::size_t t, const WorkerMemory<T>& worker) {
        const std::size_t k = shape_.max_per_token;
        const auto experts = memory_.chosen.subspan(t * k, k);
        std::fill(experts.begin(), experts.end(), no_expert);  // should the gate throw, a host may still go on
        const std::span<const T> row = memory_.logits.empty() ? std::span<const T>{} : logits().row_span(t);
        const TokenContext context{options_.token_ids.empty() ? -1 : options_.token_ids[t]};
        const std::size_t n = select_token<T>(layer_->router().gate(), row, context,
                                              BasicSelection<T>{experts, memory_.chosen_weights.subspan(t * k, k),
                                                                worker.selection_scratch, worker.selection_order});
        std::fill(experts.begin() + static_cast<std::ptrdiff_t>(n), experts.end(), no_expert);
    }

    void choose_for_batch() {
        std::fill(memory_.chosen.begin(), memory_.chosen.end(), no_expert);
        select_batch<T>(layer_->router().gate(), logits(),
                        BatchSelection<T>{view(memory_.chosen.data(), shape_.n_tokens, shape_.max_per_token),
                                          view(memory_.chosen_weights.data(), shape_.n_tokens, shape_.max_per_token),
                                          memory_.batch_scratch, memory_.batch_order, options_.token_ids});
    }

    void make_plan() {
        if (!shape_.plan_given) {
            const std::size_t k = shape_.max_per_token;
            const auto unset = std::count(memory_.chosen.begin(), memory_.chosen.end(), no_expert);
            const std::size_t n = memory_.chosen.size() - static_cast<std::size_t>(unset);
            require(n <= shape_.max_assignments, ErrorCode::range, "MoELayer: the gate chose ", n,
                    " assignments, more than the ", shape_.max_assignments, " it announced");
            plan_ = build_plan<T>(MatrixView<const ExpertId>(memory_.chosen.data(), shape_.n_tokens, k, k),
                                  MatrixView<const T>(memory_.chosen_weights.data(), shape_.n_tokens, k, k),
                                  shape_.n_experts, memory_.plan);
        }
        const std::size_t panels = layer_->experts().layout().hidden_panels();
        std::size_t task = 0;
        for (std::size_t e = 0; e < layer_->experts().n_experts(); ++e) {
            memory_.first_task[e] = task;
            task += divide_up(plan_.expert_offsets[e + 1] - plan_.expert_offsets[e], max_task_rows) * panels;
        }
        memory_.first_task[layer_->experts().n_experts()] = task;
    }

    void compute_hidden_tasks(std::size_t ith) {
        const FfnScratch<T> scratch = memory_.worker(ith).ffn;
        const auto first_task = memory_.first_task.first(layer_->experts().n_experts() + 1);
        const std::size_t routed = first_task.back();
        const std::size_t blocks = divide_up(shape_.n_tokens, max_task_rows);
        std::size_t n_tasks = routed;
        for (const auto& shared : layer_->shared().experts()) {
            n_tasks += blocks * shared.layout().hidden_panels();
        }
        for (std::size_t task = queue(Phase::hidden).take(); task < n_tasks; task = queue(Phase::hidden).take()) {
            if (task < routed) {
                routed_hidden(task, first_task, scratch);
            } else {
                shared_hidden(task - routed, blocks, scratch);
            }
        }
    }

    void routed_hidden(std::size_t task, std::span<const std::size_t> first_task, const FfnScratch<T>& scratch) {
        const auto& experts = layer_->experts();
        const std::size_t e = static_cast<std::size_t>(std::upper_bound(first_task.begin(), first_task.end(), task) -
                                                       first_task.begin()) -
                              1;
        const std::size_t panels = experts.layout().hidden_panels();
        const std::size_t block = (task - first_task[e]) / panels;
        const std::size_t panel = (task - first_task[e]) % panels;
        const std::size_t first = plan_.expert_offsets[e] + block * max_task_rows;
        const std::size_t count = std::min<std::size_t>(max_task_rows, plan_.expert_offsets[e + 1] - first);
        for (std::size_t r = 0; r < count; ++r) {
            scratch.rows[r] = x_.row(plan_.tokens[first + r]);
        }
        const bool scaled = layer_->options().weight_at == WeightAt::input;
        compute_hidden(
            experts, e, panel, scratch.rows.first(count),
            [&](std::size_t r) { return scaled ? plan_.weights[plan_.assignments[first + r]] : T(1); },
            &memory_.hidden[first * shape_.hidden_stride], shape_.hidden_stride, scratch);
    }

    void shared_hidden(std::size_t task, std::size_t blocks, const FfnScratch<T>& scratch) {
        T* hidden = memory_.shared_hidden.data();
        for (const auto& shared : layer_->shared().experts()) {
            const std::size_t stride = shared.layout().hidden_stride();
            const std::size_t n_tasks = blocks * shared.layout().hidden_panels();
            if (task < n_tasks) {
                const std::size_t first = task % blocks * max_task_rows;
                const std::size_t count = std::min(max_task_rows, shape_.n_tokens - first);
                return compute_hidden(
                    shared, 0, task / blocks, rows_of(x_, first, count, scratch), [](std::size_t) { return T(1); },
                    hidden + first * stride, stride, scratch);
            }
            task -= n_tasks;
            hidden += shape_.n_tokens * stride;
        }
    }

    void compute_output_tasks(std::size_t ith) {
        const FfnScratch<T> scratch = memory_.worker(ith).ffn;
        const std::size_t panels = layer_->experts().layout().output_panels();
        // A panel reads the weights of every expert once: cut the tokens only when there are too few panels to share.
        constexpr std::size_t tasks_per_worker = 4;
        const std::size_t wanted = divide_up(shape_.n_workers * tasks_per_worker, panels);
        const std::size_t blocks = std::clamp<std::size_t>(shape_.n_tokens / max_task_rows, 1, wanted);
        for (std::size_t task = queue(Phase::output).take(); task < panels * blocks;
             task = queue(Phase::output).take()) {
            const std::size_t block = task / panels;
            output_task(task % panels, shape_.n_tokens * block / blocks, shape_.n_tokens * (block + 1) / blocks,
                        scratch);
        }
    }

    /// Columns of one panel of y for tokens [begin, end), from nothing to the finished sum.
    void output_task(std::size_t panel, std::size_t begin, std::size_t end, const FfnScratch<T>& scratch) {
        const std::size_t first = panel * Panel<T>::width;
        const std::size_t columns = std::min(Panel<T>::width, x_.cols() - first);
        const std::span<const T> bias = layer_->options().output_bias;
        for (std::size_t t = begin; t < end; ++t) {
            T* const row = y_.row(t) + first;
            if (!options_.accumulate) {
                std::fill_n(row, columns, T(0));
            }
            if (!bias.empty()) {
                add_scaled(T(1), bias.data() + first, columns, row);
            }
        }
        const T scale = layer_->routed_weight();
        for (std::size_t e = 0; e < layer_->experts().n_experts(); ++e) {
            routed_output(e, panel, entries(e, begin, end), scale, scratch);
        }
        null_output(first, columns, begin, end, scale);
        shared_output(panel, begin, end, scratch);
    }

    struct Range {
        std::size_t begin;
        std::size_t end;
    };

    /// Entries of expert e whose token is in [begin, end); they are in order of token.
    [[nodiscard]] Range entries(std::size_t e, std::size_t begin, std::size_t end) const {
        const std::size_t from = plan_.expert_offsets[e];
        const std::size_t to = plan_.expert_offsets[e + 1];
        if (begin == 0 && end == shape_.n_tokens) {
            return {from, to};
        }
        const auto at = [&](std::size_t token) {
            const auto tokens = plan_.tokens.subspan(from, to - from);
            return from +
                   static_cast<std::size_t>(std::lower_bound(tokens.begin(), tokens.end(), token) - tokens.begin());
        };
        return {at(begin), at(end)};
    }

    void routed_output(std::size_t e, std::size_t panel, Range range, T scale, const FfnScratch<T>& scratch) {
        const bool weighted = layer_->options().weight_at == WeightAt::output;
        for (std::size_t i = range.begin; i < range.end; i += max_task_rows) {
            const std::size_t count = std::min(max_task_rows, range.end - i);
            for (std::size_t r = 0; r < count; ++r) {
                scratch.rows[r] = &memory_.hidden[(i + r) * shape_.hidden_stride];
            }
            add_output(
                layer_->experts(), e, panel, scratch.rows.first(count),
                [&](std::size_t r) { return weighted ? scale * plan_.weights[plan_.assignments[i + r]] : scale; },
                [&](std::size_t r) { return plan_.tokens[i + r]; }, y_, scratch);
        }
    }

    void null_output(std::size_t first, std::size_t columns, std::size_t begin, std::size_t end, T scale) {
        const NullExperts<T>& null = layer_->options().null_experts;
        const std::size_t identity = layer_->experts().n_experts() + null.n_zero;
        const std::size_t constant = identity + null.n_identity;
        for (std::size_t e = identity; e < shape_.n_experts; ++e) {
            const Range range = entries(e, begin, end);
            for (std::size_t i = range.begin; i < range.end; ++i) {
                const std::size_t t = plan_.tokens[i];
                const T* const value = e < constant ? x_.row(t) : null.constants.row(e - constant);
                add_scaled(scale * plan_.weights[plan_.assignments[i]], value + first, columns, y_.row(t) + first);
            }
        }
    }

    void shared_output(std::size_t panel, std::size_t begin, std::size_t end, const FfnScratch<T>& scratch) {
        const T* hidden = memory_.shared_hidden.data();
        const T scale = layer_->shared_weight();
        for (std::size_t s = 0; s < shape_.n_shared; ++s) {
            const auto& shared = layer_->shared().experts()[s];
            const std::size_t stride = shared.layout().hidden_stride();
            for (std::size_t t = begin; t < end; t += max_task_rows) {
                const std::size_t count = std::min(max_task_rows, end - t);
                const auto rows = rows_of(view(hidden, shape_.n_tokens, stride), t, count, scratch);
                add_output(
                    shared, 0, panel, rows,
                    [&](std::size_t r) {
                        return shape_.shared_gated ? scale * memory_.shared_weights[(t + r) * shape_.n_shared + s]
                                                   : scale;
                    },
                    [&](std::size_t r) { return t + r; }, y_, scratch);
            }
            hidden += shape_.n_tokens * stride;
        }
    }

    const Layer* layer_;
    MatrixView<const T> x_;
    MatrixView<T> y_;
    MatrixView<const T> router_input_;
    ForwardOptions<T> options_;
    PassShape shape_;
    PassMemory<T> memory_;
    PlanView<T> plan_;
    std::array<TaskQueue, static_cast<std::size_t>(n_phases)> queues_;
};

}  // namespace moe::inline MOE_ABI
