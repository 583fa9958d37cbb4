#pragma once

#include <cstddef>
#include <type_traits>

#include "../core/alignment.hpp"
#include "../core/overlap.hpp"
#include "../parallel/diagnose_call.hpp"
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

    /// The name of what of the layer's weights and options has bytes in common with `memory`, or null.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const { return self().erased().overlapped(memory); }

    /// y = (or +=, see ForwardOptions) the layer applied to x; both (n_tokens, d_model), not overlapping (column
    /// windows of one matrix may lie side by side). Throws Error on shapes that disagree and on memory that overlaps
    /// (include/moe/README.md), before anything is written. Allocates nothing once `workspace` has grown.
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

    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, const RoutingPlan<T>& plan, MatrixView<T> y, Workspace& workspace,
                 const E& executor = {}, const ForwardOptions<T>& options = {}) const {
        forward(x, plan.view(), y, workspace, executor, options);
    }

    // Arguments that are almost right are told what to be.
    template <class X, class Y, class Space, class E = SerialExecutor>
        requires detail::MistakenCall<T, X, Y, Space, E>
    void forward(X&&, Y&&, Space&&, const E& = {}, const ForwardOptions<T>& = {}) const {
        detail::diagnose_call<T, X, Y, Space, E>();
    }
    template <class X, class Y, class Space, class E = SerialExecutor>
        requires detail::MistakenCall<T, X, Y, Space, E>
    void forward(X&&, const PlanView<T>&, Y&&, Space&&, const E& = {}, const ForwardOptions<T>& = {}) const {
        detail::diagnose_call<T, X, Y, Space, E>();
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
                                             std::size_t n_workers, const ForwardOptions<T>& options = {}) const& {
        const PassLayer<T> layer = self().erased();
        detail::check_tokens(layer.name, x, y, layer.experts.layout().d_model);
        layer.check_input(x, options);
        require_disjoint(layer.name, "the router input", options.router_input, "y", y);
        layer.check_memory(x, y, nullptr, options, workspace);
        return {layer, x, y, nullptr, workspace, n_workers, options};
    }
    [[nodiscard]] ForwardPass<Layer> prepare(MatrixView<const T> x, const PlanView<T>& plan, MatrixView<T> y,
                                             Workspace& workspace, std::size_t n_workers,
                                             const ForwardOptions<T>& options = {}) const& {
        const PassLayer<T> layer = self().erased();
        detail::check_tokens(layer.name, x, y, layer.experts.layout().d_model);
        layer.check_given(plan, x.rows());
        layer.check_memory(x, y, &plan, options, workspace);
        return {layer, x, y, &plan, workspace, n_workers, options};
    }

    /// A pass that only routes: for the phases logits, gating and plan, whose plan it holds in the workspace.
    [[nodiscard]] ForwardPass<Layer> prepare_route(MatrixView<const T> x, Workspace& workspace, std::size_t n_workers,
                                                   const ForwardOptions<T>& options = {}) const& {
        const PassLayer<T> layer = self().erased();
        layer.check_input(x, options);
        layer.check_memory(x, {}, nullptr, options, workspace);
        return {layer, x, {}, nullptr, workspace, n_workers, options};
    }

    // All that a pass views has a name.
    ForwardPass<Layer> prepare(MatrixView<const T>, MatrixView<T>, Workspace&,  // temporary: give the layer a name
                               std::size_t, const ForwardOptions<T>& = {}) const&& = delete;
    ForwardPass<Layer> prepare(MatrixView<const T>, const PlanView<T>&,  // temporary: give the layer a name
                               MatrixView<T>, Workspace&, std::size_t, const ForwardOptions<T>& = {}) const&& = delete;
    ForwardPass<Layer> prepare_route(MatrixView<const T>, Workspace&, std::size_t,  // temporary: give the layer a name
                                     const ForwardOptions<T>& = {}) const&& = delete;
    ForwardPass<Layer> prepare(MatrixView<const T>, const RoutingPlan<T>&&,  // temporary: give the plan a name
                               MatrixView<T>, Workspace&, std::size_t, const ForwardOptions<T>& = {}) const& = delete;

    /// Bytes `forward` needs of a workspace, from an address that is a multiple of buffer_alignment, for a batch of
    /// `n_tokens` on `n_workers` threads.
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_tokens, std::size_t n_workers) const {
        return self().erased().workspace_bytes(n_tokens, n_workers, nullptr);
    }
    /// The same for a call with `plan`: less, because there is nothing to route.
    [[nodiscard]] std::size_t workspace_bytes(const PlanView<T>& plan, std::size_t n_workers) const {
        return self().erased().workspace_bytes(plan.n_tokens, n_workers, &plan);
    }

    /// The layer as a pass sees it, without the types of its parts. Throws Error(state) where it was moved from.
    [[nodiscard]] PassLayer<T> erased() const& {
        const auto& router = self().router();
        ensure(router.n_experts() > 0 && has_experts(), ErrorCode::state, name(), ": the layer was moved from");
        PassLayer<T> layer;
        layer.name = name();
        layer.n_experts = n_experts();
        layer.has_logits = router.has_logits();
        layer.router = LinearRef<T>(router.linear());
        if constexpr (Layer::router_type::has_gate) {
            layer.has_gate = true;
            layer.gate = GateRef<T>(router.gate());
        }
        if constexpr (!(requires { requires Layer::routes_only; })) {  // else there are none to compile anything for
            layer.experts = ExpertsRef<T>(self().experts());
            layer.shared = SharedRef<T>(self().shared());
        }
        layer.options = &self().options();
        return layer;
    }
    PassLayer<T> erased() const&& = delete;  // temporary: give the layer a name

private:
    [[nodiscard]] const Layer& self() const noexcept { return static_cast<const Layer&>(*this); }

    /// The class that errors name: the one that the caller sees.
    [[nodiscard]] const char* name() const noexcept {
        if constexpr (requires(const Layer& layer) { layer.owner(); }) {
            return self().owner();
        } else {
            return "MoELayer";
        }
    }

    /// Not where they were moved to another layer.
    [[nodiscard]] bool has_experts() const noexcept {
        if constexpr (requires { requires Layer::routes_only; }) {
            return true;
        } else {
            return self().experts().n_experts() > 0;
        }
    }
};

}  // namespace moe::inline MOE_ABI
