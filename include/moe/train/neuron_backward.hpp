#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>
#include <type_traits>

#include "../kernels/add_scaled.hpp"
#include "../kernels/row.hpp"
#include "backward/dense_products.hpp"
#include "backward/form_derivative.hpp"
#include "check_backward.hpp"
#include "parts/neuron_tape.hpp"

namespace moe::inline MOE_ABI {

/// layer.forward that fills `tape` for backward(); see that of a MoELayer. The bits are those of layer.forward.
template <class W, class Activation, class RouterElement, class T = ComputeType<W>, Executor E = SerialExecutor>
void forward(const NeuronLayer<W, Activation, RouterElement>& layer, std::type_identity_t<MatrixView<const T>> x,
             std::type_identity_t<MatrixView<T>> y, NeuronTape<T>& tape, Workspace& workspace, const E& executor = {},
             const ForwardOptions<T>& options = {}) {
    tape.begin(&layer, x, options);
    layer.forward_through(x, y, workspace, ExecutorRef(executor), options,
                          [&](const NeuronChoice<T>& choice) { tape.keep(choice, options.valid); });
    tape.finish();
}

/// One backward pass of a NeuronLayer. An expert e of weight w adds w A(z) up, z = <down, x>, to y:
///
///     dw = A(z) <up, dy>, dz = w A'(z) <up, dy>, d_down += dz x, d_up += w A(z) dy, dx += dz down
///
/// and the logit of expert i * n_keys + j is the sum of those of two keys.
template <class W, class Activation, class RouterElement>
class NeuronBackward {
public:
    using Layer = NeuronLayer<W, Activation, RouterElement>;
    using T = ComputeType<W>;

    NeuronBackward(const Layer& layer, NeuronTape<T>& tape, MatrixView<const T> dy, MatrixView<T> dx,
                   const NeuronGradients<T>& gradients)
        : layer_(layer), tape_(tape), dy_(dy), dx_(dx), gradients_(gradients) {
        detail::ensure_recorded("backward", tape.recorded_);
        detail::ensure_same_layer("backward", tape.layer_ == &layer);
        detail::check_matrices(tape.x_, dy, dx);
        refuse_overlap("backward", "dx", layer.overlapped(bytes_of(dx)));
        require_disjoint("backward", "the router input", tape.router_input_, "dx", dx);
        ensure(tape.weights_.size() <= (std::numeric_limits<Index>::max)(), ErrorCode::overflow,
               "backward: ", tape.weights_.size(), " experts of all tokens do not fit the index type; split the batch");
        const auto& router = layer.router();
        detail::check_stack("the router", gradients.router, router.first().outputs(), router.inputs());
        ensure(gradients.keys.empty() || !router.keys().empty(), ErrorCode::missing,
               "backward: gradients of keys were asked for, but the router is one product");
        if (!router.keys().empty()) {
            detail::check_stack("the keys", gradients.keys, router.n_logits(), d_key());
        }
        detail::check_rows("the router input", gradients.router_input, tape.router_input_.rows(), router.inputs());
        detail::check_rows("down", gradients.down, layer.n_experts(), layer.d_model());
        detail::check_rows("up", gradients.up, layer.n_experts(), layer.d_model());
        refuse_gradient_overlap("a NeuronLayer", gradients,
                                {{"x", bytes_of(tape.x_)},
                                 {"the router input", bytes_of(tape.router_input_)},
                                 {"dy", bytes_of(dy)},
                                 {"dx", bytes_of(dx)}});
    }

    void run(Workspace& workspace, const ExecutorRef& threads, const BackwardOptions& options) {
        detail::check_workspace(tape_.x_, dy_, dx_, workspace);
        Arena measure;
        (void)lay_out(measure);
        (void)Products(measure, threads);
        const WorkspaceLease lease = workspace.lease(measure.used());
        Arena arena = lease.arena();
        memory_ = lay_out(arena);
        const Products products(arena, threads);
        const FloatEnvironment environment;
        differentiate_neurons(threads);
        write_inputs(threads, options);
        list_rows();
        differentiate_router(products, options);
        add_neurons(threads);
        tape_.recorded_ = false;
    }

private:
    using Products = detail::DenseProducts<T>;

    /// A neuron that a token went through; `at` is where it stands in the tape.
    struct Entry {
        ExpertId expert;
        Index at;
        [[nodiscard]] bool operator<(const Entry& other) const {
            return expert != other.expert ? expert < other.expert : at < other.at;
        }
    };
    /// N tokens are no padding.
    struct Memory {
        std::span<T> d_weights;            // (n_tokens, n_heads, top_k)
        std::span<T> d_hidden;             // the same: dz
        std::span<T> hidden;               // the same: w A(z)
        std::span<T> d_logits;             // (n_tokens, n_logits)
        std::span<T> d_queries;            // (n_tokens, n_queries)
        std::span<Entry> entries;          // (n_tokens * n_heads * top_k) at most
        std::span<const T*> read_rows;     // (N)
        std::span<const T*> d_logit_rows;  // (N)
        std::span<const T*> query_rows;    // (N)
        std::span<const T*> d_query_rows;  // (N)
    };

    [[nodiscard]] Memory lay_out(Arena& arena) const {
        const std::size_t chosen = tape_.weights_.size();
        const std::size_t n = tape_.tokens_.size();
        return {arena.take<T>(chosen),
                arena.take<T>(chosen),
                arena.take<T>(chosen),
                arena.take<T>(tape_.logits_.size()),
                arena.take<T>(tape_.queries_.size()),
                arena.take<Entry>(chosen),
                arena.take<const T*>(n),
                arena.take<const T*>(n),
                arena.take<const T*>(n),
                arena.take<const T*>(n)};
    }

    [[nodiscard]] std::size_t d_key() const { return layer_.router().keys().front().inputs(); }
    [[nodiscard]] std::size_t n_tokens() const noexcept { return tape_.tokens_.size(); }
    [[nodiscard]] static std::size_t number(ExpertId e) noexcept { return static_cast<std::size_t>(e); }

    /// Calls use(i) for those of the tape's experts [begin, begin + count) that have a weight: through the others, as
    /// ReLU leaves them, nothing flows. Rows of the next one are asked for meanwhile.
    template <class Use>
    void for_each_chosen(std::size_t begin, std::size_t count, Use&& use) const {
        const std::size_t bytes = layer_.d_model() * sizeof(W);
        for (std::size_t i = begin; i < begin + count; ++i) {
            if (i + 1 < begin + count && tape_.weights_[i + 1] != 0) {
                prefetch_row(layer_.down().row(number(tape_.experts_[i + 1])), bytes);
            }
            if (tape_.weights_[i] != 0) {
                use(i);
            }
        }
    }

    /// Of all that was chosen, then of logits. Tasks: (token, head).
    void differentiate_neurons(const ExecutorRef& threads) const {
        const std::size_t heads = layer_.router().n_heads();
        const std::size_t d = layer_.d_model();
        detail::run_tasks(
            "backward", threads, n_tokens() * heads, 2 * n_tokens() * tape_.n_chosen_ * d,
            [&](std::size_t task, std::size_t) { differentiate_head(tape_.tokens_[task / heads], task % heads); });
    }

    void differentiate_head(std::size_t t, std::size_t head) const {
        const std::size_t heads = layer_.router().n_heads();
        const std::size_t d = layer_.d_model();
        const std::size_t k = tape_.n_chosen_ / heads;
        const std::size_t begin = (t * heads + head) * k;
        for_each_chosen(begin, k, [&](std::size_t i) {
            const std::size_t e = number(tape_.experts_[i]);
            const T w = tape_.weights_[i];
            const T z = dot_row(layer_.down().row(e), tape_.x_.row(t), d);
            const T value = moe::activate(layer_.activation(), z);
            const T along = dot_row(layer_.up().row(e), dy_.row(t), d);
            memory_.d_weights[i] = value * along;
            memory_.d_hidden[i] = w * detail::differentiate(layer_.activation(), z) * along;
            memory_.hidden[i] = w * value;
        });
        const std::size_t n_keys = layer_.router().n_keys();
        T* const a = memory_.d_logits.data() + (t * heads + head) * 2 * n_keys;
        T* const b = a + n_keys;
        std::fill_n(a, 2 * n_keys, T(0));
        const bool softmax = layer_.gate().weights == KeyWeights::softmax;
        T mean = 0;
        for_each_chosen(begin, softmax ? k : 0,
                        [&](std::size_t i) { mean += tape_.weights_[i] * memory_.d_weights[i]; });
        for_each_chosen(begin, k, [&](std::size_t i) {
            // ReLU leaves a weight above 0 as it is, and a NaN
            const T factor = softmax ? tape_.weights_[i] : (tape_.weights_[i] > 0 ? T(1) : tape_.weights_[i]);
            const T d_logit = factor * (memory_.d_weights[i] - mean);
            const std::size_t e = number(tape_.experts_[i]);
            a[e / n_keys] += d_logit;
            b[e % n_keys] += d_logit;
        });
    }

    /// dx of the neurons. Tasks: tokens.
    void write_inputs(const ExecutorRef& threads, const BackwardOptions& options) const {
        const std::size_t d = layer_.d_model();
        for (std::size_t t = 0; t < dx_.rows() && !options.accumulate_dx; ++t) {
            std::fill_n(dx_.row(t), d, T(0));
        }
        detail::run_tasks("backward", threads, dx_.rows() > 0 ? n_tokens() : 0, n_tokens() * tape_.n_chosen_ * d,
                          [&](std::size_t task, std::size_t) {
                              const std::size_t t = tape_.tokens_[task];
                              for_each_chosen(t * tape_.n_chosen_, tape_.n_chosen_, [&](std::size_t i) {
                                  add_scaled_row(memory_.d_hidden[i], layer_.down().row(number(tape_.experts_[i])), d,
                                                 dx_.row(t));
                              });
                          });
    }

    void list_rows() const {
        for (std::size_t r = 0; r < n_tokens(); ++r) {
            const std::size_t t = tape_.tokens_[r];
            memory_.read_rows[r] = tape_.router_input_.row(t);
            memory_.d_logit_rows[r] = memory_.d_logits.data() + t * tape_.n_logits_;
            memory_.query_rows[r] = tape_.queries_.data() + t * tape_.n_queries_;
            memory_.d_query_rows[r] = memory_.d_queries.data() + t * tape_.n_queries_;
        }
    }

    /// From the gradients of logits through both products of the router, or the one, to what it read.
    void differentiate_router(const Products& products, const BackwardOptions& options) const {
        const auto& router = layer_.router();
        const std::size_t n_keys = router.n_keys();
        for (std::size_t half = 0; half < router.keys().size(); ++half) {
            const std::size_t first_query = half * d_key();
            products.multiply(
                n_tokens(), n_keys, d_key(), [&](std::size_t r) { return memory_.d_logit_rows[r] + half * n_keys; },
                detail::gather_weights(router.keys()[half]),
                [&](std::size_t r, std::size_t first, std::size_t columns, const T* sums) {
                    const std::size_t at = tape_.tokens_[r] * tape_.n_queries_ + first_query + first;
                    std::copy_n(sums, columns, memory_.d_queries.data() + at);
                });
            if (!gradients_.keys.empty()) {
                const auto to = gradients_.keys.matrix(0);
                products.add_outer(OuterRows<T>{memory_.d_logit_rows, half * n_keys, n_keys},
                                   OuterRows<T>{memory_.query_rows, first_query, d_key()},
                                   OuterTarget<T>{to.data, to.output_stride, to.input_stride}.at(half * n_keys, 0));
            }
        }
        const auto rows = router.keys().empty() ? memory_.d_logit_rows : memory_.d_query_rows;
        const std::size_t outputs = router.first().outputs();
        products.add_outer(OuterRows<T>{rows, 0, outputs}, OuterRows<T>{memory_.read_rows, 0, router.inputs()},
                           gradients_.router);
        const bool own_input = tape_.router_input_.data() != tape_.x_.data();
        const MatrixView<T> to_x = options.through_router && !own_input ? dx_ : MatrixView<T>();
        if (to_x.rows() == 0 && gradients_.router_input.rows() == 0) {
            return;
        }
        products.multiply(
            n_tokens(), outputs, router.inputs(), [&](std::size_t r) { return rows[r]; },
            detail::gather_weights(router.first()),
            [&](std::size_t r, std::size_t first, std::size_t columns, const T* sums) {
                for (const MatrixView<T>& to : {to_x, gradients_.router_input}) {
                    if (to.rows() > 0) {
                        add_scaled(T(1), sums, columns, to.row(tape_.tokens_[r]) + first);
                    }
                }
            });
    }

    /// Rows of down and up, each by one worker, in order of token, head and slot. Tasks: experts that begin in a block
    /// of the sorted entries. O(n log n) of the n entries, whatever the number of experts.
    void add_neurons(const ExecutorRef& threads) const {
        if (gradients_.down.rows() == 0 && gradients_.up.rows() == 0) {
            return;
        }
        std::size_t count = 0;
        for (std::size_t i = 0; i < tape_.weights_.size(); ++i) {
            if (tape_.weights_[i] != 0) {
                memory_.entries[count++] = {tape_.experts_[i], static_cast<Index>(i)};
            }
        }
        const std::span<Entry> entries = memory_.entries.first(count);
        std::sort(entries.begin(), entries.end());
        constexpr std::size_t block = 64;
        const std::size_t d = layer_.d_model();
        detail::run_tasks(
            "backward", threads, divide_up(count, block), 2 * count * d, [&](std::size_t task, std::size_t) {
                std::size_t i = task * block;
                const std::size_t end = (std::min)(i + block, count);
                while (i > 0 && i < end && entries[i].expert == entries[i - 1].expert) {
                    ++i;
                }
                const std::size_t first = i;  // the end where one expert has all of the block
                for (; first < end && i < count && (i < end || entries[i].expert == entries[i - 1].expert); ++i) {
                    add_neuron(entries[i], d);
                }
            });
    }

    void add_neuron(const Entry& entry, std::size_t d) const {
        const std::size_t t = entry.at / tape_.n_chosen_;
        const std::size_t e = number(entry.expert);
        if (gradients_.down.rows() > 0) {
            add_scaled(memory_.d_hidden[entry.at], tape_.x_.row(t), d, gradients_.down.row(e));
        }
        if (gradients_.up.rows() > 0) {
            add_scaled(memory_.hidden[entry.at], dy_.row(t), d, gradients_.up.row(e));
        }
    }

    const Layer& layer_;
    NeuronTape<T>& tape_;
    MatrixView<const T> dy_;
    MatrixView<T> dx_;
    const NeuronGradients<T>& gradients_;
    Memory memory_;
};

namespace detail {

template <class W, class Activation, class RouterElement, class T>
void check_backward(const NeuronLayer<W, Activation, RouterElement>& layer, NeuronTape<T>& tape, MatrixView<const T> dy,
                    MatrixView<T> dx, const NeuronGradients<T>& gradients) {
    (void)NeuronBackward<W, Activation, RouterElement>(layer, tape, dy, dx, gradients);
}

}  // namespace detail

/// See backward() of a MoELayer, whose promises it keeps: dx of a token has the same bits in any batch, and those of
/// parameters do not depend on the threads, nor on how a batch is cut into calls in order. An activation of your own
/// needs a `derivative`. Complexity: O(n_heads * top_k * d_model) a token for the neurons, and twice the products of
/// the router.
template <class W, class Activation, class RouterElement, class T = ComputeType<W>, Executor E = SerialExecutor>
void backward(const NeuronLayer<W, Activation, RouterElement>& layer, NeuronTape<T>& tape,
              std::type_identity_t<MatrixView<const T>> dy, std::type_identity_t<MatrixView<T>> dx,
              const NeuronGradients<T>& gradients, Workspace& workspace, const E& executor = {},
              const BackwardOptions& options = {}) {
    NeuronBackward<W, Activation, RouterElement>(layer, tape, dy, dx, gradients)
        .run(workspace, ExecutorRef(executor), options);
}

}  // namespace moe::inline MOE_ABI
