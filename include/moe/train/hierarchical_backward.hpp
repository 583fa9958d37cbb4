#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>

#include "../kernels/row.hpp"
#include "check_backward.hpp"
#include "latent_backward.hpp"
#include "neuron_backward.hpp"
#include "parts/hierarchical_tape.hpp"
#include "soft_moe_backward.hpp"

namespace moe::inline MOE_ABI {

// Groups may be mixtures of mixtures themselves.
template <class RouterType, class Group, class T = typename Group::value_type, Executor E = SerialExecutor>
void forward(const HierarchicalLayer<RouterType, Group>& layer, std::type_identity_t<MatrixView<const T>> x,
             std::type_identity_t<MatrixView<T>> y, HierarchicalTape<T, TapeOf<Group>>& tape, Workspace& workspace,
             const E& executor = {}, ForwardOptions<T> options = {});
template <class RouterType, class Group, class T = typename Group::value_type, Executor E = SerialExecutor>
void backward(const HierarchicalLayer<RouterType, Group>& layer, HierarchicalTape<T, TapeOf<Group>>& tape,
              std::type_identity_t<MatrixView<const T>> dy, std::type_identity_t<MatrixView<T>> dx,
              const HierarchicalGradients<T, GradientsOf<Group>>& gradients, Workspace& workspace,
              const E& executor = {}, const BackwardOptions& options = {});

namespace detail {

template <class RouterType, class Group, class T>
void check_backward(const HierarchicalLayer<RouterType, Group>& layer, HierarchicalTape<T, TapeOf<Group>>& tape,
                    MatrixView<const T> dy, MatrixView<T> dx,
                    const HierarchicalGradients<T, GradientsOf<Group>>& gradients);

}  // namespace detail

/// Runs the groups of a layer with tapes of their own, and keeps what goes through them.
template <class RouterType, class Group>
class GroupRecorder {
public:
    using Layer = HierarchicalLayer<RouterType, Group>;
    using T = typename Group::value_type;

    GroupRecorder(const Layer& layer, HierarchicalTape<T, TapeOf<Group>>& tape, MatrixView<const T> x,
                  const ForwardOptions<T>& options)
        : layer_(layer), tape_(tape), outer_(tape.outer_, moe::tape_owner(&layer, layer.router()), x, options) {}

    /// With `plan` null it is to be made.
    void run(MatrixView<const T> x, const PlanView<T>* plan, MatrixView<T> y, Workspace& workspace,
             const ExecutorRef& threads, ForwardOptions<T> options) {
        tape_.groups_.resize(layer_.n_groups());
        tape_.first_row_.assign(layer_.n_groups() + 1, 0);
        tape_.d_model_ = layer_.d_model();
        if (plan != nullptr) {
            outer_.keep({*plan, {}, {}, {}});
        }
        options.observer = &outer_;
        n_done_ = 0;
        layer_.forward_through(x, plan, y, workspace, threads, options,
                               [this](const GroupBatch<T>& batch, Workspace& own, const ExecutorRef& workers,
                                      const ForwardOptions<T>& inside) { run_group(batch, own, workers, inside); });
        run_empty_until(layer_.n_groups(), workspace, threads);
        outer_.finish();
    }

private:
    void run_group(const GroupBatch<T>& batch, Workspace& workspace, const ExecutorRef& threads,
                   const ForwardOptions<T>& options) {
        const std::size_t d = layer_.d_model();
        const std::size_t most = tape_.outer().plan().n_assignments();
        tape_.tokens_.resize(most);  // as often as there are groups, but to one size: what is viewed stays
        tape_.weights_.resize(most);
        tape_.inputs_.resize(most * d);
        tape_.outputs_.resize(most * d);
        run_empty_until(batch.group, workspace, threads);
        const std::size_t g = batch.group;
        const std::size_t first = tape_.first_row_[g];
        const std::size_t n = batch.tokens.size();
        tape_.first_row_[g + 1] = first + n;
        std::copy_n(batch.tokens.data(), n, tape_.tokens_.data() + first);
        std::copy_n(batch.weights.data(), n, tape_.weights_.data() + first);
        std::copy_n(batch.inputs.data(), n * d, tape_.inputs_.data() + first * d);
        moe::forward(layer_.groups()[g], tape_.rows_of(tape_.inputs_, g), batch.outputs, tape_.groups_[g], workspace,
                     threads, options);
        std::copy_n(batch.outputs.data(), n * d, tape_.outputs_.data() + first * d);
        n_done_ = g + 1;
    }

    /// Groups without tokens have a tape as well, of none: what does not fit them is then told in any batch.
    void run_empty_until(std::size_t end, Workspace& workspace, const ExecutorRef& threads) {
        for (; n_done_ < end; ++n_done_) {
            tape_.first_row_[n_done_ + 1] = tape_.first_row_[n_done_];
            const MatrixView<T> none = view(static_cast<T*>(nullptr), 0, layer_.d_model());
            moe::forward(layer_.groups()[n_done_], none, none, tape_.groups_[n_done_], workspace, threads);
        }
    }

    const Layer& layer_;
    HierarchicalTape<T, TapeOf<Group>>& tape_;
    TapeRecorder<T> outer_;
    std::size_t n_done_ = 0;
};

/// layer.forward that fills `tape` for backward(); see that of a MoELayer. The bits are those of layer.forward.
template <class RouterType, class Group, class T, Executor E>
void forward(const HierarchicalLayer<RouterType, Group>& layer, std::type_identity_t<MatrixView<const T>> x,
             std::type_identity_t<MatrixView<T>> y, HierarchicalTape<T, TapeOf<Group>>& tape, Workspace& workspace,
             const E& executor, ForwardOptions<T> options) {
    GroupRecorder<RouterType, Group> recorder(layer, tape, x, options);
    recorder.run(x, nullptr, y, workspace, ExecutorRef(executor), options);
}

/// The same with a plan of the groups made elsewhere: its weights are constants, see Tape::d_weights of tape.outer().
template <class RouterType, class Group, class T = typename Group::value_type, Executor E = SerialExecutor>
void forward(const HierarchicalLayer<RouterType, Group>& layer, std::type_identity_t<MatrixView<const T>> x,
             const std::type_identity_t<PlanView<T>>& plan, std::type_identity_t<MatrixView<T>> y,
             HierarchicalTape<T, TapeOf<Group>>& tape, Workspace& workspace, const E& executor = {},
             ForwardOptions<T> options = {}) {
    GroupRecorder<RouterType, Group> recorder(layer, tape, x, options);
    recorder.run(x, &plan, y, workspace, ExecutorRef(executor), options);
}

/// One backward pass of a HierarchicalLayer: groups one after the other, then the router.
template <class RouterType, class Group>
class GroupsBackward {
public:
    using Layer = HierarchicalLayer<RouterType, Group>;
    using T = typename Group::value_type;

    GroupsBackward(const Layer& layer, HierarchicalTape<T, TapeOf<Group>>& tape, MatrixView<const T> dy,
                   MatrixView<T> dx, const HierarchicalGradients<T, GradientsOf<Group>>& gradients)
        : layer_(layer), tape_(tape), dy_(dy), dx_(dx), gradients_(gradients) {
        zero_experts_.null_experts.n_zero = layer.n_groups();
        tape_.of_router_.router = gradients.router;  // a copy of no new memory: the tape keeps the last one
        tape_.of_router_.router_bias = gradients.router_bias;
        tape_.of_router_.router_input = gradients.router_input;
        (void)of_router({});
        refuse_overlap("backward", "dx", layer_.overlapped(bytes_of(dx_)));
        refuse_gradient_overlap("a HierarchicalLayer", gradients_,
                                {{"x", bytes_of(tape_.outer_.x())},
                                 {"the router input", bytes_of(tape_.outer_.router_input())},
                                 {"dy", bytes_of(dy_)},
                                 {"dx", bytes_of(dx_)}});
        ensure(gradients_.groups.empty() || gradients_.groups.size() == layer_.n_groups(), ErrorCode::shape,
               "backward: gradients of ", gradients_.groups.size(), " groups were given, the layer has ",
               layer_.n_groups());
        tape_.d_inputs_.resize(tape_.inputs_.size());
        for (std::size_t g = 0; g < layer_.n_groups(); ++g) {
            detail::check_backward(layer_.groups()[g], tape_.groups_[g], d_outputs(g), d_inputs(g), of_group(g));
        }
    }

    void run(Workspace& workspace, const ExecutorRef& threads, const BackwardOptions& options) {
        detail::check_workspace(tape_.outer_.x(), dy_, dx_, workspace);
        add_weight_gradients(threads);
        if (!options.accumulate_dx) {
            for (std::size_t t = 0; t < dx_.rows(); ++t) {
                std::fill_n(dx_.row(t), dx_.cols(), T(0));
            }
        }
        BackwardOptions inside = options;
        inside.accumulate_dx = false;
        for (std::size_t g = 0; g < layer_.n_groups(); ++g) {
            if (tape_.n_rows(g) == 0) {
                continue;
            }
            scale_outputs(g, threads);
            moe::backward(layer_.groups()[g], tape_.groups_[g], d_outputs(g), d_inputs(g), of_group(g), workspace,
                          threads, inside);
            if (dx_.rows() > 0) {
                for_each_row(g, threads, [&](std::size_t r, std::size_t t) {
                    add_scaled(T(1), d_inputs(g).row(r), dx_.cols(), dx_.row(t));
                });
            }
        }
        BackwardOptions outside = options;
        outside.accumulate_dx = true;
        of_router(outside).run(workspace, threads);
    }

private:
    /// dx, d_logits and the gradients of the router, from what the weights of the plan are worth.
    [[nodiscard]] auto of_router(const BackwardOptions& options) {
        return BackwardPass<T>(router_, tape_.outer_, dy_, dx_, tape_.of_router_, options);
    }

    [[nodiscard]] const GradientsOf<Group>& of_group(std::size_t g) const {
        return gradients_.groups.empty() ? none_ : gradients_.groups[g];
    }
    /// In the memory of the outputs, which are no longer needed then.
    [[nodiscard]] MatrixView<const T> d_outputs(std::size_t g) const { return tape_.rows_of(tape_.outputs_, g); }
    [[nodiscard]] MatrixView<T> d_inputs(std::size_t g) const {
        return dx_.rows() > 0 ? tape_.rows_of(tape_.d_inputs_, g) : MatrixView<T>();
    }

    /// Calls work(row, its token) for the rows of group g.
    template <class Work>
    void for_each_row(std::size_t g, const ExecutorRef& threads, Work&& work) const {
        constexpr std::size_t rows = 16;
        const std::span<const Index> tokens = tape_.tokens_of(g);
        detail::run_tasks("backward", threads, divide_up(tokens.size(), rows), tokens.size() * dy_.cols(),
                          [&](std::size_t task, std::size_t) {
                              const std::size_t end = (std::min)((task + 1) * rows, tokens.size());
                              for (std::size_t r = task * rows; r < end; ++r) {
                                  work(r, tokens[r]);
                              }
                          });
    }

    /// What the weight of each assignment is worth, <output of its group, dy>, is added to Tape::d_weights.
    void add_weight_gradients(const ExecutorRef& threads) {
        const PlanView<T> plan = tape_.outer_.plan();
        const std::span<T> d_weights = tape_.outer_.d_weights();
        for (std::size_t g = 0; g < layer_.n_groups(); ++g) {
            const MatrixView<T> outputs = tape_.rows_of(tape_.outputs_, g);
            const std::size_t begin = plan.expert_offsets[g];
            const auto entries = plan.tokens_of(g);
            for_each_row(g, threads, [&](std::size_t r, std::size_t t) {
                // a token that was given to a group twice went through it once
                const auto from = std::lower_bound(entries.begin(), entries.end(), t);
                const T worth = dot_row(outputs.row(r), dy_.row(t), dy_.cols());
                for (auto i = from; i != entries.end() && *i == t; ++i) {
                    d_weights[plan.assignments[begin + static_cast<std::size_t>(i - entries.begin())]] += worth;
                }
            });
        }
    }

    /// Outputs become their gradients.
    void scale_outputs(std::size_t g, const ExecutorRef& threads) {
        const MatrixView<T> rows = tape_.rows_of(tape_.outputs_, g);
        for_each_row(g, threads, [&](std::size_t r, std::size_t t) {
            const T weight = tape_.weights_[tape_.first_row_[g] + r];
            std::transform(dy_.row(t), dy_.row(t) + dy_.cols(), rows.row(r), [=](T value) { return weight * value; });
        });
    }

    const Layer& layer_;
    HierarchicalTape<T, TapeOf<Group>>& tape_;
    MatrixView<const T> dy_;
    MatrixView<T> dx_;
    const HierarchicalGradients<T, GradientsOf<Group>>& gradients_;
    GradientsOf<Group> none_{};
    LayerOptions<T> zero_experts_;
    BackwardLayer<T> router_{layer_.router(), zero_experts_, moe::tape_owner(&layer_, layer_.router())};
};

namespace detail {

template <class RouterType, class Group, class T>
void check_backward(const HierarchicalLayer<RouterType, Group>& layer, HierarchicalTape<T, TapeOf<Group>>& tape,
                    MatrixView<const T> dy, MatrixView<T> dx,
                    const HierarchicalGradients<T, GradientsOf<Group>>& gradients) {
    (void)GroupsBackward<RouterType, Group>(layer, tape, dy, dx, gradients);
}

}  // namespace detail

/// See backward() of a MoELayer, whose promises it keeps: with token gates on both levels dx of a token has the same
/// bits in any batch, and those of parameters do not depend on the threads, nor on how a batch is cut into calls in
/// order. Every gate needs a `backward`, and every group a backward pass. `through_router` is for the routers of both
/// levels. A workspace in memory of the caller that is too small is told by the part that needs it, when others may
/// have written. Complexity: that of the groups.
template <class RouterType, class Group, class T, Executor E>
void backward(const HierarchicalLayer<RouterType, Group>& layer, HierarchicalTape<T, TapeOf<Group>>& tape,
              std::type_identity_t<MatrixView<const T>> dy, std::type_identity_t<MatrixView<T>> dx,
              const HierarchicalGradients<T, GradientsOf<Group>>& gradients, Workspace& workspace, const E& executor,
              const BackwardOptions& options) {
    GroupsBackward<RouterType, Group> pass(layer, tape, dy, dx, gradients);
    pass.run(workspace, ExecutorRef(executor), options);
}

}  // namespace moe::inline MOE_ABI
