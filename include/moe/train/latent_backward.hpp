#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>

#include "../kernels/add_scaled.hpp"
#include "backward/dense_products.hpp"
#include "check_backward.hpp"
#include "parts/latent_tape.hpp"

namespace moe::inline MOE_ABI {

/// Runs the layer inside a LatentLayer with a tape of its own, and keeps what goes through it.
template <class Inner, class W, class SharedBank>
class LatentRecorder {
public:
    using Layer = LatentLayer<Inner, W, SharedBank>;
    using T = ComputeType<W>;

    LatentRecorder(const Layer& layer, LatentTape<T>& tape, MatrixView<const T> x, const ForwardOptions<T>& options)
        : layer_(layer), tape_(tape), outside_(tape.outside_, TapeOwner{&layer, nullptr, nullptr}, x, {}) {
        tape.d_latent_ = layer.d_latent();
        tape.reads_x_ = options.router_input.cols() == 0;
    }

    void run(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const ExecutorRef& threads,
             const ForwardOptions<T>& options) {
        layer_.forward_through(
            x, y, workspace, threads, options,
            [this](MatrixView<const T> latent, MatrixView<T> routed, Workspace& own, const ExecutorRef& workers,
                   const ForwardOptions<T>& inside) { run_inner(latent, routed, own, workers, inside); });
        outside_.finish();
    }

private:
    void run_inner(MatrixView<const T> latent, MatrixView<T> routed, Workspace& workspace, const ExecutorRef& threads,
                   const ForwardOptions<T>& options) {
        const std::size_t n = latent.rows();
        tape_.no_experts_.assign(n + 1, Index{0});
        PlanView<T> nobody;
        nobody.n_tokens = n;
        nobody.token_offsets = tape_.no_experts_;
        nobody.expert_offsets = std::span<const Index>(tape_.no_experts_).first(1);
        outside_.keep({nobody, {}, {}, options.valid});
        const std::size_t values = n * layer_.d_latent();
        tape_.latent_.assign(latent.data(), latent.data() + values);
        moe::forward(layer_.inner(), tape_.rows_of(tape_.latent_), routed, tape_.inner_, workspace, threads, options);
        tape_.routed_.assign(routed.data(), routed.data() + values);
    }

    const Layer& layer_;
    LatentTape<T>& tape_;
    TapeRecorder<T> outside_;
};

/// layer.forward that fills `tape` for backward(); see that of a MoELayer. The bits are those of layer.forward.
template <class Inner, class W, class SharedBank, class T = ComputeType<W>, Executor E = SerialExecutor>
void forward(const LatentLayer<Inner, W, SharedBank>& layer, std::type_identity_t<MatrixView<const T>> x,
             std::type_identity_t<MatrixView<T>> y, LatentTape<T>& tape, Workspace& workspace, const E& executor = {},
             const ForwardOptions<T>& options = {}) {
    LatentRecorder<Inner, W, SharedBank>(layer, tape, x, options).run(x, y, workspace, ExecutorRef(executor), options);
}

/// One backward pass of a LatentLayer: out, the layer inside, in; then the shared experts.
template <class Inner, class W, class SharedBank>
class LatentBackward {
public:
    using Layer = LatentLayer<Inner, W, SharedBank>;
    using T = ComputeType<W>;

    static_assert(std::is_same_v<GradientsOf<Inner>, LayerGradients<T>>,
                  "backward: the layer inside a LatentLayer must be a MoELayer, or one under another gate");

    LatentBackward(const Layer& layer, LatentTape<T>& tape, MatrixView<const T> dy, MatrixView<T> dx,
                   const LatentGradients<T>& gradients)
        : layer_(layer), tape_(tape), dy_(dy), dx_(dx), gradients_(gradients) {
        tape.of_inner_ = gradients.inner;  // copies of no new memory: the tape keeps the last ones
        tape.of_shared_.shared = gradients.shared;
        (void)of_shared({});
        refuse_overlap("backward", "dx", layer.overlapped(bytes_of(dx)));
        const std::size_t d = layer.d_model();
        const std::size_t d_latent = layer.d_latent();
        detail::check_stack("the projection in", gradients.in, d_latent, d);
        detail::check_stack("the projection out", gradients.out, d, d_latent);
        ensure(gradients.in_bias.empty() || gradients.in_bias.size() == d_latent, ErrorCode::shape,
               "backward: ", gradients.in_bias.size(), " gradients of the bias in for d_latent ", d_latent);
        ensure(gradients.out_bias.empty() || gradients.out_bias.size() == d, ErrorCode::shape,
               "backward: ", gradients.out_bias.size(), " gradients of the bias out for d_model ", d);
        ensure(!tape.reads_x_ || gradients.inner.router_input.rows() == 0, ErrorCode::missing,
               "backward: the gradient of a router input was asked for, but the router read x: it is part of dx");
        refuse_gradient_overlap("a LatentLayer", gradients,
                                {{"x", bytes_of(tape.outside_.x())},
                                 {"the router input", bytes_of(tape.inner_.router_input())},
                                 {"dy", bytes_of(dy)},
                                 {"dx", bytes_of(dx)}});
        require_disjoint("backward", "the router input", tape.inner_.router_input(), "dx", dx);
        tape.d_latent_rows_.resize(tape.latent_.size());
        detail::check_backward(layer.inner(), tape.inner_, d_routed(), d_latent_rows(), tape.of_inner_);
    }

    void run(Workspace& workspace, const ExecutorRef& threads, const BackwardOptions& options) {
        detail::check_workspace(tape_.outside_.x(), dy_, dx_, workspace);
        for (std::size_t t = 0; t < dx_.rows() && !options.accumulate_dx; ++t) {
            std::fill_n(dx_.row(t), dx_.cols(), T(0));
        }
        if (tape_.reads_x_ && options.through_router && tape_.inner_.logits().cols() > 0) {
            tape_.of_inner_.router_input = dx_;
        }
        BackwardOptions inside = options;
        inside.accumulate_dx = false;
        with_products(workspace, threads,
                      [&](const Products& products, std::span<const T*> rows, std::span<const T*> others) {
                          leave(products, rows, others);
                      });
        moe::backward(layer_.inner(), tape_.inner_, d_routed(), d_latent_rows(), tape_.of_inner_, workspace, threads,
                      inside);
        with_products(workspace, threads,
                      [&](const Products& products, std::span<const T*> rows, std::span<const T*> others) {
                          enter(products, rows, others);
                      });
        BackwardOptions outside = options;
        outside.accumulate_dx = true;
        of_shared(outside).run(workspace, threads);
    }

private:
    using Products = detail::DenseProducts<T>;

    [[nodiscard]] auto of_shared(const BackwardOptions& options) {
        return BackwardPass<T>(shared_, tape_.outside_, dy_, dx_, tape_.of_shared_, options);
    }
    [[nodiscard]] std::size_t n_tokens() const noexcept { return dy_.rows(); }
    /// In the memory of what came out of the layer inside, which is no longer needed then.
    [[nodiscard]] MatrixView<const T> d_routed() const { return tape_.rows_of(tape_.routed_); }
    [[nodiscard]] MatrixView<T> d_latent_rows() const { return tape_.rows_of(tape_.d_latent_rows_); }

    /// Calls part(products, room for pointers to rows, and for as many others) in the workspace.
    template <class Part>
    void with_products(Workspace& workspace, const ExecutorRef& threads, Part&& part) const {
        const auto lay = [&](Arena& arena, auto&& use) {
            const auto rows = arena.take<const T*>(n_tokens());
            const auto others = arena.take<const T*>(n_tokens());
            use(Products(arena, threads), rows, others);
        };
        Arena measure;
        lay(measure, [](const Products&, std::span<const T*>, std::span<const T*>) {});
        const WorkspaceLease lease = workspace.lease(measure.used());
        Arena arena = lease.arena();
        const FloatEnvironment environment;
        lay(arena, part);
    }

    /// Of the projection out, then of what came out of the layer inside.
    void leave(const Products& products, std::span<const T*> d_outputs, std::span<const T*> inputs) const {
        const std::size_t d = layer_.d_model();
        const std::size_t d_latent = layer_.d_latent();
        const MatrixView<T> routed = tape_.rows_of(tape_.routed_);
        std::size_t n = 0;
        for (std::size_t t = 0; t < n_tokens(); ++t) {
            add_to(gradients_.out_bias, dy_.row(t));
            if (tape_.takes_part(t, dy_.row(t), d)) {
                d_outputs[n] = dy_.row(t);
                inputs[n++] = routed.row(t);
            }
        }
        products.add_outer(OuterRows<T>{d_outputs.first(n), 0, d}, OuterRows<T>{inputs.first(n), 0, d_latent},
                           gradients_.out);
        products.multiply(
            n_tokens(), d, d_latent, [&](std::size_t t) { return dy_.row(t); }, detail::gather_weights(layer_.out()),
            [&](std::size_t t, std::size_t first, std::size_t columns, const T* sums) {
                std::copy_n(sums, columns, routed.row(t) + first);
            });
    }

    /// Of the projection in, then dx.
    void enter(const Products& products, std::span<const T*> d_outputs, std::span<const T*> inputs) const {
        const std::size_t d = layer_.d_model();
        const std::size_t d_latent = layer_.d_latent();
        const MatrixView<const T>& x = tape_.outside_.x();
        std::size_t n = 0;
        for (std::size_t t = 0; t < n_tokens(); ++t) {
            const T* const row = d_latent_rows().row(t);
            if (tape_.takes_part(t, row, d_latent)) {
                add_to(gradients_.in_bias, row);
                d_outputs[n] = row;
                inputs[n++] = x.row(t);
            }
        }
        products.add_outer(OuterRows<T>{d_outputs.first(n), 0, d_latent}, OuterRows<T>{inputs.first(n), 0, d},
                           gradients_.in);
        products.multiply(
            dx_.rows(), d_latent, d, [&](std::size_t t) { return d_latent_rows().row(t); },
            detail::gather_weights(layer_.in()),
            [&](std::size_t t, std::size_t first, std::size_t columns, const T* sums) {
                add_scaled(T(1), sums, columns, dx_.row(t) + first);
            });
    }

    static void add_to(std::span<T> bias, const T* row) { add_scaled(T(1), row, bias.size(), bias.data()); }

    const Layer& layer_;
    LatentTape<T>& tape_;
    MatrixView<const T> dy_;
    MatrixView<T> dx_;
    const LatentGradients<T>& gradients_;
    LayerOptions<T> no_options_{};
    BackwardLayer<T> shared_{layer_.shared(), no_options_, TapeOwner{&layer_, nullptr, nullptr}};
};

namespace detail {

template <class Inner, class W, class SharedBank, class T>
void check_backward(const LatentLayer<Inner, W, SharedBank>& layer, LatentTape<T>& tape, MatrixView<const T> dy,
                    MatrixView<T> dx, const LatentGradients<T>& gradients) {
    (void)LatentBackward<Inner, W, SharedBank>(layer, tape, dy, dx, gradients);
}

}  // namespace detail

/// See backward() of a MoELayer, whose promises it keeps as those of the layer inside are: a MoELayer, or one under
/// another gate. Of a workspace that is too small see that of a HierarchicalLayer. Complexity: that of the layer inside
/// and of the shared experts, and twice the products of both projections.
template <class Inner, class W, class SharedBank, class T = ComputeType<W>, Executor E = SerialExecutor>
void backward(const LatentLayer<Inner, W, SharedBank>& layer, LatentTape<T>& tape,
              std::type_identity_t<MatrixView<const T>> dy, std::type_identity_t<MatrixView<T>> dx,
              const LatentGradients<T>& gradients, Workspace& workspace, const E& executor = {},
              const BackwardOptions& options = {}) {
    LatentBackward<Inner, W, SharedBank>(layer, tape, dy, dx, gradients).run(workspace, ExecutorRef(executor), options);
}

}  // namespace moe::inline MOE_ABI
