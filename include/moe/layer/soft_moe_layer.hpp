#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../gating/backward.hpp"
#include "../kernels/row.hpp"
#include "../kernels/softmax.hpp"
#include "../parallel/diagnose_call.hpp"
#include "moe_layer.hpp"
#include "pass/check_call.hpp"
#include "pass/tasks.hpp"

namespace moe::inline MOE_ABI {

/// How a SoftMoELayer compares tokens and slots.
struct SoftMoEOptions {
    bool normalize = true;  ///< both to unit length first, x / sqrt(sum x^2 + 1e-6), as vmoe's SoftRouter
    double scale = 1;       ///< of the logits; learned in vmoe
};

namespace detail {

/// Token i of the experts' own layer is slot i, whose expert is fixed.
struct SlotGate {
    std::size_t slots_per_expert;

    static constexpr bool needs_logits = false;
    [[nodiscard]] static constexpr int max_per_token() { return 1; }
    template <std::floating_point T>
    int select(std::span<const T> /*logits*/, TokenContext context, BasicSelection<T> out) const {
        out.experts[0] = static_cast<ExpertId>(context.position / slots_per_expert);
        out.weights[0] = T(1);
        return 1;
    }
    /// There are no logits to have a gradient.
    template <class T>
    void backward(std::span<const T> /*logits*/, const Chosen<T>& /*chosen*/, std::span<const T> /*d_weights*/,
                  std::span<T> /*d_logits*/) const {}
};

/// 1 / sqrt(sum of squares + 1e-6), which keeps a zero vector zero.
template <class T>
[[nodiscard]] T inverse_length(const T* row, std::size_t n) {
    return T(1) / std::sqrt(dot_row(row, row, n) + T(1e-6));
}

}  // namespace detail

/// What a call of a SoftMoELayer has computed when its experts run. N tokens are no padding.
template <class T>
struct SoftMixture {
    std::span<const Index> tokens;    ///< (N) which they are
    std::span<const T> token_scales;  ///< (N) 1 / |x|, or 1
    MatrixView<const T> combine;      ///< (N, n_slots): C
    MatrixView<const T> dispatch;     ///< (n_slots, N): D, transposed
    MatrixView<const T> inputs;       ///< (n_slots, d_model): of the experts
    MatrixView<T> outputs;            ///< (n_slots, d_model): to be written
};

/// Soft mixture of experts (Puigcerver et al. 2023, "From sparse to soft mixtures of experts", 2308.00951): nothing is
/// chosen. Each slot of an expert gets a weighted mean of all tokens, each token a weighted mean of all slots.
///
///     logits[t, s] = scale * unit(x[t]) . unit(slots[s])
///     D = softmax of the logits over the tokens, C = softmax over the slots                     (equations 1 and 3)
///     y[t] = sum over slots s of C[t, s] * expert_of_s(sum over tokens u of D[u, s] * x[u])      (equations 2 and 3)
///
/// Not causal, and not batch invariant: every token of a call reads every other, so a call is one sequence (an image).
/// Padding takes part in nothing: the bits are those of the call without it. The same bits for any number of threads.
/// The cost of the experts is that of n_slots tokens with one expert each. `forward` is const and may run in several
/// threads at once, each with a workspace of its own.
template <WeightElement W, PanelSource Experts>
class SoftMoELayer {
public:
    using element_type = W;
    using value_type = typename Experts::value_type;
    using experts_type = Experts;
    using T = value_type;

    static_assert(std::is_same_v<T, ComputeType<W>>,
                  "the slots and the experts must compute in the same type: give both double weights, or neither");

    /// `slots` (n_experts * slots_per_expert, d_router), in the user's memory, those of an expert together; d_router is
    /// d_model unless the calls give a router input. Throws Error naming what does not fit.
    SoftMoELayer(MatrixView<const W> slots, Experts experts, SoftMoEOptions options = {})
        : slots_(WeightStack<W>(slots.data(), 1, slots.rows(), slots.cols(), slots.stride(),
                                checked_multiply(slots.rows(), slots.stride()))),
          experts_{router(slots, experts.n_experts()), std::move(experts)},  // in this order, which braces keep
          options_(options) {
        ensure(std::abs(options_.scale) <= static_cast<double>((std::numeric_limits<float>::max)()), ErrorCode::range,
               "SoftMoELayer: scale is ", options_.scale, ", it must be finite in float");
        const FloatEnvironment environment;
        slot_scales_.reserve(slots.rows());
        for (std::size_t s = 0; s < slots.rows(); ++s) {
            double sum = least_square;
            for (std::size_t i = 0; i < slots.cols(); ++i) {
                const auto value = static_cast<double>(load_element(slots.row(s) + i));
                sum += value * value;
            }
            slot_scales_.push_back(
                static_cast<T>(options_.normalize ? options_.scale / std::sqrt(sum) : options_.scale));
        }
    }

    [[nodiscard]] std::size_t d_model() const noexcept { return experts_.d_model(); }
    [[nodiscard]] std::size_t n_slots() const noexcept { return slot_scales_.size(); }
    [[nodiscard]] std::size_t n_experts() const noexcept { return experts().n_experts(); }
    [[nodiscard]] const Experts& experts() const& noexcept { return experts_.experts(); }
    [[nodiscard]] Experts experts() && { return std::move(experts_).experts(); }
    [[nodiscard]] const SoftMoEOptions& options() const noexcept { return options_; }
    /// (n_slots, d_router), what tokens are compared with.
    [[nodiscard]] const Linear<W>& slots() const& noexcept { return slots_; }
    /// The experts as a layer of their own, whose tokens are the slots.
    [[nodiscard]] const auto& slot_layer() const& noexcept { return experts_; }

    /// The name of what of the weights has bytes in common with `memory`, or null.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        return slots_.overlaps(memory) ? "the slots" : experts_.overlapped(memory);
    }

    /// y = (or +=) the layer applied to x, one sequence; both (n_tokens, d_model), not overlapping. Of the options:
    /// accumulate, router_input (what is compared with the slots, instead of x), valid, and an observer, which watches
    /// the experts, whose tokens are the slots. Throws Error on shapes that disagree, before anything is written.
    /// Allocates nothing once `workspace` has grown.
    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const E& executor = {},
                 const ForwardOptions<T>& options = {}) const {
        run(x, y, workspace, ExecutorRef(executor), options,
            [this](const SoftMixture<T>& mixture, Workspace& own, const ExecutorRef& threads,
                   const ForwardOptions<T>& inside) {
                experts_.forward(mixture.inputs, mixture.outputs, own, threads, inside);
            });
    }

    /// The same, where `run_experts(mixture, workspace, threads, options)` stands for the forward pass of slot_layer(),
    /// if any token is no padding: for who keeps what goes through it. It must write mixture.outputs, in the workspace
    /// that the experts' own forward pass needs.
    template <class RunExperts>
    void forward_through(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const ExecutorRef& threads,
                         const ForwardOptions<T>& options, const RunExperts& run_experts) const {
        run(x, y, workspace, threads, options, run_experts);
    }
    // Arguments that are almost right are told what to be.
    template <class X, class Y, class Space, class E = SerialExecutor>
        requires detail::MistakenCall<T, X, Y, Space, E>
    void forward(X&&, Y&&, Space&&, const E& = {}, const ForwardOptions<T>& = {}) const {
        detail::diagnose_call<T, X, Y, Space, E>();
    }

    /// Bytes `forward` needs of a workspace: about sizeof(T) * (2 n_tokens * n_slots + 2 n_slots * d_model) and what
    /// the experts need for n_slots tokens. Throws Error(overflow).
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_tokens, std::size_t n_workers) const {
        ensure(n_workers > 0, ErrorCode::range, "SoftMoELayer: an executor of 0 threads");
        Arena measure;
        (void)lay_out(measure, n_tokens, n_workers);
        return measure.used();
    }

private:
    static constexpr double least_square = 1e-6;  ///< keeps a zero vector zero

    struct Memory {
        std::span<Index> tokens;       // (n_tokens) those that are no padding
        std::span<T> token_scales;     // (n_tokens)
        std::span<T> combine;          // (n_tokens, n_slots): C
        std::span<T> dispatch;         // (n_slots, n_tokens): D, transposed
        std::span<T> inputs;           // (n_slots, d_model)
        std::span<T> outputs;          // (n_slots, d_model)
        std::span<std::byte> experts;  // of the experts' forward pass
        detail::WorkerScratch<T> scratch;
    };

    struct Call {
        MatrixView<const T> x;
        MatrixView<T> y;
        MatrixView<const T> router_input;
        const ForwardOptions<T>& options;
        const ExecutorRef& threads;
        Memory memory;
        std::span<const Index> tokens;
    };

    template <class RunExperts>
    void run(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const ExecutorRef& threads,
             const ForwardOptions<T>& options, const RunExperts& run_experts) const {
        Call call{x, y, options.router_input.cols() == 0 ? x : options.router_input, options, threads, {}, {}};
        confirm(call, workspace);
        const WorkspaceLease lease = workspace.lease(workspace_bytes(x.rows(), threads.concurrency()));
        Arena arena = lease.arena();
        call.memory = lay_out(arena, x.rows(), threads.concurrency());
        call.tokens = valid_tokens(call);
        if (!call.tokens.empty()) {
            compute_logits(call);
            normalize_weights(call);
            mix_tokens(call);
            Workspace own(call.memory.experts);
            ForwardOptions<T> expert_options;
            expert_options.observer = options.observer;
            run_experts(mixture_of(call), own, threads, expert_options);
            mix_slots(call);
        }
        clear_padding(call);
    }

    [[nodiscard]] SoftMixture<T> mixture_of(const Call& call) const {
        const Memory& memory = call.memory;
        const std::size_t n = call.tokens.size();
        return {call.tokens,
                memory.token_scales.first(n),
                view(static_cast<const T*>(memory.combine.data()), n, n_slots()),
                view(static_cast<const T*>(memory.dispatch.data()), n_slots(), n),
                slot_rows<const T>(memory.inputs),
                slot_rows<T>(memory.outputs)};
    }

    static Router<W, detail::SlotGate> router(const MatrixView<const W>& slots, std::size_t n_experts) {
        ensure(slots.rows() > 0 && slots.rows() % n_experts == 0, ErrorCode::shape, "SoftMoELayer: the slots are ",
               slots.rows(), " x ", slots.cols(), ", which is no whole number of slots for each of ", n_experts,
               " experts");
        return {n_experts, detail::SlotGate{slots.rows() / n_experts}};
    }

    [[nodiscard]] Memory lay_out(Arena& arena, std::size_t n_tokens, std::size_t n_workers) const {
        const std::size_t logits = checked_multiply(n_tokens, n_slots());
        const std::size_t rows = checked_multiply(n_slots(), d_model());
        return {arena.take<Index>(n_tokens),
                arena.take<T>(n_tokens),
                arena.take<T>(logits),
                arena.take<T>(logits),
                arena.take<T>(rows),
                arena.take<T>(rows),
                arena.take<std::byte>(experts_.workspace_bytes(n_slots(), n_workers)),
                detail::WorkerScratch<T>::take(arena, n_workers)};
    }

    template <class Value>
    [[nodiscard]] MatrixView<Value> slot_rows(std::span<T> values) const {
        return view(static_cast<Value*>(values.data()), n_slots(), d_model());
    }

    void confirm(const Call& call, const Workspace& workspace) const {
        const MatrixView<const T>& x = call.x;
        ensure(!slots_.empty(), ErrorCode::state, "SoftMoELayer: the layer was moved from");
        detail::check_tokens("SoftMoELayer", x, call.y, d_model());
        ensure(call.router_input.rows() == x.rows() && call.router_input.cols() == slots_.inputs(), ErrorCode::shape,
               "SoftMoELayer: what is compared with the slots is ", call.router_input.rows(), " x ",
               call.router_input.cols(), ", it must be ", x.rows(), " x ", slots_.inputs(),
               " as the tokens and the slots are");
        detail::check_valid("SoftMoELayer", call.options, x.rows());
        ensure(x.rows() <= (std::numeric_limits<Index>::max)(), ErrorCode::overflow, "SoftMoELayer: ", x.rows(),
               " tokens do not fit the index type");
        require_aligned(call.router_input.data(), "SoftMoELayer", "the router input");
        require_disjoint("SoftMoELayer", "the router input", call.router_input, "y", call.y);
        detail::check_apart("SoftMoELayer", x, call.y, call.options, workspace);
        refuse_overlap("SoftMoELayer", "y", overlapped(bytes_of(call.y)));
    }

    [[nodiscard]] static bool is_valid(const Call& call, std::size_t t) {
        return call.options.valid.empty() || call.options.valid[t] != 0;
    }

    [[nodiscard]] static std::span<const Index> valid_tokens(const Call& call) {
        std::size_t n = 0;
        for (std::size_t t = 0; t < call.x.rows(); ++t) {
            if (is_valid(call, t)) {
                call.memory.tokens[n++] = static_cast<Index>(t);
            }
        }
        return call.memory.tokens.first(n);
    }

    /// Into both matrices of weights: the rows of one are tokens, of the other slots.
    void compute_logits(const Call& call) const {
        const std::size_t n = call.tokens.size();
        const std::size_t d = call.router_input.cols();
        const Memory& memory = call.memory;
        detail::run_tasks("SoftMoELayer", call.threads, n, n * d, [&](std::size_t r, std::size_t) {
            const T* const row = call.router_input.row(call.tokens[r]);
            memory.token_scales[r] = options_.normalize ? detail::inverse_length(row, d) : T(1);
        });
        const detail::ProductCut cut(n, slots_.panels(), call.threads.concurrency(), Panel<T>::tile_rows);
        detail::run_tasks(
            "SoftMoELayer", call.threads, cut.n_tasks(), n * n_slots() * d, [&](std::size_t task, std::size_t ith) {
                const auto part = cut.part(task);
                const PanelScratch<T> scratch = memory.scratch.of(ith);
                const RowPointers rows = point_at(scratch, part.n_rows, [&](std::size_t r) {
                    return call.router_input.row(call.tokens[part.first_row + r]);
                });
                slots_.compute_panels(part.panels, rows, memory.combine.data() + part.first_row * n_slots(), n_slots(),
                                      scratch);
                const std::size_t first = part.panels.first * Panel<T>::width;
                const std::size_t end = (std::min)(first + part.panels.count * Panel<T>::width, n_slots());
                for (std::size_t s = first; s < end; ++s) {
                    for (std::size_t r = part.first_row; r < part.first_row + part.n_rows; ++r) {
                        T& logit = memory.combine[r * n_slots() + s];
                        logit *= memory.token_scales[r] * slot_scales_[s];
                        memory.dispatch[s * n + r] = logit;
                    }
                }
            });
    }

    /// Every row of both matrices becomes its softmax.
    void normalize_weights(const Call& call) const {
        const std::size_t n = call.tokens.size();
        constexpr std::size_t cost = 8;  // products that an exponential and a quotient are worth
        detail::run_tasks("SoftMoELayer", call.threads, n + n_slots(), 2 * cost * n * n_slots(),
                          [&](std::size_t row, std::size_t) {
                              if (row < n) {
                                  softmax_row(call.memory.combine.data() + row * n_slots(), n_slots());
                              } else {
                                  softmax_row(call.memory.dispatch.data() + (row - n) * n, n);
                              }
                          });
    }

    /// inputs = D^T x.
    void mix_tokens(const Call& call) const {
        const std::size_t n = call.tokens.size();
        mix(
            call, n_slots(), n, call.memory.dispatch.data(), [&](std::size_t r) { return call.x.row(call.tokens[r]); },
            [&](std::size_t s, std::size_t first, std::size_t columns, const T* sums) {
                std::copy_n(sums, columns, call.memory.inputs.data() + s * d_model() + first);
            });
    }

    /// y = (or +=) C outputs.
    void mix_slots(const Call& call) const {
        mix(
            call, call.tokens.size(), n_slots(), call.memory.combine.data(),
            [&](std::size_t s) { return call.memory.outputs.data() + s * d_model(); },
            [&](std::size_t r, std::size_t first, std::size_t columns, const T* sums) {
                T* const y = call.y.row(call.tokens[r]) + first;
                for (std::size_t c = 0; c < columns; ++c) {
                    y[c] = call.options.accumulate ? y[c] + sums[c] : sums[c];
                }
            });
    }

    /// Hands write(row, first column, columns, sums) every row of weights (n_rows, k) * values (k, d_model).
    template <class Value, class Write>
    void mix(const Call& call, std::size_t n_rows, std::size_t k, const T* weights, Value&& value,
             Write&& write) const {
        constexpr std::size_t width = Panel<T>::width;
        const detail::ProductCut cut(n_rows, divide_up(d_model(), width), call.threads.concurrency(),
                                     Panel<T>::tile_rows);
        detail::run_tasks("SoftMoELayer", call.threads, cut.n_tasks(), n_rows * k * d_model(),
                          [&](std::size_t task, std::size_t ith) {
                              const auto part = cut.part(task);
                              const PanelScratch<T> scratch = call.memory.scratch.of(ith);
                              const RowPointers rows = point_at(scratch, part.n_rows, [&](std::size_t r) {
                                  return weights + (part.first_row + r) * k;
                              });
                              const auto columns = [&](std::size_t i) {
                                  return (std::min)(width, d_model() - (part.panels.first + i) * width);
                              };
                              const auto gather = [&](std::size_t i, std::size_t first, std::size_t depth, T* block) {
                                  for (std::size_t j = 0; j < depth; ++j, block += width) {
                                      const T* const from = value(first + j) + (part.panels.first + i) * width;
                                      std::fill(std::copy_n(from, columns(i), block), block + width, T(0));
                                  }
                              };
                              multiply_gathered<T>(rows, k, part.panels.count, scratch, {gather});
                              for (std::size_t i = 0; i < part.panels.count; ++i) {
                                  for (std::size_t r = 0; r < part.n_rows; ++r) {
                                      write(part.first_row + r, (part.panels.first + i) * width, columns(i),
                                            scratch.sums_of(i, part.n_rows) + r * width);
                                  }
                              }
                          });
    }

    static void clear_padding(const Call& call) {
        for (std::size_t t = 0; t < call.y.rows() && !call.options.accumulate; ++t) {
            if (!is_valid(call, t)) {
                std::fill_n(call.y.row(t), call.y.cols(), T(0));
            }
        }
    }

    Linear<W> slots_;
    MoELayer<Router<W, detail::SlotGate>, Experts> experts_;
    SoftMoEOptions options_;
    std::vector<T> slot_scales_;  // scale / |slot|
};

template <class W, class Experts>
SoftMoELayer(MatrixView<W>, Experts) -> SoftMoELayer<std::remove_const_t<W>, Experts>;
template <class W, class Experts>
SoftMoELayer(MatrixView<W>, Experts, SoftMoEOptions) -> SoftMoELayer<std::remove_const_t<W>, Experts>;

}  // namespace moe::inline MOE_ABI
