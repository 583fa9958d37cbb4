#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "../../kernels/row.hpp"
#include "hidden_tasks.hpp"
#include "work_order.hpp"

namespace moe::inline MOE_ABI::detail {

/// Phase::hidden: tasks (expert, block of rows, chunk of panels), then those of the shared experts, then the shares of
/// constant experts that add a part of x. With a Residency those that ask for experts are first, and routed experts
/// come last: of the first wave, the others belong to Phase::output.
template <class T>
class HiddenPhase {
public:
    explicit HiddenPhase(PassState<T>& pass) : pass_(pass), shape_(pass.shape) {}

    void work(std::size_t ith) const;

    /// Tasks of the routed experts of a wave.
    [[nodiscard]] std::size_t n_wave_tasks(std::size_t w) const noexcept {
        const PassWave& wave = pass_.memory.waves[w];
        return pass_.memory.first_task[wave.end] - pass_.memory.first_task[wave.first];
    }
    void wave_task(std::size_t w, std::size_t task, const PanelScratch<T>& scratch) const;

    /// Tasks that ask for the experts of a wave.
    [[nodiscard]] std::size_t n_asks(std::size_t w) const noexcept { return pass_.memory.waves[w].n_missing(); }
    void ask_task(std::size_t w, std::size_t task) const {
        const PassWave& wave = pass_.memory.waves[w];
        pass_.residency->ask(expert_at(wave.first + wave.n_there + task));
    }

private:
    /// The expert at a place in the order of work.
    [[nodiscard]] ExpertId expert_at(std::size_t place) const noexcept {
        return pass_.memory.active[pass_.memory.order[place]];
    }

    /// [a1, a2] = softmax(W x) of a few entries.
    void mix_task(std::size_t first) const {
        const PlanView<T>& plan = pass_.plan;
        const NullExperts<T>& null = pass_.layer.options->null_experts;
        const std::size_t first_constant = shape_.n_experts - null.constants.rows();
        const std::size_t end = (std::min)(first + mixes_per_task, plan.n_assignments());
        for (std::size_t i = first; i < end; ++i) {
            const auto constant = static_cast<std::size_t>(plan.experts[plan.assignments[i]]) - first_constant;
            const T* const x = pass_.x.row(plan.tokens[i]);
            const T of_x = dot_row(null.mixes.row(2 * constant), x, pass_.x.cols());
            const T of_constant = dot_row(null.mixes.row(2 * constant + 1), x, pass_.x.cols());
            pass_.memory.mixed[2 * i] = math::sigmoid(of_x - of_constant);
            pass_.memory.mixed[2 * i + 1] = math::sigmoid(of_constant - of_x);
        }
    }

    /// Rows from `first` on of memory for products.
    [[nodiscard]] static KeptRows<T> kept_rows(std::span<T> memory, const ExpertsRef<T>& experts, std::size_t first) {
        const std::size_t stride = experts.layout().kept_values();
        return memory.empty() ? KeptRows<T>{} : KeptRows<T>{memory.data() + first * stride, stride};
    }

    /// Task `task` of active expert `i`.
    void routed_task(std::size_t i, std::size_t task, const PanelScratch<T>& scratch) const {
        const ExpertsRef<T>& experts = pass_.layer.experts;
        const PlanView<T>& plan = pass_.plan;
        const auto e = static_cast<std::size_t>(pass_.memory.active[i]);
        const std::size_t panels = experts.layout().hidden_panels();
        const std::size_t chunks = divide_up(panels, pass_.hidden_chunk);
        const std::size_t block = task / chunks;
        const std::size_t first_panel = task % chunks * pass_.hidden_chunk;
        const std::size_t first = plan.expert_offsets[e] + block * max_task_rows;
        const std::size_t count = std::min<std::size_t>(max_task_rows, plan.expert_offsets[e + 1] - first);
        const RowPointers rows = point_at(scratch, count, [&](std::size_t r) {
            return input(plan.tokens[first + r], pass_.memory.inputs, shape_.input_stride);
        });
        std::array<T, max_task_rows> scales;
        const bool scaled = pass_.layer.options->weight_at == WeightAt::input;
        for (std::size_t r = 0; scaled && r < count; ++r) {
            scales[r] = plan.weights[plan.assignments[first + r]];
        }
        experts.compute_hidden(e, {first_panel, (std::min)(pass_.hidden_chunk, panels - first_panel)}, rows,
                               std::span<const T>(scales).first(scaled ? count : 0),
                               pass_.memory.hidden.data() + first * shape_.hidden_stride, shape_.hidden_stride, scratch,
                               kept_rows(pass_.kept.routed, experts, first));
    }

    void shared_task(std::size_t task, const PanelScratch<T>& scratch) const {
        const std::size_t blocks = divide_up(shape_.n_tokens, max_task_rows);
        std::byte* hidden = pass_.memory.shared_hidden.data();
        std::span<T> kept = pass_.kept.shared;
        for (std::size_t s = 0; s < shape_.n_shared; ++s) {
            const ExpertsRef<T> shared = pass_.layer.shared[s];
            const std::size_t stride = shared.hidden_stride();
            const std::size_t n_tasks = n_shared_tasks(pass_, shared);
            if (task < n_tasks) {
                const std::size_t first = task % blocks * max_task_rows;
                const std::size_t count = (std::min)(max_task_rows, shape_.n_tokens - first);
                const bool own_rows = shape_.shared_input_stride > 0;
                const std::size_t in_stride = shared.input_stride();
                const RowPointers rows = point_at(scratch, count, [&](std::size_t r) {
                    return input(first + r, own_rows ? pass_.memory.shared_inputs : pass_.memory.inputs, in_stride);
                });
                const std::size_t panel = task / blocks * pass_.shared_chunk;
                return shared.compute_hidden(
                    0, {panel, (std::min)(pass_.shared_chunk, shared.layout().hidden_panels() - panel)}, rows, {},
                    hidden + first * stride, stride, scratch, kept_rows(kept, shared, first));
            }
            task -= n_tasks;
            hidden += shape_.n_tokens * stride;
            kept = kept.empty() ? kept : kept.subspan(shape_.n_tokens * shared.layout().kept_values());
        }
    }

    /// Row t of x, or of its encoded copy where there is one.
    [[nodiscard]] const std::byte* input(std::size_t t, std::span<const std::byte> quantized,
                                         std::size_t stride) const noexcept {
        return stride > 0 ? quantized.data() + t * stride : reinterpret_cast<const std::byte*>(pass_.x.row(t));
    }

    PassState<T>& pass_;
    const PassShape& shape_;
};

template <class T>
void HiddenPhase<T>::wave_task(std::size_t w, std::size_t task, const PanelScratch<T>& scratch) const {
    const PassWave& wave = pass_.memory.waves[w];
    const auto first_task = pass_.memory.first_task.subspan(wave.first, wave.end - wave.first + 1);
    task += first_task.front();
    const auto place =
        wave.first +
        static_cast<std::size_t>(std::upper_bound(first_task.begin(), first_task.end(), task) - first_task.begin()) - 1;
    task -= pass_.memory.first_task[place];
    const WaveBrings brings = brings_before(wave, place, shape_.n_workers);
    if (task < brings.count) {
        return pass_.residency->bring(expert_at(brings.first + task));
    }
    const std::size_t i = pass_.memory.order[place];
    const CountedTask counted{pass_.memory.hidden_left[i]};
    routed_task(i, task - brings.count, scratch);
}

template <class T>
void HiddenPhase<T>::work(std::size_t ith) const {
    const PanelScratch<T> scratch = pass_.memory.worker(ith).panel;
    const bool resident = pass_.residency != nullptr;
    const std::size_t asks = n_asks(0);
    const std::size_t routed = n_wave_tasks(0);
    const std::size_t shared = n_shared_tasks(pass_);
    const std::size_t others = n_other_tasks(pass_);
    const std::size_t first_other = resident ? asks : routed;
    const std::size_t first_routed = resident ? asks + others : 0;
    TaskQueue& queue = pass_.queue(Phase::hidden);
    for (std::size_t task = queue.take(); task < asks + routed + others; task = queue.take()) {
        if (task - first_routed < routed) {  // a task before them is a large number
            wave_task(0, task - first_routed, scratch);
        } else if (task - first_other < others) {
            const CountedTask counted{pass_.memory.hidden_left[pass_.n_active]};
            const std::size_t other = task - first_other;
            if (other < shared) {
                shared_task(other, scratch);
            } else {
                mix_task(first_mixed(pass_) + (other - shared) * mixes_per_task);
            }
        } else {
            ask_task(0, task);
        }
    }
}

/// Phase::output: tasks (group of panels of y, block of tokens), each from nothing to the finished sum. Waits for the
/// hidden activations of an expert before it uses them: workers that find no more to do in Phase::hidden may begin.
/// Several waves are each such tasks, whose sums go on where the wave before has left them, and then what Phase::hidden
/// is for the next. Tasks only wait for those that were taken before them.
template <class T>
class OutputPhase {
public:
    explicit OutputPhase(PassState<T>& pass) : pass_(pass), shape_(pass.shape) {}

    void work(std::size_t ith) const;

private:
    using Range = typename PassState<T>::Range;

    /// Task `task` of wave `w`.
    void wave_task(std::size_t w, std::size_t task, const PanelScratch<T>& scratch) const {
        const CountedTask counted{pass_.memory.outputs_left[w]};
        if (w > 0) {
            pass_.memory.outputs_left[w - 1].wait();
        }
        const std::size_t group = task / pass_.output_blocks;
        const std::size_t block = task % pass_.output_blocks;
        work_on(w, {pass_.memory.first_panel[group], pass_.memory.first_panel[group + 1]},
                {shape_.n_tokens * block / pass_.output_blocks, shape_.n_tokens * (block + 1) / pass_.output_blocks},
                scratch);
    }

    void work_on(std::size_t w, Range panels, Range tokens, const PanelScratch<T>& scratch) const {
        for (std::size_t panel = panels.begin; panel < panels.end && w == 0; ++panel) {
            begin_sums(panel, tokens);
        }
        const T scale = pass_.layer.routed_weight();
        const PassWave& wave = pass_.memory.waves[w];
        for (std::size_t i = wave.first; i < wave.end; ++i) {
            pass_.memory.hidden_left[i].wait();
            add_routed(static_cast<std::size_t>(pass_.memory.active[i]), panels, tokens, scale, scratch);
        }
        if (w + 1 < pass_.n_waves) {
            return;
        }
        pass_.memory.hidden_left[pass_.n_active].wait();
        for (std::size_t panel = panels.begin; panel < panels.end; ++panel) {
            add_null(panel, tokens, scale);
        }
        add_shared(panels, tokens, scratch);
    }

    [[nodiscard]] std::size_t columns(std::size_t panel) const noexcept {
        return (std::min)(Panel<T>::width, pass_.x.cols() - panel * Panel<T>::width);
    }

    /// y = (or stays) plus the bias, plus x where no expert was chosen and that passes it through.
    void begin_sums(std::size_t panel, Range tokens) const {
        const std::size_t first = panel * Panel<T>::width;
        const std::span<const T> bias = pass_.layer.options->output_bias;
        for (std::size_t t = tokens.begin; t < tokens.end; ++t) {
            T* const row = pass_.y.row(t) + first;
            if (!pass_.options.accumulate) {
                std::fill_n(row, columns(panel), T(0));
            }
            if (!bias.empty()) {
                add_scaled(T(1), bias.data() + first, columns(panel), row);
            }
            if (pass_.layer.options->pass_unrouted && is_unrouted(t)) {
                add_scaled(T(1), pass_.x.row(t) + first, columns(panel), row);
            }
        }
    }

    [[nodiscard]] bool is_unrouted(std::size_t t) const {
        const bool padding = !pass_.options.valid.empty() && pass_.options.valid[t] == 0;
        return !padding && pass_.plan.token_offsets[t] == pass_.plan.token_offsets[t + 1];
    }

    /// Where rows of outputs are added, and with what weight.
    struct OutputRows {
        std::array<T, max_task_rows> weights;
        std::array<T*, max_task_rows> rows;
    };

    static void add_output(const ExpertsRef<T>& experts, std::size_t e, Range panels, RowPointers hidden,
                           const OutputRows& to, const PanelScratch<T>& scratch) {
        experts.add_output(e, {panels.begin, panels.end - panels.begin}, hidden,
                           std::span<const T>(to.weights).first(hidden.size()),
                           std::span<T* const>(to.rows).first(hidden.size()), scratch);
    }

    void add_routed(std::size_t e, Range panels, Range tokens, T scale, const PanelScratch<T>& scratch) const {
        const PlanView<T>& plan = pass_.plan;
        const bool weighted = pass_.layer.options->weight_at == WeightAt::output;
        const Range range = pass_.entries(e, tokens.begin, tokens.end);
        for (std::size_t i = range.begin; i < range.end; i += max_task_rows) {
            const std::size_t count = (std::min)(max_task_rows, range.end - i);
            const RowPointers rows = point_at(scratch, count, [&](std::size_t r) {
                return pass_.memory.hidden.data() + (i + r) * shape_.hidden_stride;
            });
            OutputRows to;
            for (std::size_t r = 0; r < count; ++r) {
                to.weights[r] = weighted ? scale * plan.weights[plan.assignments[i + r]] : scale;
                to.rows[r] = pass_.y.row(plan.tokens[i + r]);
            }
            add_output(pass_.layer.experts, e, panels, rows, to, scratch);
        }
    }

    void add_null(std::size_t panel, Range tokens, T scale) const {
        const std::size_t first = panel * Panel<T>::width;
        const PlanView<T>& plan = pass_.plan;
        const NullExperts<T>& null = pass_.layer.options->null_experts;
        const std::size_t identity = pass_.layer.experts.n_experts() + null.n_zero;
        const std::size_t constant = identity + null.n_identity;
        for (std::size_t e = identity; e < shape_.n_experts; ++e) {
            const Range range = pass_.entries(e, tokens.begin, tokens.end);
            for (std::size_t i = range.begin; i < range.end; ++i) {
                const std::size_t t = plan.tokens[i];
                const T* const x = pass_.x.row(t) + first;
                const T weight = scale * plan.weights[plan.assignments[i]];
                T* const y = pass_.y.row(t) + first;
                if (e < constant) {
                    add_scaled(weight, x, columns(panel), y);
                    continue;
                }
                const T* const value = null.constants.row(e - constant) + first;
                if (shape_.mixes) {
                    add_scaled(weight * pass_.memory.mixed[2 * i], x, columns(panel), y);
                    add_scaled(weight * pass_.memory.mixed[2 * i + 1], value, columns(panel), y);
                } else {
                    add_scaled(weight, value, columns(panel), y);
                }
            }
        }
    }

    void add_shared(Range panels, Range tokens, const PanelScratch<T>& scratch) const {
        const std::byte* hidden = pass_.memory.shared_hidden.data();
        const T scale = pass_.layer.shared_weight();
        for (std::size_t s = 0; s < shape_.n_shared; ++s) {
            const ExpertsRef<T> shared = pass_.layer.shared[s];
            const std::size_t stride = shared.hidden_stride();
            for (std::size_t t = tokens.begin; t < tokens.end; t += max_task_rows) {
                const std::size_t count = (std::min)(max_task_rows, tokens.end - t);
                const RowPointers rows =
                    point_at(scratch, count, [&](std::size_t r) { return hidden + (t + r) * stride; });
                OutputRows to;
                for (std::size_t r = 0; r < count; ++r) {
                    to.weights[r] = shape_.shared_gated
                                        ? scale * pass_.memory.shared_weights[(t + r) * shape_.n_shared + s]
                                        : scale;
                    to.rows[r] = pass_.y.row(t + r);
                }
                add_output(shared, 0, panels, rows, to, scratch);
            }
            hidden += shape_.n_tokens * stride;
        }
    }

    PassState<T>& pass_;
    const PassShape& shape_;
};

template <class T>
void OutputPhase<T>::work(std::size_t ith) const {
    const PanelScratch<T> scratch = pass_.memory.worker(ith).panel;
    const HiddenPhase<T> hidden(pass_);
    const std::size_t outputs = pass_.output_groups * pass_.output_blocks;
    TaskQueue& queue = pass_.queue(Phase::output);
    std::size_t task = queue.take();
    std::size_t begin = 0;  // of the tasks of wave w
    for (std::size_t w = 0; w < pass_.n_waves; ++w) {
        const bool last = w + 1 == pass_.n_waves;
        const std::size_t asks = last ? 0 : hidden.n_asks(w + 1);
        const std::size_t end = begin + asks + outputs + (last ? 0 : hidden.n_wave_tasks(w + 1));
        for (; task < end; task = queue.take()) {
            const std::size_t at = task - begin;
            if (at < asks) {
                hidden.ask_task(w + 1, at);
            } else if (at < asks + outputs) {
                wave_task(w, at - asks, scratch);
            } else {
                hidden.wave_task(w + 1, at - asks - outputs, scratch);
            }
        }
        begin = end;
    }
}

}  // namespace moe::inline MOE_ABI::detail
