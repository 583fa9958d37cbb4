#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include "../core/overlap.hpp"
#include "../gating/strategies/product_keys.hpp"
#include "../kernels/row.hpp"
#include "../parallel/diagnose_call.hpp"
#include "parts/layer_options.hpp"
#include "pass/check_call.hpp"
#include "product_key_router.hpp"

namespace moe::inline MOE_ABI {

/// What a call of a NeuronLayer has chosen, by token, then head. Of padding experts and weights say nothing.
template <class T>
struct NeuronChoice {
    MatrixView<const T> queries;         ///< (n_tokens, n_queries), no columns where the router is one product
    MatrixView<const T> logits;          ///< (n_tokens, n_heads * 2 * n_keys)
    MatrixView<const ExpertId> experts;  ///< (n_tokens, n_heads * top_k)
    MatrixView<const T> weights;         ///< the same
};

/// Experts of one neuron each, up to 2^31 of them, chosen by product keys: PEER (He 2024, "Mixture of a million
/// experts", 2407.04153, algorithm 1) and the experts of Doge (with one head, Silu, and an Expert beside it: forward
/// that first, then this with ForwardOptions::accumulate).
///
///     y[t] = sum over heads h and the experts e chosen by h of w[t, h, e] * activation(down[e] . x[t]) * up[e]
///
/// A token reads 2 * n_heads * top_k rows of weights from anywhere, and that is its cost; those of weight 0, as ReLU
/// gives, are not read. Batch invariant, the same bits for any number of threads: heads are added in order, the experts
/// of a head in the order of its gate. `forward` is const and may run in several threads at once, each with a workspace
/// of its own. Views all weights.
template <WeightElement W, class Activation = Gelu, WeightElement RouterElement = W>
class NeuronLayer {
public:
    using element_type = W;
    using value_type = ComputeType<W>;
    using T = value_type;

    static_assert(std::is_same_v<T, ComputeType<RouterElement>>,
                  "the router and the neurons must compute in the same type: give both double weights, or neither");

    /// `down` and `up` (n_keys * n_keys, d_model), of any alignment. Throws Error naming both shapes when they disagree
    /// with each other or the router, and whatever the gate's validation refuses.
    NeuronLayer(ProductKeyRouter<RouterElement> router, ProductKeys gate, MatrixView<const W> down,
                MatrixView<const W> up, Activation activation = {})
        : router_(std::move(router)), gate_(gate), down_(down), up_(up), activation_(std::move(activation)) {
        ensure(down.rows() == up.rows() && down.cols() == up.cols() && !down.empty(), ErrorCode::shape,
               "NeuronLayer: down is ", down.rows(), " x ", down.cols(), " and up is ", up.rows(), " x ", up.cols(),
               "; both must be n_experts x d_model");
        const std::size_t chosen_among = moe::gate_n_experts(gate_, 2 * router_.n_keys());
        ensure(chosen_among == down.rows(), ErrorCode::shape, "NeuronLayer: the router's halves of ", router_.n_keys(),
               " keys choose among ", chosen_among, " experts, but there are ", down.rows());
        moe::validate_gate(gate_, chosen_among);
    }

    [[nodiscard]] std::size_t d_model() const noexcept { return down_.cols(); }
    [[nodiscard]] std::size_t n_experts() const noexcept { return down_.rows(); }
    [[nodiscard]] const ProductKeyRouter<RouterElement>& router() const& noexcept { return router_; }
    [[nodiscard]] ProductKeyRouter<RouterElement> router() && { return std::move(router_); }
    [[nodiscard]] const ProductKeys& gate() const noexcept { return gate_; }
    [[nodiscard]] const MatrixView<const W>& down() const noexcept { return down_; }
    [[nodiscard]] const MatrixView<const W>& up() const noexcept { return up_; }
    [[nodiscard]] const Activation& activation() const noexcept { return activation_; }

    /// The name of what of the weights has bytes in common with `memory`, or null.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return router_.overlaps(memory) ? "the weights of the router"
                                        : moe::overlapped(memory, {{"the rows of down", bytes_of(down_)},
                                                                   {"the rows of up", bytes_of(up_)}});
    }

    /// y = (or +=, see ForwardOptions) the layer applied to x; both (n_tokens, d_model), not overlapping. Of the
    /// options: accumulate, router_input, valid (padding adds nothing); an observer hears of the phases logits, gating,
    /// hidden and output, but there is no plan to see. Throws Error on shapes that disagree, before anything is
    /// written. Allocates nothing once `workspace` has grown.
    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const E& executor = {},
                 const ForwardOptions<T>& options = {}) const {
        run(x, y, workspace, ExecutorRef(executor), options, [](const NeuronChoice<T>&) {});
    }

    /// The same, which tells `keep(choice)` what it has chosen before it goes on: for a backward pass.
    template <class Keep>
    void forward_through(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const ExecutorRef& threads,
                         const ForwardOptions<T>& options, const Keep& keep) const {
        run(x, y, workspace, threads, options, keep);
    }
    // Arguments that are almost right are told what to be.
    template <class X, class Y, class Space, class E = SerialExecutor>
        requires detail::MistakenCall<T, X, Y, Space, E>
    void forward(X&&, Y&&, Space&&, const E& = {}, const ForwardOptions<T>& = {}) const {
        detail::diagnose_call<T, X, Y, Space, E>();
    }

    /// Bytes `forward` needs of a workspace: about n_tokens * n_heads * (2 n_keys + 2 top_k) * sizeof(T) beside the
    /// scratch of the workers. Throws Error(overflow).
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_tokens, std::size_t n_workers) const {
        ensure(n_workers > 0, ErrorCode::range, "NeuronLayer: an executor of 0 threads");
        Arena measure;
        (void)lay_out(measure, n_tokens, n_workers);
        return measure.used();
    }

private:
    struct Call {
        MatrixView<const T> x;
        MatrixView<T> y;
        MatrixView<const T> router_input;
        const ForwardOptions<T>& options;
        const ExecutorRef& threads;

        [[nodiscard]] bool is_valid(std::size_t t) const { return options.valid.empty() || options.valid[t] != 0; }
    };

    struct Memory {
        std::span<T> queries;         // (n_tokens, n_queries)
        std::span<T> logits;          // (n_tokens, n_heads, 2, n_keys)
        std::span<ExpertId> experts;  // (n_tokens, n_heads, top_k)
        std::span<T> weights;         // the same: of the gate, then times the hidden value
        std::span<ExpertId> order;    // (n_workers, order_stride)
        std::size_t order_stride;
        detail::WorkerScratch<T> scratch;
    };

    [[nodiscard]] std::size_t top_k() const noexcept { return static_cast<std::size_t>(gate_.top_k); }
    [[nodiscard]] std::size_t chosen_per_token() const noexcept { return router_.n_heads() * top_k(); }

    [[nodiscard]] Memory lay_out(Arena& arena, std::size_t n_tokens, std::size_t n_workers) const {
        const std::size_t order = round_up(gate_.order_size(router_.n_keys()), buffer_alignment / sizeof(ExpertId));
        const std::size_t chosen = checked_multiply(n_tokens, chosen_per_token());
        return {arena.take<T>(checked_multiply(n_tokens, router_.n_queries())),
                arena.take<T>(checked_multiply(n_tokens, router_.n_logits())),
                arena.take<ExpertId>(chosen),
                arena.take<T>(chosen),
                arena.take<ExpertId>(checked_multiply(n_workers, order)),
                order,
                detail::WorkerScratch<T>::take(arena, n_workers)};
    }

    template <class Keep>
    void run(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const ExecutorRef& threads,
             const ForwardOptions<T>& options, const Keep& keep) const {
        const Call call{x, y, options.router_input.cols() == 0 ? x : options.router_input, options, threads};
        confirm(call, workspace);
        const WorkspaceLease lease = workspace.lease(workspace_bytes(x.rows(), threads.concurrency()));
        Arena arena = lease.arena();
        const Memory memory = lay_out(arena, x.rows(), threads.concurrency());
        observed(options, Phase::logits, [&] {
            router_.compute(call.router_input, memory.queries.data(), memory.logits.data(), memory.scratch, threads);
        });
        observed(options, Phase::gating, [&] { choose(call, memory); });
        const std::size_t n = x.rows();
        keep(NeuronChoice<T>{view(static_cast<const T*>(memory.queries.data()), n, router_.n_queries()),
                             view(static_cast<const T*>(memory.logits.data()), n, router_.n_logits()),
                             view(static_cast<const ExpertId*>(memory.experts.data()), n, chosen_per_token()),
                             view(static_cast<const T*>(memory.weights.data()), n, chosen_per_token())});
        observed(options, Phase::hidden, [&] { compute_hidden(call, memory); });
        observed(options, Phase::output, [&] { add_outputs(call, memory); });
    }

    void confirm(const Call& call, const Workspace& workspace) const {
        const MatrixView<const T>& x = call.x;
        ensure(!router_.empty(), ErrorCode::state, "NeuronLayer: the layer was moved from");
        detail::check_tokens("NeuronLayer", x, call.y, d_model());
        ensure(call.router_input.rows() == x.rows() && call.router_input.cols() == router_.inputs(), ErrorCode::shape,
               "NeuronLayer: the router input is ", call.router_input.rows(), " x ", call.router_input.cols(),
               ", it must be ", x.rows(), " x ", router_.inputs(), " as the tokens and the router's weights are");
        detail::check_valid("NeuronLayer", call.options, x.rows());
        require_aligned(call.router_input.data(), "NeuronLayer", "the router input");
        require_disjoint("NeuronLayer", "the router input", call.router_input, "y", call.y);
        detail::check_apart("NeuronLayer", x, call.y, call.options, workspace);
        refuse_overlap("NeuronLayer", "y", overlapped(bytes_of(call.y)));
    }

    template <class Work>
    static void observed(const ForwardOptions<T>& options, Phase phase, Work&& work) {
        if (options.observer != nullptr) {
            options.observer->on_phase_begin(phase);
        }
        work();
        if (options.observer != nullptr) {
            options.observer->on_phase_end(phase);
        }
    }

    /// Tasks (token, head).
    void choose(const Call& call, const Memory& memory) const {
        const std::size_t heads = router_.n_heads();
        const std::size_t n = 2 * router_.n_keys();
        detail::run_tasks("NeuronLayer", call.threads, call.x.rows() * heads, call.x.rows() * heads * 4 * n,
                          [&](std::size_t task, std::size_t ith) {
                              if (call.is_valid(task / heads)) {
                                  gate_.template choose<T>(
                                      memory.logits.subspan(task * n, n),
                                      memory.experts.subspan(task * top_k(), top_k()),
                                      memory.weights.subspan(task * top_k(), top_k()),
                                      memory.order.subspan(ith * memory.order_stride, memory.order_stride));
                              }
                          });
    }

    /// weights[i] *= activation(down[experts[i]] . x): tasks (token, head).
    void compute_hidden(const Call& call, const Memory& memory) const {
        const std::size_t heads = router_.n_heads();
        const std::size_t k = top_k();
        detail::run_tasks("NeuronLayer", call.threads, call.x.rows() * heads, call.x.rows() * heads * k * d_model(),
                          [&](std::size_t task, std::size_t) {
                              const std::size_t t = task / heads;
                              if (!call.is_valid(t)) {
                                  return;
                              }
                              for_each_row(memory, task * k, k, down_, 0, d_model(), [&](std::size_t i, const W* row) {
                                  memory.weights[i] *=
                                      moe::activate(activation_, dot_row(row, call.x.row(t), d_model()));
                              });
                          });
    }

    /// Tasks (token, part of y's columns): few tokens are cut so that every worker has something to add.
    void add_outputs(const Call& call, const Memory& memory) const {
        constexpr std::size_t tasks_per_worker = 4;
        constexpr std::size_t least_columns = 256 / sizeof(T);  // four cache lines of y
        const std::size_t n_tokens = call.x.rows();
        if (n_tokens == 0) {
            return;
        }
        const std::size_t wanted = divide_up(call.threads.concurrency() * tasks_per_worker, n_tokens);
        const std::size_t columns = round_up(divide_up(d_model(), wanted), least_columns);
        const std::size_t parts = divide_up(d_model(), columns);
        detail::run_tasks(
            "NeuronLayer", call.threads, n_tokens * parts, n_tokens * chosen_per_token() * d_model(),
            [&](std::size_t task, std::size_t) {
                const std::size_t t = task / parts;
                const std::size_t first = task % parts * columns;
                const std::size_t count = (std::min)(columns, d_model() - first);
                T* const y = call.y.row(t) + first;
                if (!call.options.accumulate) {
                    std::fill_n(y, count, T(0));
                }
                if (!call.is_valid(t)) {
                    return;
                }
                for_each_row(memory, t * chosen_per_token(), chosen_per_token(), up_, first, count,
                             [&](std::size_t i, const W* row) { add_scaled_row(memory.weights[i], row, count, y); });
            });
    }

    /// Calls use(i, the row's columns from `first` on) for those of `count` chosen experts that have a weight. A row is
    /// asked for while the one before it is worked on: nothing else tells the processor where the next one lies.
    template <class Use>
    static void for_each_row(const Memory& memory, std::size_t begin, std::size_t count,
                             const MatrixView<const W>& rows, std::size_t first, std::size_t columns, Use&& use) {
        const auto row = [&](std::size_t i) { return rows.row(static_cast<std::size_t>(memory.experts[i])) + first; };
        for (std::size_t i = begin; i < begin + count; ++i) {
            if (i + 1 < begin + count && memory.weights[i + 1] != 0) {
                prefetch_row(row(i + 1), columns * sizeof(W));
            }
            if (memory.weights[i] != 0) {
                use(i, row(i));
            }
        }
    }

    ProductKeyRouter<RouterElement> router_;
    ProductKeys gate_;
    MatrixView<const W> down_;
    MatrixView<const W> up_;
    [[no_unique_address]] Activation activation_;
};

template <class R, class W>
NeuronLayer(ProductKeyRouter<R>, ProductKeys, MatrixView<W>, MatrixView<W>)
    -> NeuronLayer<std::remove_const_t<W>, Gelu, R>;
template <class R, class W, class Activation>
NeuronLayer(ProductKeyRouter<R>, ProductKeys, MatrixView<W>, MatrixView<W>, Activation)
    -> NeuronLayer<std::remove_const_t<W>, Activation, R>;

}  // namespace moe::inline MOE_ABI
