#pragma once

#include <cstddef>
#include <type_traits>

#include "../core/alignment.hpp"
#include "../core/overlap.hpp"
#include "describe.hpp"
#include "pass/check_call.hpp"
#include "pass/forward_pass.hpp"

namespace moe::inline MOE_ABI {

/// What one can do with a layer: a base of MoELayer and LayerWithGate, which have its router, experts, shared experts
/// and options. T is the layer's value_type.
template <class Layer, class T>
class LayerCalls {
public:
    [[nodiscard]] std::size_t d_model() const noexcept { return self().experts().layout().d_model; }
    [[nodiscard]] std::size_t n_experts() const noexcept { return self().router().n_experts(); }

    /// Which kernel each product uses and why, for people: see LayerDescription.
    [[nodiscard]] LayerDescription describe() const { return moe::describe(self()); }

    /// y = (or +=, see ForwardOptions) the layer applied to x; both (n_tokens, d_model), not overlapping (column
    /// windows of one matrix may lie side by side). Throws Error on shapes that disagree and on y overlapping x or the
    /// router's input, before anything is written. Allocates nothing once `workspace` has grown.
    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const E& executor = {},
                 const ForwardOptions<T>& options = {}) const {
        const ExecutorRef threads(executor);
        prepare(x, y, workspace, threads.concurrency(), options).run(threads, Phase::logits, Phase::output);
    }

    /// The same with a plan made elsewhere: routed before, recorded, or chosen by somebody else.
    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, const PlanView<T>& plan, MatrixView<T> y, Workspace& workspace,
                 const E& executor = {}, const ForwardOptions<T>& options = {}) const {
        const ExecutorRef threads(executor);
        prepare(x, plan, y, workspace, threads.concurrency(), options).run(threads, Phase::logits, Phase::output);
    }

    /// Only the choice of experts: fills `plan`. The router reads options.router_input, or x.
    template <Executor E = SerialExecutor>
    void route(MatrixView<const T> x, RoutingPlan<T>& plan, Workspace& workspace, const E& executor = {},
               const ForwardOptions<T>& options = {}) const {
        const ExecutorRef threads(executor);
        ForwardPass<Layer> pass = prepare_route(x, workspace, threads.concurrency(), options);
        pass.run(threads, Phase::logits, Phase::plan);
        plan.assign(pass.plan());
    }

    /// A forward pass to be driven by threads of the caller, `n_workers` at most, through all its phases once: see
    /// ForwardPass. It keeps views only: the layer, the workspace, the matrices, what the options point to and, where
    /// one is given, the plan must outlive it, and the workspace serves no other call meanwhile.
    [[nodiscard]] ForwardPass<Layer> prepare(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace,
                                             std::size_t n_workers, const ForwardOptions<T>& options = {}) const {
        detail::check_tokens(name(), x, y, d_model());
        check_router_input(x, options);
        require_disjoint(name(), "the router input", options.router_input, "y", y);
        return {self(), x, y, nullptr, workspace, n_workers, options};
    }
    [[nodiscard]] ForwardPass<Layer> prepare(MatrixView<const T> x, const PlanView<T>& plan, MatrixView<T> y,
                                             Workspace& workspace, std::size_t n_workers,
                                             const ForwardOptions<T>& options = {}) const {
        detail::check_tokens(name(), x, y, d_model());
        require(plan.n_tokens == x.rows() && plan.n_experts == n_experts(), ErrorCode::shape, name(),
                ": the plan is for ", plan.n_tokens, " tokens and ", plan.n_experts, " experts, the call for ",
                x.rows(), " tokens and ", n_experts(), " experts");
        check_plan(plan);
        return {self(), x, y, &plan, workspace, n_workers, options};
    }

    /// A pass that only routes: for the phases logits, gating and plan, whose plan it holds in the workspace.
    [[nodiscard]] ForwardPass<Layer> prepare_route(MatrixView<const T> x, Workspace& workspace, std::size_t n_workers,
                                                   const ForwardOptions<T>& options = {}) const {
        check_router_input(x, options);
        return {self(), x, {}, nullptr, workspace, n_workers, options};
    }

    /// Bytes `forward` needs of a workspace, from an address that is a multiple of buffer_alignment, for a batch of
    /// `n_tokens` on `n_workers` threads.
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_tokens, std::size_t n_workers) const {
        Arena measure;
        (void)PassMemory<T>::lay_out(measure, pass_shape(n_tokens, n_workers, nullptr));
        return measure.used();
    }
    /// The same for a call with `plan`: less, because there is nothing to route.
    [[nodiscard]] std::size_t workspace_bytes(const PlanView<T>& plan, std::size_t n_workers) const {
        Arena measure;
        (void)PassMemory<T>::lay_out(measure, pass_shape(plan.n_tokens, n_workers, &plan));
        return measure.used();
    }

    // For ForwardPass.

    /// The class that errors name: the one that the caller sees.
    [[nodiscard]] const char* name() const noexcept {
        if constexpr (requires(const Layer& layer) { layer.owner(); }) {
            return self().owner();
        } else {
            return "MoELayer";
        }
    }
    [[nodiscard]] PassShape pass_shape(std::size_t n_tokens, std::size_t n_workers, const PlanView<T>* plan,
                                       bool route_only = false) const {
        require(n_workers > 0, ErrorCode::range, name(), ": an executor of 0 threads");
        PassShape shape;
        shape.n_tokens = n_tokens;
        shape.n_workers = n_workers;
        shape.n_experts = n_experts();
        shape.plan_given = plan != nullptr;
        if (plan != nullptr) {
            shape.max_assignments = plan->n_assignments();
        } else if constexpr (Layer::router_type::has_gate) {
            if (n_tokens > 0) {
                shape.max_per_token = gate_max_per_token(self().router().gate(), n_tokens, n_experts());
                shape.max_assignments = gate_max_assignments(self().router().gate(), n_tokens, n_experts());
                shape.batch_gate = is_batch_gate(self().router().gate());
                if (self().router().has_logits()) {
                    shape.router_outputs = self().router().linear().outputs();
                    shape.router_panels = self().router().linear().panels();
                    shape.router_blocks = detail::router_blocks(self().router().linear(), n_workers);
                }
            }
        }
        if (route_only) {
            return shape;
        }
        shape.output_panels = self().experts().layout().output_panels();
        shape.hidden_stride = self().experts().activations().hidden_stride(self().experts().layout());
        shape.input_stride = self().experts().activations().input_stride(self().experts().layout());
        shape.mixes = self().options().null_experts.mixes.rows() > 0;
        shape.n_shared = self().shared().experts().size();
        for (const auto& shared : self().shared().experts()) {
            shape.shared_hidden = checked_add(shape.shared_hidden, shared.activations().hidden_stride(shared.layout()));
        }
        if (shape.n_shared > 0 &&
            self().shared().activations().zero_point != self().experts().activations().zero_point) {
            shape.shared_input_stride =
                self().shared().activations().input_stride(self().shared().experts().front().layout());
        }
        shape.shared_gated = shape.n_shared > 0 && self().shared().mode() == SharedMode::gated;
        return shape;
    }
    /// What routed weights are multiplied with, and what shared experts weigh.
    [[nodiscard]] T routed_weight() const noexcept {
        return static_cast<T>(self().options().routed_scale * half_if_averaged());
    }
    [[nodiscard]] T shared_weight() const noexcept { return static_cast<T>(half_if_averaged()); }

private:
    [[nodiscard]] const Layer& self() const noexcept { return static_cast<const Layer&>(*this); }

    [[nodiscard]] double half_if_averaged() const noexcept {
        return !self().shared().experts().empty() && self().shared().mode() == SharedMode::average ? 0.5 : 1.0;
    }

    void check_router_input(const MatrixView<const T>& x, const ForwardOptions<T>& options) const {
        const MatrixView<const T>& input = options.router_input.cols() == 0 ? x : options.router_input;
        require(input.rows() == x.rows(), ErrorCode::shape, name(), ": the router input has ", input.rows(),
                " rows for ", x.rows(), " tokens");
        require(!self().router().has_logits() || input.cols() == self().router().linear().inputs(), ErrorCode::shape,
                name(), ": the router input has ", input.cols(), " columns but the router weights have ",
                self().router().linear().empty() ? 0 : self().router().linear().inputs());
        detail::check_facts(name(), options, x.rows());
        detail::check_valid(name(), options, x.rows());
        require_aligned(input.data(), name(), "the router input");
    }
};

}  // namespace moe::inline MOE_ABI
