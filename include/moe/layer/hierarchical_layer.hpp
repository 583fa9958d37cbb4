#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../kernels/add_scaled.hpp"
#include "../parallel/diagnose_call.hpp"
#include "forward_layer.hpp"
#include "pass/check_call.hpp"
#include "pass/tasks.hpp"
#include "route_only.hpp"

namespace moe::inline MOE_ABI {

/// The tokens of one group of a HierarchicalLayer, brought together.
template <class T>
struct GroupBatch {
    std::size_t group;
    std::span<const Index> tokens;  ///< (n) which of the batch they are, ascending
    std::span<const T> weights;     ///< (n)
    MatrixView<const T> inputs;     ///< (n, d_model)
    MatrixView<T> outputs;          ///< (n, d_model)
};

/// A mixture of mixtures (Shazeer et al. 2017, 1701.06538, appendix B): a router chooses among groups, and each group
/// is a layer of its own, itself a mixture or a HierarchicalLayer.
///
///     y[t] = sum over the groups g chosen for t of w[t, g] * group_g(x[t])
///
/// One router a modality and groups of different width are ERNIE 4.5 VL's two mixtures. The tokens of a group are
/// brought together and go through it as one batch; groups are added in ascending order. With token gates on both
/// levels a token's bits do not depend on its batch, and never on the number of threads. `forward` is const and may run
/// in several threads at once, each with a workspace of its own. Owns the layers of its groups.
template <class RouterType, ForwardLayer Group>
class HierarchicalLayer {
public:
    using value_type = typename Group::value_type;
    using router_type = RouterType;
    using group_type = Group;
    using T = value_type;

    static_assert(std::is_same_v<T, typename RouterType::value_type>,
                  "the router and the groups must compute in the same type: give both double weights, or neither");

    /// Throws Error(shape): no groups, groups of different d_model, a router for another number of groups.
    HierarchicalLayer(RouterType router, std::vector<Group> groups)
        : routing_("HierarchicalLayer", std::move(router)), groups_(std::move(groups)) {
        ensure(this->router().n_experts() == groups_.size(), ErrorCode::shape,
               "HierarchicalLayer: the router chooses among ", this->router().n_experts(), " groups but there are ",
               groups_.size());
        for (std::size_t g = 0; g < groups_.size(); ++g) {
            ensure(groups_[g].d_model() == d_model(), ErrorCode::shape, "HierarchicalLayer: group ", g, " has d_model ",
                   groups_[g].d_model(), ", group 0 has ", d_model());
        }
    }

    [[nodiscard]] std::size_t d_model() const noexcept { return groups_.empty() ? 0 : groups_.front().d_model(); }
    [[nodiscard]] std::size_t n_groups() const noexcept { return groups_.size(); }
    [[nodiscard]] const RouterType& router() const& noexcept { return routing_.router(); }
    [[nodiscard]] const std::vector<Group>& groups() const& noexcept { return groups_; }
    // A temporary hands over what it owns.
    [[nodiscard]] RouterType router() && { return routing_.router(); }
    [[nodiscard]] std::vector<Group> groups() && { return std::move(groups_); }

    /// The name of what of the weights has bytes in common with `memory`, or null. Groups that do not say have none.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        if (const char* const read = routing_.overlapped(memory)) {
            return read;
        }
        if constexpr (requires(const Group& group) { group.overlapped(memory); }) {
            for (const Group& group : groups_) {
                if (const char* const read = group.overlapped(memory)) {
                    return read;
                }
            }
        }
        return nullptr;
    }

    /// y = (or +=, see ForwardOptions) the layer applied to x; both (n_tokens, d_model), not overlapping. Token ids and
    /// positions reach the groups too; router_input is for the router alone; padding reaches no group; an observer
    /// hears of the phases logits, gating and plan, the plan being that of the groups. Throws Error on shapes that
    /// disagree, before anything is written. Allocates nothing once `workspace` has grown.
    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const E& executor = {},
                 const ForwardOptions<T>& options = {}) const {
        run(x, nullptr, y, workspace, ExecutorRef(executor), options, forward_groups());
    }

    /// The same with a plan of the groups made elsewhere, by modality for instance. Throws as check_plan does, too.
    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, const RoutingPlan<T>& plan, MatrixView<T> y, Workspace& workspace,
                 const E& executor = {}, const ForwardOptions<T>& options = {}) const {
        forward(x, plan.view(), y, workspace, executor, options);
    }
    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, const PlanView<T>& plan, MatrixView<T> y, Workspace& workspace,
                 const E& executor = {}, const ForwardOptions<T>& options = {}) const {
        run(x, &plan, y, workspace, ExecutorRef(executor), options, forward_groups());
    }

    /// The same, with a plan or null, where `run_group(batch, workspace, threads, options)` stands for the forward pass
    /// of a group that has tokens: for who keeps what goes through it. It must write batch.outputs, in the workspace
    /// that the group's own forward pass needs.
    template <class RunGroup>
    void forward_through(MatrixView<const T> x, const PlanView<T>* plan, MatrixView<T> y, Workspace& workspace,
                         const ExecutorRef& threads, const ForwardOptions<T>& options,
                         const RunGroup& run_group) const {
        run(x, plan, y, workspace, threads, options, run_group);
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

    /// Bytes `forward` needs of a workspace: what its router and the largest of its groups need for all tokens, and two
    /// rows a token. Throws Error(overflow).
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_tokens, std::size_t n_workers) const {
        Arena measure;
        (void)lay_out(measure, n_tokens, n_workers);
        return measure.used();
    }

private:
    struct Memory {
        std::span<std::byte> routing;
        std::span<std::byte> group;
        std::span<T> inputs;                 // (n_tokens, d_model): the tokens of one group
        std::span<T> outputs;                // (n_tokens, d_model)
        std::span<T> weights;                // (n_tokens)
        std::span<Index> rows;               // (n_tokens): which tokens of the batch they are
        std::span<std::int32_t> token_ids;   // (n_tokens)
        std::span<std::uint64_t> positions;  // (n_tokens)
    };

    struct Call {
        MatrixView<const T> x;
        MatrixView<T> y;
        const PlanView<T>& plan;
        const ForwardOptions<T>& options;
        const ExecutorRef& threads;
        Memory memory;
    };

    [[nodiscard]] Memory lay_out(Arena& arena, std::size_t n_tokens, std::size_t n_workers) const {
        std::size_t group = 0;
        for (const Group& layer : groups_) {
            group = (std::max)(group, layer.workspace_bytes(n_tokens, n_workers));
        }
        const std::size_t values = checked_multiply(n_tokens, d_model());
        return {arena.take<std::byte>(routing_.workspace_bytes(n_tokens, n_workers)),
                arena.take<std::byte>(group),
                arena.take<T>(values),
                arena.take<T>(values),
                arena.take<T>(n_tokens),
                arena.take<Index>(n_tokens),
                arena.take<std::int32_t>(n_tokens),
                arena.take<std::uint64_t>(n_tokens)};
    }

    void confirm(const MatrixView<const T>& x, const MatrixView<T>& y, const ForwardOptions<T>& options,
                 const Workspace& workspace) const {
        ensure(!groups_.empty(), ErrorCode::state, "HierarchicalLayer: the layer was moved from");
        detail::check_tokens("HierarchicalLayer", x, y, d_model());
        detail::check_apart("HierarchicalLayer", x, y, options, workspace);
        refuse_overlap("HierarchicalLayer", "y", overlapped(bytes_of(y)));
    }

    [[nodiscard]] auto forward_groups() const {
        return [this](const GroupBatch<T>& batch, Workspace& workspace, const ExecutorRef& threads,
                      const ForwardOptions<T>& options) {
            groups_[batch.group].forward(batch.inputs, batch.outputs, workspace, threads, options);
        };
    }

    template <class RunGroup>
    void run(MatrixView<const T> x, const PlanView<T>* plan, MatrixView<T> y, Workspace& workspace,
             const ExecutorRef& threads, const ForwardOptions<T>& options, const RunGroup& run_group) const {
        confirm(x, y, options, workspace);
        if (plan == nullptr) {
            require_disjoint("HierarchicalLayer", "the router input", options.router_input, "y", y);
        } else {
            ensure(plan->n_tokens == x.rows() && plan->n_experts == n_groups(), ErrorCode::shape,
                   "HierarchicalLayer: the plan is for ", plan->n_tokens, " tokens and ", plan->n_experts,
                   " groups, the call for ", x.rows(), " tokens and ", n_groups(), " groups");
            check_plan(*plan);
            detail::check_facts("HierarchicalLayer", options, x.rows());
        }
        const WorkspaceLease lease = workspace.lease(workspace_bytes(x.rows(), threads.concurrency()));
        Arena arena = lease.arena();
        const Memory memory = lay_out(arena, x.rows(), threads.concurrency());
        if (plan != nullptr) {
            return run({x, y, *plan, options, threads, memory}, run_group);
        }
        Workspace own(memory.routing);
        ForwardPass<detail::RouteOnly<RouterType>> pass =
            routing_.prepare_route(x, own, threads.concurrency(), options);
        pass.run(threads, Phase::logits, Phase::plan);
        run({x, y, pass.plan(), options, threads, memory}, run_group);
    }

    template <class RunGroup>
    void run(const Call& call, const RunGroup& forward_group) const {
        for_each_row(call, call.options.accumulate ? 0 : call.y.rows(),
                     [&](std::size_t t) { std::fill_n(call.y.row(t), d_model(), T(0)); });
        for (std::size_t g = 0; g < groups_.size(); ++g) {
            const std::size_t n = list_tokens(call, g);
            if (n > 0) {
                run_group(call, g, n, forward_group);
            }
        }
    }

    /// Calls work(r) for rows 0..n-1 of d_model values.
    template <class Work>
    void for_each_row(const Call& call, std::size_t n, Work&& work) const {
        constexpr std::size_t rows = 16;
        detail::run_tasks("HierarchicalLayer", call.threads, divide_up(n, rows), n * d_model(),
                          [&](std::size_t task, std::size_t) {
                              for (std::size_t r = task * rows; r < (std::min)((task + 1) * rows, n); ++r) {
                                  work(r);
                              }
                          });
    }

    /// The tokens of group g and their weights. One that a plan gives to a group twice goes through it once, with the
    /// sum of its weights.
    [[nodiscard]] std::size_t list_tokens(const Call& call, std::size_t g) const {
        const Memory& memory = call.memory;
        std::size_t n = 0;
        for (std::size_t i = call.plan.expert_offsets[g]; i < call.plan.expert_offsets[g + 1]; ++i) {
            const T weight = call.plan.weights[call.plan.assignments[i]];
            if (n > 0 && memory.rows[n - 1] == call.plan.tokens[i]) {
                memory.weights[n - 1] += weight;
            } else {
                memory.rows[n] = call.plan.tokens[i];
                memory.weights[n++] = weight;
            }
        }
        return n;
    }

    template <class RunGroup>
    void run_group(const Call& call, std::size_t g, std::size_t n, const RunGroup& forward_group) const {
        const Memory& memory = call.memory;
        const ForwardOptions<T>& options = call.options;
        for_each_row(call, n, [&](std::size_t r) {
            const std::size_t t = memory.rows[r];
            std::copy_n(call.x.row(t), d_model(), memory.inputs.data() + r * d_model());
            memory.token_ids[r] = options.token_ids.empty() ? -1 : options.token_ids[t];
            memory.positions[r] = options.positions.empty() ? options.first_position + t : options.positions[t];
        });
        ForwardOptions<T> inner;
        inner.token_ids = options.token_ids.empty() ? std::span<const std::int32_t>{} : memory.token_ids.first(n);
        inner.positions = memory.positions.first(n);
        Workspace own(memory.group);
        forward_group(GroupBatch<T>{g, memory.rows.first(n), memory.weights.first(n),
                                    view(static_cast<const T*>(memory.inputs.data()), n, d_model()),
                                    view(memory.outputs.data(), n, d_model())},
                      own, call.threads, inner);
        for_each_row(call, n, [&](std::size_t r) {
            add_scaled(memory.weights[r], memory.outputs.data() + r * d_model(), d_model(), call.y.row(memory.rows[r]));
        });
    }

    detail::RouteOnly<RouterType> routing_;
    std::vector<Group> groups_;
};

template <class R, class Group>
HierarchicalLayer(R, std::vector<Group>) -> HierarchicalLayer<R, Group>;

}  // namespace moe::inline MOE_ABI
