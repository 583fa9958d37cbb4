#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <span>
#include <type_traits>

#include "../kernels/add_scaled.hpp"
#include "../kernels/row.hpp"
#include "backward/dense_products.hpp"
#include "check_backward.hpp"
#include "parts/soft_tape.hpp"

namespace moe::inline MOE_ABI {

/// Runs the experts of a SoftMoELayer with a tape of their own, and keeps what goes through them.
template <class W, class Experts>
class SoftRecorder {
public:
    using Layer = SoftMoELayer<W, Experts>;
    using T = ComputeType<W>;

    SoftRecorder(const Layer& layer, SoftTape<T>& tape) : layer_(layer), tape_(tape) {}

    void run(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const ExecutorRef& threads,
             const ForwardOptions<T>& options) {
        tape_.recorded_ = false;
        tape_.layer_ = &layer_;
        tape_.x_ = x;
        tape_.router_input_ = options.router_input.cols() == 0 ? x : options.router_input;
        tape_.n_slots_ = layer_.n_slots();
        tape_.tokens_.clear();
        tape_.inputs_.clear();
        layer_.forward_through(x, y, workspace, threads, options,
                               [this](const SoftMixture<T>& mixture, Workspace& own, const ExecutorRef& workers,
                                      const ForwardOptions<T>& inside) { run_experts(mixture, own, workers, inside); });
        if (tape_.tokens_.empty()) {  // a tape of no slots: gradients that do not fit are told in any batch
            const MatrixView<T> none = view(static_cast<T*>(nullptr), 0, layer_.d_model());
            moe::forward(layer_.slot_layer(), none, none, tape_.experts_, workspace, threads);
        }
        tape_.recorded_ = true;
    }

private:
    void run_experts(const SoftMixture<T>& mixture, Workspace& workspace, const ExecutorRef& threads,
                     const ForwardOptions<T>& options) {
        const auto keep = [](const auto* values, std::size_t count, auto& to) { to.assign(values, values + count); };
        keep(mixture.tokens.data(), mixture.tokens.size(), tape_.tokens_);
        keep(mixture.token_scales.data(), mixture.token_scales.size(), tape_.token_scales_);
        const std::size_t weights = mixture.tokens.size() * layer_.n_slots();
        keep(mixture.combine.data(), weights, tape_.combine_);
        keep(mixture.dispatch.data(), weights, tape_.dispatch_);
        const std::size_t values = layer_.n_slots() * layer_.d_model();
        keep(mixture.inputs.data(), values, tape_.inputs_);
        moe::forward(layer_.slot_layer(), tape_.rows_of(tape_.inputs_), mixture.outputs, tape_.experts_, workspace,
                     threads, options);
        keep(mixture.outputs.data(), values, tape_.outputs_);
    }

    const Layer& layer_;
    SoftTape<T>& tape_;
};

/// layer.forward that fills `tape` for backward(); see that of a MoELayer. The bits are those of layer.forward.
template <class W, class Experts, class T = ComputeType<W>, Executor E = SerialExecutor>
void forward(const SoftMoELayer<W, Experts>& layer, std::type_identity_t<MatrixView<const T>> x,
             std::type_identity_t<MatrixView<T>> y, SoftTape<T>& tape, Workspace& workspace, const E& executor = {},
             const ForwardOptions<T>& options = {}) {
    SoftRecorder<W, Experts>(layer, tape).run(x, y, workspace, ExecutorRef(executor), options);
}

/// One backward pass of a SoftMoELayer. With L the logits, D their softmax over the tokens and C over the slots,
/// Z = D^T x, Y = f(Z), y = C Y:
///
///     dC = dy Y^T, dY = C^T dy, dZ by the experts, dD = x dZ^T, dx = D dZ + what flows through the logits
///     dL = C * (dC - <C, dC> of its token) + D * (dD - <D, dD> of its slot)
template <class W, class Experts>
class SoftBackward {
public:
    using Layer = SoftMoELayer<W, Experts>;
    using T = ComputeType<W>;

    SoftBackward(const Layer& layer, SoftTape<T>& tape, MatrixView<const T> dy, MatrixView<T> dx,
                 const SoftGradients<T>& gradients)
        : layer_(layer), tape_(tape), dy_(dy), dx_(dx), gradients_(gradients) {
        detail::ensure_recorded("backward", tape.recorded_);
        detail::ensure_same_layer("backward", tape.layer_ == &layer);
        detail::check_matrices(tape.x_, dy, dx);
        refuse_overlap("backward", "dx", layer.overlapped(bytes_of(dx)));
        const MatrixView<const T>& read = tape.router_input_;
        require_disjoint("backward", "the router input", read, "dx", dx);
        detail::check_stack("the slots", gradients.slots, layer.n_slots(), layer.slots().inputs());
        detail::check_rows("the router input", gradients.router_input, read.rows(), read.cols());
        ensure(gradients.scale.size() <= 1, ErrorCode::shape, "backward: ", gradients.scale.size(),
               " gradients of the scale, there is one");
        refuse_gradient_overlap("a SoftMoELayer", gradients,
                                {{"x", bytes_of(tape.x_)},
                                 {"the router input", bytes_of(read)},
                                 {"dy", bytes_of(dy)},
                                 {"dx", bytes_of(dx)}});
        tape.of_experts_.experts = gradients.experts;  // a copy of no new memory: the tape keeps the last one
        tape.d_outputs_.resize(tape.inputs_.size());
        tape.d_inputs_.resize(tape.inputs_.size());
        detail::check_backward(layer.slot_layer(), tape.experts_, d_outputs(), tape.rows_of(tape.d_inputs_),
                               tape.of_experts_);
    }

    void run(Workspace& workspace, const ExecutorRef& threads, const BackwardOptions& options) {
        detail::check_workspace(tape_.x_, dy_, dx_, workspace);
        with_memory(workspace, threads, false, [&](const Memory&, const Products& products) {
            std::fill(tape_.d_outputs_.begin(), tape_.d_outputs_.end(), T(0));
            const std::size_t d = dy_.cols();
            products.add_outer(OuterRows<T>{pointers_.weights, 0, n_slots()}, OuterRows<T>{pointers_.dy, 0, d},
                               OuterTarget<T>{tape_.d_outputs_.data(), d});
        });
        moe::backward(layer_.slot_layer(), tape_.experts_, d_outputs(), tape_.rows_of(tape_.d_inputs_),
                      tape_.of_experts_, workspace, threads);
        with_memory(workspace, threads, true, [&](const Memory& memory, const Products& products) {
            differentiate_logits(memory, products);
            differentiate_comparison(memory, products);
            write_inputs(memory, products, options);
            add_slots(memory, products);
        });
        tape_.recorded_ = false;
    }

private:
    using Products = detail::DenseProducts<T>;

    /// What the last part of the pass needs. N tokens are no padding.
    struct Memory {
        std::span<T> d_combine;   // (N, n_slots), then dL
        std::span<T> d_dispatch;  // (n_slots, N)
        std::span<T> scaled;      // (N, n_slots): dL over the length of the slot
        std::span<T> d_read;      // (N, d_router): the gradient of the direction of what is read, without scale
        std::span<T> d_slots;     // (n_slots, d_router): the same of the slots
        std::span<T> slots;       // (n_slots, d_router)
        std::span<T> lengths;     // (n_slots): 1 / |slot|, or 1
        std::span<T> along;       // (N): what a token adds to the gradient of the scale
        std::span<T> dx;          // (N, d_model)
    };
    /// Rows of the operands of outer products.
    struct Pointers {
        std::span<const T*> weights;   // (N) of combine, or of dL
        std::span<const T*> dy;        // (N)
        std::span<const T*> read;      // (N)
        std::span<const T*> dispatch;  // (n_slots)
        std::span<const T*> d_inputs;  // (n_slots)
    };

    [[nodiscard]] std::size_t n_tokens() const noexcept { return tape_.tokens_.size(); }
    [[nodiscard]] std::size_t n_slots() const noexcept { return tape_.n_slots_; }
    [[nodiscard]] std::size_t d_router() const noexcept { return tape_.router_input_.cols(); }
    [[nodiscard]] MatrixView<const T> d_outputs() const { return tape_.rows_of(tape_.d_outputs_); }
    [[nodiscard]] T scale() const noexcept { return static_cast<T>(layer_.options().scale); }

    [[nodiscard]] Memory lay_out(Arena& arena) const {
        const std::size_t weights = n_tokens() * n_slots();
        return {arena.take<T>(weights),
                arena.take<T>(weights),
                arena.take<T>(weights),
                arena.take<T>(n_tokens() * d_router()),
                arena.take<T>(n_slots() * d_router()),
                arena.take<T>(n_slots() * d_router()),
                arena.take<T>(n_slots()),
                arena.take<T>(n_tokens()),
                arena.take<T>(n_tokens() * dx_.cols())};
    }
    [[nodiscard]] Pointers lay_out_pointers(Arena& arena) const {
        return {arena.take<const T*>(n_tokens()), arena.take<const T*>(n_tokens()), arena.take<const T*>(n_tokens()),
                arena.take<const T*>(n_slots()), arena.take<const T*>(n_slots())};
    }

    /// Calls part(memory, products) in the workspace, `whole` with all of the memory.
    template <class Part>
    void with_memory(Workspace& workspace, const ExecutorRef& threads, bool whole, Part&& part) {
        const auto lay = [&](Arena& arena, auto&& use) {
            const Pointers pointers = lay_out_pointers(arena);
            const Memory memory = whole ? lay_out(arena) : Memory{};
            use(pointers, memory, Products(arena, threads));
        };
        Arena measure;
        lay(measure, [](const Pointers&, const Memory&, const Products&) {});
        const WorkspaceLease lease = workspace.lease(measure.used());
        Arena arena = lease.arena();
        const FloatEnvironment environment;
        lay(arena, [&](const Pointers& pointers, const Memory& memory, const Products& products) {
            pointers_ = pointers;
            for (std::size_t r = 0; r < n_tokens(); ++r) {
                pointers.weights[r] = (whole ? memory.d_combine.data() : tape_.combine_.data()) + r * n_slots();
                pointers.dy[r] = dy_.row(tape_.tokens_[r]);
                pointers.read[r] = tape_.router_input_.row(tape_.tokens_[r]);
            }
            for (std::size_t s = 0; s < n_slots() && n_tokens() > 0; ++s) {
                pointers.dispatch[s] = tape_.dispatch_.data() + s * n_tokens();
                pointers.d_inputs[s] = tape_.d_inputs_.data() + s * dy_.cols();
            }
            part(memory, products);
        });
    }

    /// memory.d_combine = dL.
    void differentiate_logits(const Memory& memory, const Products& products) const {
        const std::size_t n = n_tokens();
        const std::size_t m = n_slots();
        const std::size_t d = dy_.cols();
        const auto copy_to = [](std::span<T> to, std::size_t stride) {
            return [=](std::size_t r, std::size_t first, std::size_t columns, const T* sums) {
                std::copy_n(sums, columns, to.data() + r * stride + first);
            };
        };
        const T* const outputs = tape_.outputs_.data();
        products.multiply(
            n, d, m, [&](std::size_t r) { return pointers_.dy[r]; },
            detail::gather_transposed_rows<T>(m, [=](std::size_t s) { return outputs + s * d; }),
            copy_to(memory.d_combine, m));
        products.multiply(
            m, d, n, [&](std::size_t s) { return pointers_.d_inputs[s]; },
            detail::gather_transposed_rows<T>(n, [this](std::size_t r) { return tape_.x_.row(tape_.tokens_[r]); }),
            copy_to(memory.d_dispatch, n));
        const auto of_softmax = [](const T* shares, std::size_t count, T* d_shares) {
            const T along = dot_row(shares, static_cast<const T*>(d_shares), count);
            for (std::size_t i = 0; i < count; ++i) {
                d_shares[i] = shares[i] * (d_shares[i] - along);
            }
        };
        const std::size_t cost = 4 * n * m;
        detail::run_tasks("backward", products.threads(), n == 0 ? 0 : m, cost, [&](std::size_t s, std::size_t) {
            of_softmax(pointers_.dispatch[s], n, memory.d_dispatch.data() + s * n);
        });
        detail::run_tasks("backward", products.threads(), n, cost, [&](std::size_t r, std::size_t) {
            T* const row = memory.d_combine.data() + r * m;
            of_softmax(tape_.combine_.data() + r * m, m, row);
            for (std::size_t s = 0; s < m; ++s) {
                row[s] += memory.d_dispatch[s * n + r];
            }
        });
    }

    /// What the logits are made of: gradients of both directions, and of the scale.
    void differentiate_comparison(const Memory& memory, const Products& products) const {
        const std::size_t n = n_tokens();
        const std::size_t m = n_slots();
        const std::size_t d = d_router();
        detail::run_tasks("backward", products.threads(), m, 2 * m * d, [&](std::size_t s, std::size_t) {
            T* const slot = memory.slots.data() + s * d;
            std::array<T, Panel<T>::width> block;
            for (std::size_t first = 0; first < d; first += block.size()) {
                layer_.slots().gather_transposed(first, s, 1, block.data());
                std::copy_n(block.data(), (std::min)(block.size(), d - first), slot + first);
            }
            memory.lengths[s] = layer_.options().normalize ? detail::inverse_length(slot, d) : T(1);
        });
        detail::run_tasks("backward", products.threads(), n, n * m, [&](std::size_t r, std::size_t) {
            for (std::size_t s = 0; s < m; ++s) {
                memory.scaled[r * m + s] = memory.d_combine[r * m + s] * memory.lengths[s];
            }
        });
        products.multiply(
            n, m, d, [&](std::size_t r) { return memory.scaled.data() + r * m; },
            detail::gather_rows<T>(d, [slots = memory.slots.data(), d](std::size_t s) { return slots + s * d; }),
            [&](std::size_t r, std::size_t first, std::size_t columns, const T* sums) {
                std::copy_n(sums, columns, memory.d_read.data() + r * d + first);
            });
        std::fill(memory.d_slots.begin(), memory.d_slots.end(), T(0));
        products.add_outer(OuterRows<T>{pointers_.weights, 0, m},
                           OuterRows<T>{pointers_.read, 0, d, tape_.token_scales_},
                           OuterTarget<T>{memory.d_slots.data(), d});
        if (n == 0) {
            return;
        }
        detail::run_tasks("backward", products.threads(), n, 2 * n * d, [&](std::size_t r, std::size_t) {
            T* const row = memory.d_read.data() + r * d;
            memory.along[r] = tape_.token_scales_[r] * dot_row(pointers_.read[r], static_cast<const T*>(row), d);
            of_direction(pointers_.read[r], tape_.token_scales_[r], memory.along[r], row);
        });
        for (std::size_t r = 0; r < n && !gradients_.scale.empty(); ++r) {
            gradients_.scale[0] += memory.along[r];
        }
    }

    /// From the gradient of u = r v, without scale, and its product with u to that of v: scale r (du - u <u, du>).
    void of_direction(const T* v, T r, T along, T* dv) const {
        const std::size_t d = d_router();
        if (layer_.options().normalize) {
            add_scaled(-along * r, v, d, dv);
        }
        std::transform(dv, dv + d, dv, [factor = scale() * r](T value) { return factor * value; });
    }

    /// dx, and the gradient of a router's input of its own.
    void write_inputs(const Memory& memory, const Products& products, const BackwardOptions& options) const {
        const std::size_t d = dx_.cols();
        for (std::size_t t = 0; t < dx_.rows() && !options.accumulate_dx; ++t) {
            std::fill_n(dx_.row(t), d, T(0));
        }
        const auto add = [](const T* from, std::size_t count, T* to) { add_scaled(T(1), from, count, to); };
        const T* const d_read = memory.d_read.data();
        if (gradients_.router_input.rows() > 0) {
            for (std::size_t r = 0; r < n_tokens(); ++r) {
                add(d_read + r * d_router(), d_router(), gradients_.router_input.row(tape_.tokens_[r]));
            }
        }
        if (dx_.rows() == 0 || n_tokens() == 0) {
            return;
        }
        std::fill(memory.dx.begin(), memory.dx.end(), T(0));
        products.add_outer(OuterRows<T>{pointers_.dispatch, 0, n_tokens()}, OuterRows<T>{pointers_.d_inputs, 0, d},
                           OuterTarget<T>{memory.dx.data(), d});
        const bool own_input = tape_.router_input_.data() != tape_.x_.data();
        for (std::size_t r = 0; r < n_tokens(); ++r) {
            T* const row = dx_.row(tape_.tokens_[r]);
            add(memory.dx.data() + r * d, d, row);
            if (options.through_router && !own_input) {
                add(d_read + r * d, d, row);
            }
        }
    }

    void add_slots(const Memory& memory, const Products& products) const {
        if (gradients_.slots.empty() || n_tokens() == 0) {
            return;
        }
        const std::size_t d = d_router();
        const auto to = gradients_.slots.matrix(0);
        detail::run_tasks("backward", products.threads(), n_slots(), 2 * n_slots() * d,
                          [&](std::size_t s, std::size_t) {
                              T* const row = memory.d_slots.data() + s * d;
                              const T* const slot = memory.slots.data() + s * d;
                              const T length = memory.lengths[s];
                              of_direction(slot, length, length * dot_row(slot, static_cast<const T*>(row), d), row);
                              for (std::size_t i = 0; i < d; ++i) {
                                  to.data[s * to.output_stride + i * to.input_stride] += row[i];
                              }
                          });
    }

    const Layer& layer_;
    SoftTape<T>& tape_;
    MatrixView<const T> dy_;
    MatrixView<T> dx_;
    const SoftGradients<T>& gradients_;
    Pointers pointers_;
};

namespace detail {

template <class W, class Experts, class T>
void check_backward(const SoftMoELayer<W, Experts>& layer, SoftTape<T>& tape, MatrixView<const T> dy, MatrixView<T> dx,
                    const SoftGradients<T>& gradients) {
    (void)SoftBackward<W, Experts>(layer, tape, dy, dx, gradients);
}

}  // namespace detail

/// See backward() of a MoELayer. All tokens of a call are one sequence, so that dx and the gradients of parameters are
/// those of the whole, and a NaN reaches all of them; the bits do not depend on the threads. Padding takes part in
/// nothing, whatever stands in it or its dy. Of a workspace that is too small see that of a HierarchicalLayer.
/// Complexity: that of the experts, and four times the products of tokens and slots of a forward pass.
template <class W, class Experts, class T = ComputeType<W>, Executor E = SerialExecutor>
void backward(const SoftMoELayer<W, Experts>& layer, SoftTape<T>& tape, std::type_identity_t<MatrixView<const T>> dy,
              std::type_identity_t<MatrixView<T>> dx, const SoftGradients<T>& gradients, Workspace& workspace,
              const E& executor = {}, const BackwardOptions& options = {}) {
    SoftBackward<W, Experts>(layer, tape, dy, dx, gradients).run(workspace, ExecutorRef(executor), options);
}

}  // namespace moe::inline MOE_ABI
