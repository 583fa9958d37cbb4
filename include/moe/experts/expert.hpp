#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "../core/alignment.hpp"
#include "../core/overlap.hpp"
#include "../core/workspace.hpp"
#include "../parallel/diagnose_call.hpp"
#include "../parallel/executor.hpp"
#include "expert_bank.hpp"
#include "experts_ref.hpp"

namespace moe::inline MOE_ABI {

/// What may change from call to call of an Expert.
template <class T>
struct ExpertOptions {
    bool accumulate = false;       ///< y += result instead of y = result
    std::span<const T> weights{};  ///< (n_tokens) what the output of each token is multiplied with, or empty: 1
};

namespace detail {

/// One call of an Expert.
template <class T>
class ExpertCall {
public:
    /// Lays out the workspace, the only allocation, if it must grow.
    ExpertCall(const ExpertsRef<T>& expert, MatrixView<const T> x, MatrixView<T> y, Workspace& workspace,
               const ExecutorRef& threads, const ExpertOptions<T>& options);

    /// y = or += w * expert(x).
    void run() const;

    [[nodiscard]] static std::size_t workspace_bytes(const ExpertsRef<T>& expert, std::size_t n_tokens,
                                                     std::size_t n_workers) {
        Arena measure;
        (void)lay_out(measure, expert, n_tokens, n_workers);
        return measure.used();
    }

private:
    struct Memory {
        std::span<std::byte> hidden;
        std::span<std::byte> inputs;
        std::span<std::byte> workers;
        std::size_t worker_bytes = 0;
    };
    struct Tokens {
        std::size_t first;
        std::size_t count;
    };

    [[nodiscard]] static Memory lay_out(Arena& arena, const ExpertsRef<T>& expert, std::size_t n_tokens,
                                        std::size_t n_workers) {
        Arena measure;
        (void)PanelScratch<T>::take(measure);
        return {arena.take<std::byte>(checked_multiply(n_tokens, expert.hidden_stride())),
                arena.take<std::byte>(checked_multiply(n_tokens, expert.input_stride())),
                arena.take<std::byte>(checked_multiply(n_workers, measure.used())), measure.used()};
    }

    void encode() const {
        if constexpr (std::is_same_v<T, float>) {
            TaskQueue queue;
            threads_.run([&](std::size_t, std::size_t) {
                for (std::size_t t = queue.take(); t < x_.rows(); t = queue.take()) {
                    expert_.activations().encode_row(x_.cols(), x_.row(t),
                                                     memory_.inputs.data() + t * expert_.input_stride());
                }
            });
        }
    }

    /// Every (chunk of panels, block of tokens) once.
    template <class Task>
    void for_each_task(std::size_t panels, Task&& task) const {
        const std::size_t n_tokens = x_.rows();
        const std::size_t blocks = divide_up(n_tokens, max_task_rows);
        const std::size_t chunk = panels_per_task(blocks * panels, threads_.concurrency(), n_tokens);
        const std::size_t n_tasks = blocks * divide_up(panels, chunk);
        TaskQueue queue;
        threads_.run([&](std::size_t ith, std::size_t nth) {
            ensure(ith < nth && nth <= threads_.concurrency(), ErrorCode::range, "Expert: worker ", ith, " of ", nth,
                   ", the executor announced ", threads_.concurrency());
            Arena mine(memory_.workers.data() + ith * memory_.worker_bytes, memory_.worker_bytes);
            const PanelScratch<T> scratch = PanelScratch<T>::take(mine);
            for (std::size_t i = queue.take(); i < n_tasks; i = queue.take()) {
                const std::size_t panel = i / blocks * chunk;
                const std::size_t first = i % blocks * max_task_rows;
                task(PanelRange{panel, (std::min)(chunk, panels - panel)},
                     Tokens{first, (std::min)(max_task_rows, n_tokens - first)}, scratch);
            }
        });
    }

    const ExpertsRef<T>& expert_;
    MatrixView<const T> x_;
    MatrixView<T> y_;
    const ExecutorRef& threads_;
    const ExpertOptions<T>& options_;
    WorkspaceLease lease_;
    Memory memory_;
};

template <class T>
ExpertCall<T>::ExpertCall(const ExpertsRef<T>& expert, MatrixView<const T> x, MatrixView<T> y, Workspace& workspace,
                          const ExecutorRef& threads, const ExpertOptions<T>& options)
    : expert_(expert), x_(x), y_(y), threads_(threads), options_(options) {
    ensure(expert.n_experts() == 1, ErrorCode::state, "Expert: it was moved from");
    const std::size_t d_model = expert.layout().d_model;
    ensure(x.cols() == d_model && y.cols() == d_model && x.rows() == y.rows(), ErrorCode::shape, "Expert: x is ",
           x.rows(), " x ", x.cols(), " and y is ", y.rows(), " x ", y.cols(), ", both must be n_tokens x ", d_model);
    require_aligned(x.data(), "Expert", "x");
    require_aligned(y.data(), "Expert", "y");
    require_disjoint("Expert", "x", x, "y", y);
    ensure(options.weights.empty() || options.weights.size() == x.rows(), ErrorCode::shape,
           "Expert: ", options.weights.size(), " weights for ", x.rows(), " tokens");
    require_aligned(options.weights.data(), "Expert", "weights");
    const ByteView weights = bytes_of(options.weights);
    refuse_overlap("Expert", "the workspace",
                   overlapped(bytes_of(workspace.memory()),
                              {{"x", bytes_of(x)}, {"y", bytes_of(y)}, {"the weights of the tokens", weights}}));
    const char* const read = expert.overlapped(bytes_of(y));
    refuse_overlap("Expert", "y",
                   read != nullptr ? read : overlapped(bytes_of(y), {{"the weights of the tokens", weights}}));
    lease_ = workspace.lease(workspace_bytes(expert, x.rows(), threads.concurrency()));
    Arena arena = lease_.arena();
    memory_ = lay_out(arena, expert, x.rows(), threads.concurrency());
}

template <class T>
void ExpertCall<T>::run() const {
    const PanelLayout<T>& layout = expert_.layout();
    const std::size_t input_stride = expert_.input_stride();
    const std::size_t hidden_stride = expert_.hidden_stride();
    if (input_stride > 0) {
        encode();
    }
    for_each_task(layout.hidden_panels(), [&](PanelRange panels, Tokens tokens, const PanelScratch<T>& scratch) {
        for (std::size_t r = 0; r < tokens.count; ++r) {
            const std::size_t t = tokens.first + r;
            scratch.rows[r] = input_stride > 0 ? memory_.inputs.data() + t * input_stride
                                               : reinterpret_cast<const std::byte*>(x_.row(t));
        }
        expert_.compute_hidden(0, panels, scratch.rows.first(tokens.count), {},
                               memory_.hidden.data() + tokens.first * hidden_stride, hidden_stride, scratch);
    });
    for_each_task(layout.output_panels(), [&](PanelRange panels, Tokens tokens, const PanelScratch<T>& scratch) {
        const std::size_t first = panels.first * Panel<T>::width;
        const std::size_t columns = (std::min)(panels.count * Panel<T>::width, layout.d_model - first);
        std::array<T*, max_task_rows> rows;
        for (std::size_t r = 0; r < tokens.count; ++r) {
            const std::size_t t = tokens.first + r;
            scratch.rows[r] = memory_.hidden.data() + t * hidden_stride;
            rows[r] = y_.row(t);
            if (!options_.accumulate) {
                std::fill_n(rows[r] + first, columns, T(0));
            }
        }
        const auto weights =
            options_.weights.empty() ? options_.weights : options_.weights.subspan(tokens.first, tokens.count);
        expert_.add_output(0, panels, scratch.rows.first(tokens.count), weights, std::span(rows).first(tokens.count),
                           scratch);
    });
}

}  // namespace detail

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
        ensure(bank_.n_experts() == 1, ErrorCode::shape, "Expert: a bank of one expert is expected, not of ",
               bank_.n_experts());
    }

    [[nodiscard]] std::size_t d_model() const noexcept { return bank_.layout().d_model; }
    [[nodiscard]] std::size_t d_ff() const noexcept { return bank_.layout().d_ff; }

    /// y = (or +=) expert(x), times the weights of the tokens if there are any. Both matrices (n_tokens, d_model), not
    /// overlapping; column windows of one matrix may lie side by side. Throws Error(shape, alignment, layout) before
    /// anything is written. Allocates nothing once `workspace` has grown.
    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const E& executor = {},
                 const ExpertOptions<T>& options = {}) const {
        const ExecutorRef threads(executor);
        const ExpertsRef<T> expert(bank_);
        detail::ExpertCall<T>(expert, x, y, workspace, threads, options).run();
    }
    // Arguments that are almost right are told what to be.
    template <class X, class Y, class Space, class E = SerialExecutor>
        requires detail::MistakenCall<T, X, Y, Space, E>
    void forward(X&&, Y&&, Space&&, const E& = {}, const ExpertOptions<T>& = {}) const {
        detail::diagnose_call<T, X, Y, Space, E>();
    }

    /// Bytes `forward` needs of a workspace, from an address that is a multiple of buffer_alignment.
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_tokens, std::size_t n_workers) const {
        return detail::ExpertCall<T>::workspace_bytes(ExpertsRef<T>(bank_), n_tokens, n_workers);
    }

    /// The name of what of the weights has bytes in common with `memory`, or null.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return ExpertsRef<T>(bank_).overlapped(memory);
    }

private:
    Bank bank_;
};

}  // namespace moe::inline MOE_ABI
