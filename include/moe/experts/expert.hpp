#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "../core/alignment.hpp"
#include "../core/overlap.hpp"
#include "../core/workspace.hpp"
#include "../parallel/executor.hpp"
#include "expert_bank.hpp"
#include "ffn.hpp"

namespace moe::inline MOE_ABI {

/// One feed-forward network by itself: y[t] = down * form(gate * x[t], up * x[t]). What a MoELayer computes for each of
/// its experts, with the same bits; useful as a dense layer, as a baseline, and to look at one expert of a bank.
template <PanelSource Bank>
class Expert {
public:
    using value_type = typename Bank::value_type;
    using T = value_type;

    /// From a bank of one: `Expert{bank.expert(e)}`, or an ExpertBank over the weights of one network. Throws
    /// Error(shape) for any other.
    explicit Expert(Bank bank) : bank_(std::move(bank)) {
        require(bank_.n_experts() == 1, ErrorCode::shape, "Expert: a bank of one expert is expected, not of ",
                bank_.n_experts());
    }

    [[nodiscard]] std::size_t d_model() const noexcept { return bank_.layout().d_model; }
    [[nodiscard]] std::size_t d_ff() const noexcept { return bank_.layout().d_ff; }

    /// Both matrices (n_tokens, d_model), not overlapping; column windows of one matrix may lie side by side. Throws
    /// Error(shape, alignment, layout) before anything is written. Allocates nothing once `workspace` has grown.
    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const E& executor = {}) const {
        require(x.cols() == d_model() && y.cols() == d_model() && x.rows() == y.rows(), ErrorCode::shape,
                "Expert: x is ", x.rows(), " x ", x.cols(), " and y is ", y.rows(), " x ", y.cols(),
                ", both must be n_tokens x ", d_model());
        require_aligned(x.data(), "Expert", "x");
        require_aligned(y.data(), "Expert", "y");
        require_disjoint("Expert", "x", x, "y", y);
        const ExecutorRef threads(executor);
        require(threads.concurrency() > 0, ErrorCode::range, "Expert: an executor of 0 threads");
        const Strides strides{bank_.activations().hidden_stride(bank_.layout()),
                              bank_.activations().input_stride(bank_.layout())};
        Arena measure;
        (void)Memory::take(measure, strides, x.rows(), threads.concurrency());
        workspace.reserve(measure.used());
        Arena arena = workspace.arena();
        const Memory memory = Memory::take(arena, strides, x.rows(), threads.concurrency());
        if (strides.input > 0) {
            quantize(threads, x, strides.input, memory);
        }
        run(threads, x.rows(), bank_.layout().hidden_panels(), memory,
            [&](PanelRange panels, auto tokens, const auto& scratch) {
                for (std::size_t r = 0; r < tokens.count; ++r) {
                    const std::size_t t = tokens.first + r;
                    scratch.rows[r] = strides.input > 0 ? memory.inputs.data() + t * strides.input
                                                        : reinterpret_cast<const std::byte*>(x.row(t));
                }
                compute_hidden(
                    bank_, 0, panels, scratch.rows.first(tokens.count), [](std::size_t) { return T(1); },
                    memory.hidden.data() + tokens.first * strides.hidden, strides.hidden, scratch);
            });
        run(threads, x.rows(), bank_.layout().output_panels(), memory,
            [&](PanelRange panels, auto tokens, const auto& scratch) {
                const std::size_t first = panels.first * Panel<T>::width;
                const std::size_t columns = std::min(panels.count * Panel<T>::width, d_model() - first);
                for (std::size_t r = 0; r < tokens.count; ++r) {
                    const std::size_t t = tokens.first + r;
                    scratch.rows[r] = memory.hidden.data() + t * strides.hidden;
                    std::fill_n(y.row(t) + first, columns, T(0));
                }
                add_output(
                    bank_, 0, panels, scratch.rows.first(tokens.count), [](std::size_t) { return T(1); },
                    [&](std::size_t r) { return tokens.first + r; }, y, scratch);
            });
    }

private:
    struct Tokens {
        std::size_t first;
        std::size_t count;
    };

    /// Bytes from row to row of hidden activations and of quantised inputs (0: inputs are used as they are).
    struct Strides {
        std::size_t hidden;
        std::size_t input;
    };

    struct Memory {
        std::span<std::byte> hidden;
        std::span<std::byte> inputs;
        std::span<std::byte> workers;
        std::size_t worker_bytes;

        static Memory take(Arena& arena, const Strides& strides, std::size_t n_tokens, std::size_t n_workers) {
            Arena measure;
            (void)PanelScratch<T>::take(measure);
            return {arena.take<std::byte>(checked_multiply(n_tokens, strides.hidden)),
                    arena.take<std::byte>(checked_multiply(n_tokens, strides.input)),
                    arena.take<std::byte>(checked_multiply(n_workers, measure.used())), measure.used()};
        }
        [[nodiscard]] PanelScratch<T> worker(std::size_t ith) const {
            Arena mine(workers.data() + ith * worker_bytes, worker_bytes);
            return PanelScratch<T>::take(mine);
        }
    };

    void quantize(const ExecutorRef& threads, MatrixView<const T> x, std::size_t stride, const Memory& memory) const {
        if constexpr (std::is_same_v<T, float>) {
            TaskQueue queue;
            threads.run([&](std::size_t, std::size_t) {
                for (std::size_t t = queue.take(); t < x.rows(); t = queue.take()) {
                    quantize_row(QuantizedRows{d_model()}, x.row(t), bank_.activations().zero_point,
                                 memory.inputs.data() + t * stride);
                }
            });
        }
    }

    /// Every (chunk of panels, block of tokens) once, on the workers of `threads`.
    template <class Task>
    static void run(const ExecutorRef& threads, std::size_t n_tokens, std::size_t panels, const Memory& memory,
                    Task&& task) {
        const std::size_t blocks = divide_up(n_tokens, max_task_rows);
        const std::size_t chunk = panels_per_task(blocks * panels, threads.concurrency(), n_tokens);
        const std::size_t n_tasks = blocks * divide_up(panels, chunk);
        TaskQueue queue;
        threads.run([&](std::size_t ith, std::size_t nth) {
            require(ith < nth && nth <= threads.concurrency(), ErrorCode::range, "Expert: worker ", ith, " of ", nth,
                    ", the executor announced ", threads.concurrency());
            const PanelScratch<T> scratch = memory.worker(ith);
            for (std::size_t i = queue.take(); i < n_tasks; i = queue.take()) {
                const std::size_t panel = i / blocks * chunk;
                const std::size_t first = i % blocks * max_task_rows;
                task(PanelRange{panel, std::min(chunk, panels - panel)},
                     Tokens{first, std::min(max_task_rows, n_tokens - first)}, scratch);
            }
        });
    }

    Bank bank_;
};

}  // namespace moe::inline MOE_ABI
