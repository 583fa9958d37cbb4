#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "../core/alignment.hpp"
#include "../core/overlap.hpp"
#include "describe.hpp"
#include "forward_pass.hpp"

namespace moe::inline MOE_ABI {

/// A sparse mixture of experts: y[t] = routed_scale * sum over the experts e chosen for t of w[t, e] * expert_e(x[t]),
/// plus output bias and shared experts. Composed of a Router, a bank of experts (ExpertBank or PackedExperts) and,
/// optionally, SharedExperts. Owns no weights unless its bank does; `forward` is const and may run in several threads
/// at once, each with a workspace of its own.
template <class RouterType, PanelSource Experts, class Shared = SharedExperts<Experts>>
class MoELayer {
public:
    using value_type = typename Experts::value_type;
    using router_type = RouterType;
    using experts_type = Experts;
    using shared_type = Shared;
    using T = value_type;

    static_assert(std::is_same_v<T, typename RouterType::value_type>,
                  "the router and the experts must compute in the same type: give both double weights, or neither");

    /// Throws Error naming both shapes when router and experts disagree, and whatever `options` refuse.
    MoELayer(RouterType router, Experts experts, LayerOptions<T> options = {})
        : MoELayer(std::move(router), std::move(experts), Shared{}, std::move(options)) {}
    MoELayer(RouterType router, Experts experts, Shared shared, LayerOptions<T> options = {})
        : router_(std::move(router)),
          experts_(std::move(experts)),
          shared_(std::move(shared)),
          options_(std::move(options)) {
        const std::size_t n_null = options_.null_experts.count();
        (void)checked_add(experts_.n_experts(), n_null);
        static_assert(std::is_same_v<T, typename Shared::bank_type::value_type>,
                      "the shared experts must compute in the type of the routed ones");
        require(router_.n_experts() == experts_.n_experts() + n_null, ErrorCode::shape,
                "MoELayer: the router chooses among ", router_.n_experts(), " experts but there are ",
                experts_.n_experts(), " and ", n_null, " null experts");
        require(shared_.experts().empty() || shared_.d_model() == d_model(), ErrorCode::shape,
                "MoELayer: the shared experts have another d_model than the routed ones, whose d_model is ", d_model());
        options_.validate(d_model());
    }

    [[nodiscard]] const RouterType& router() const noexcept { return router_; }
    [[nodiscard]] const Experts& experts() const noexcept { return experts_; }
    [[nodiscard]] const Shared& shared() const noexcept { return shared_; }
    [[nodiscard]] const LayerOptions<T>& options() const noexcept { return options_; }
    [[nodiscard]] std::size_t d_model() const noexcept { return experts_.layout().d_model; }
    [[nodiscard]] std::size_t n_experts() const noexcept { return router_.n_experts(); }

    /// Which kernel each product uses and why, for people: see LayerDescription.
    [[nodiscard]] LayerDescription describe() const { return moe::describe(*this); }

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
        check_router_input(x, options);
        ForwardPass<MoELayer> pass(*this, x, {}, nullptr, workspace, threads.concurrency(), options);
        pass.run(threads, Phase::logits, Phase::plan);
        plan.assign(pass.plan());
    }

    /// A forward pass to be driven by threads of the caller, `n_workers` at most, through all its phases once: see
    /// ForwardPass. It keeps views only: the layer, the workspace, the matrices, what the options point to and, where
    /// one is given, the plan must outlive it, and the workspace serves no other call meanwhile.
    [[nodiscard]] ForwardPass<MoELayer> prepare(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace,
                                                std::size_t n_workers, const ForwardOptions<T>& options = {}) const {
        check_matrices(x, y);
        check_router_input(x, options);
        require_disjoint("MoELayer", "the router input", options.router_input, "y", y);
        return {*this, x, y, nullptr, workspace, n_workers, options};
    }
    [[nodiscard]] ForwardPass<MoELayer> prepare(MatrixView<const T> x, const PlanView<T>& plan, MatrixView<T> y,
                                                Workspace& workspace, std::size_t n_workers,
                                                const ForwardOptions<T>& options = {}) const {
        check_matrices(x, y);
        require(plan.n_tokens == x.rows() && plan.n_experts == n_experts(), ErrorCode::shape,
                "MoELayer: the plan is for ", plan.n_tokens, " tokens and ", plan.n_experts, " experts, the call for ",
                x.rows(), " tokens and ", n_experts(), " experts");
        check_plan(plan);
        return {*this, x, y, &plan, workspace, n_workers, options};
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

    [[nodiscard]] PassShape pass_shape(std::size_t n_tokens, std::size_t n_workers, const PlanView<T>* plan,
                                       bool route_only = false) const {
        require(n_workers > 0, ErrorCode::range, "MoELayer: an executor of 0 threads");
        PassShape shape;
        shape.n_tokens = n_tokens;
        shape.n_workers = n_workers;
        shape.n_experts = n_experts();
        shape.plan_given = plan != nullptr;
        if (plan != nullptr) {
            shape.max_assignments = plan->n_assignments();
        } else if constexpr (RouterType::has_gate) {
            if (n_tokens > 0) {
                shape.max_per_token = gate_max_per_token(router_.gate(), n_tokens, n_experts());
                shape.max_assignments = gate_max_assignments(router_.gate(), n_tokens, n_experts());
                shape.batch_gate = is_batch_gate(router_.gate());
                shape.router_outputs = router_.has_logits() ? n_experts() : 0;
            }
        }
        if (route_only) {
            return shape;
        }
        shape.output_panels = experts_.layout().output_panels();
        shape.hidden_stride = experts_.activations().hidden_stride(experts_.layout());
        shape.input_stride = experts_.activations().input_stride(experts_.layout());
        shape.n_shared = shared_.experts().size();
        for (const auto& shared : shared_.experts()) {
            shape.shared_hidden = checked_add(shape.shared_hidden, shared.activations().hidden_stride(shared.layout()));
        }
        if (shape.n_shared > 0 && shared_.activations().zero_point != experts_.activations().zero_point) {
            shape.shared_input_stride = shared_.activations().input_stride(shared_.experts().front().layout());
        }
        shape.shared_gated = shape.n_shared > 0 && shared_.mode() == SharedMode::gated;
        return shape;
    }
    /// What routed weights are multiplied with, and what shared experts weigh.
    [[nodiscard]] T routed_weight() const noexcept {
        return static_cast<T>(options_.routed_scale * half_if_averaged());
    }
    [[nodiscard]] T shared_weight() const noexcept { return static_cast<T>(half_if_averaged()); }

private:
    [[nodiscard]] double half_if_averaged() const noexcept {
        return !shared_.experts().empty() && shared_.mode() == SharedMode::average ? 0.5 : 1.0;
    }

    void check_matrices(const MatrixView<const T>& x, const MatrixView<T>& y) const {
        require(x.cols() == d_model() && y.cols() == d_model() && x.rows() == y.rows(), ErrorCode::shape,
                "MoELayer: x is ", x.rows(), " x ", x.cols(), " and y is ", y.rows(), " x ", y.cols(),
                ", both must be n_tokens x ", d_model());
        require_aligned(x.data(), "MoELayer", "x");
        require_aligned(y.data(), "MoELayer", "y");
        require_disjoint("MoELayer", "x", x, "y", y);
    }

    void check_router_input(const MatrixView<const T>& x, const ForwardOptions<T>& options) const {
        const MatrixView<const T>& input = options.router_input.cols() == 0 ? x : options.router_input;
        require(input.rows() == x.rows(), ErrorCode::shape, "MoELayer: the router input has ", input.rows(),
                " rows for ", x.rows(), " tokens");
        require(!router_.has_logits() || input.cols() == router_.linear().inputs(), ErrorCode::shape,
                "MoELayer: the router input has ", input.cols(), " columns but the router weights have ",
                router_.linear().empty() ? 0 : router_.linear().inputs());
        require(options.token_ids.empty() || options.token_ids.size() == x.rows(), ErrorCode::shape,
                "MoELayer: ", options.token_ids.size(), " token ids for ", x.rows(), " tokens");
        require_aligned(input.data(), "MoELayer", "the router input");
        require_aligned(options.token_ids.data(), "MoELayer", "token_ids");
    }

    RouterType router_;
    Experts experts_;
    Shared shared_;
    LayerOptions<T> options_;
};

template <class R, class E>
MoELayer(R, E) -> MoELayer<R, E>;
template <class R, class E, class T>
MoELayer(R, E, LayerOptions<T>) -> MoELayer<R, E>;
template <class R, class E, class B>
MoELayer(R, E, SharedExperts<B>) -> MoELayer<R, E, SharedExperts<B>>;
template <class R, class E, class B, class T>
MoELayer(R, E, SharedExperts<B>, LayerOptions<T>) -> MoELayer<R, E, SharedExperts<B>>;

}  // namespace moe::inline MOE_ABI
