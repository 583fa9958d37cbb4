#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "../kernels/add_scaled.hpp"
#include "linear.hpp"
#include "plan.hpp"

namespace moe::inline MOE_ABI {

/// One matrix an expert, applied through a plan: conditional computation that is no feed-forward network. JetMoE's
/// mixture of attention heads (Shen et al. 2024, 2404.07413, section 2.3) is two of them under one plan: project()
/// gives every assignment its query, the user's attention works on these rows, combine() brings the outputs back to the
/// tokens.
template <WeightElement W>
class ExpertLinear {
public:
    using element_type = W;
    using value_type = ComputeType<W>;
    using T = value_type;

    /// `weight` (n_experts, outputs, inputs) in any storage order; `bias` (n_experts, outputs) or empty. Views both.
    /// Throws Error(missing, shape).
    explicit ExpertLinear(const WeightStack<W>& weight, MatrixView<const W> bias = {}) {
        ensure(!weight.empty(), ErrorCode::missing, "ExpertLinear: there are no weights");
        ensure(bias.rows() == 0 || (bias.rows() == weight.n_experts() && bias.cols() == weight.outputs()),
               ErrorCode::shape, "ExpertLinear: the biases are ", bias.rows(), " x ", bias.cols(), ", ",
               weight.n_experts(), " experts of ", weight.outputs(), " outputs need ", weight.n_experts(), " x ",
               weight.outputs());
        for (std::size_t e = 0; e < weight.n_experts(); ++e) {
            experts_.emplace_back(weight.expert(e), bias.rows() == 0 ? std::span<const W>{} : bias.row_span(e));
        }
    }

    [[nodiscard]] std::size_t n_experts() const noexcept { return experts_.size(); }
    /// 0 where it was moved from.
    [[nodiscard]] std::size_t outputs() const noexcept { return experts_.empty() ? 0 : experts_.front().outputs(); }
    [[nodiscard]] std::size_t inputs() const noexcept { return experts_.empty() ? 0 : experts_.front().inputs(); }

    /// The same with its weights copied once into panels: equal bits, faster. Throws std::bad_alloc.
    template <Executor E = SerialExecutor>
    [[nodiscard]] ExpertLinear packed(const E& executor = {}) const {
        ExpertLinear result = *this;
        for (Linear<W>& expert : result.experts_) {
            expert = expert.packed(executor);
        }
        return result;
    }

    /// y (n_assignments, outputs), row a = weight[plan.experts[a]] * x[the token of a] + bias, for the assignments of
    /// all tokens in the order of the plan; x (n_tokens, inputs). Weights of the plan are not applied. Throws Error
    /// before anything is written: shapes, alignment, overlaps, a plan that is none or for other experts. Allocates
    /// nothing once `workspace` has grown. A row has the same bits in any batch and for any number of threads.
    template <Executor E = SerialExecutor>
    void project(MatrixView<const T> x, const PlanView<T>& plan, MatrixView<T> y, Workspace& workspace,
                 const E& executor = {}) const {
        const ExecutorRef threads(executor);
        confirm("project", {x, y, x.rows(), plan.n_assignments()}, plan, workspace);
        const WorkspaceLease lease = workspace.lease(workspace_bytes(0, threads.concurrency()));
        Arena arena = lease.arena();
        multiply(
            plan, detail::WorkerScratch<T>::take(arena, threads.concurrency()), threads,
            [&](std::size_t entry) { return x.row(plan.tokens[entry]); }, y);
    }

    /// y (n_tokens, outputs): y[t] = (or +=) sum over the assignments a of t of plan.weights[a] *
    /// (weight[plan.experts[a]]
    /// * z[a] + bias), added in ascending order of the experts; z (n_assignments, inputs). Throws as project does.
    /// Needs room for n_assignments rows of outputs in `workspace`.
    template <Executor E = SerialExecutor>
    void combine(MatrixView<const T> z, const PlanView<T>& plan, MatrixView<T> y, Workspace& workspace,
                 const E& executor = {}, bool accumulate = false) const {
        const ExecutorRef threads(executor);
        confirm("combine", {z, y, plan.n_assignments(), y.rows()}, plan, workspace);
        const WorkspaceLease lease = workspace.lease(workspace_bytes(plan.n_assignments(), threads.concurrency()));
        Arena arena = lease.arena();
        const auto scratch = detail::WorkerScratch<T>::take(arena, threads.concurrency());
        const MatrixView<T> rows =
            view(arena.take<T>(plan.n_assignments() * outputs()).data(), plan.n_assignments(), outputs());
        multiply(
            plan, scratch, threads, [&](std::size_t entry) { return z.row(plan.assignments[entry]); }, rows);
        add_up(plan, rows, y, threads, accumulate);
    }

    /// Bytes project (n_assignments: 0) or combine needs of a workspace.
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_assignments, std::size_t n_workers) const {
        Arena measure;
        (void)detail::WorkerScratch<T>::take(measure, n_workers);
        (void)measure.take<T>(checked_multiply(n_assignments, outputs()));
        return measure.used();
    }

private:
    struct Call {
        MatrixView<const T> x;
        MatrixView<T> y;
        std::size_t x_rows;  ///< as they must be
        std::size_t y_rows;
    };

    void confirm(const char* what, const Call& call, const PlanView<T>& plan, const Workspace& workspace) const {
        ensure(!experts_.empty(), ErrorCode::state, "ExpertLinear: it was moved from");
        const bool projects = call.y_rows == plan.n_assignments() && call.x_rows == call.x.rows();
        const std::size_t n_tokens = projects ? call.x.rows() : call.y.rows();
        ensure(plan.n_experts == n_experts(), ErrorCode::shape, "ExpertLinear: the plan is for ", plan.n_experts,
               " experts, there are ", n_experts());
        ensure(call.x.rows() == call.x_rows && call.y.rows() == call.y_rows && plan.n_tokens == n_tokens &&
                   call.x.cols() == inputs() && call.y.cols() == outputs(),
               ErrorCode::shape, "ExpertLinear: ", what, " of ", call.x.rows(), " x ", call.x.cols(), " to ",
               call.y.rows(), " x ", call.y.cols(), " with a plan of ", plan.n_assignments(), " assignments of ",
               plan.n_tokens, " tokens and matrices of ", outputs(), " x ", inputs());
        check_plan(plan);
        require_aligned(call.x.data(), "ExpertLinear", "x");
        require_aligned(call.y.data(), "ExpertLinear", "y");
        require_disjoint("ExpertLinear", "x", call.x, "y", call.y);
        const ByteView y = bytes_of(call.y);
        refuse_overlap("ExpertLinear", "the workspace",
                       overlapped(bytes_of(workspace.memory()), {{"x", bytes_of(call.x)}, {"y", y}}));
        for (const Linear<W>& expert : experts_) {
            refuse_overlap("ExpertLinear", "y", expert.overlaps(y) ? "the weights or biases" : nullptr);
        }
        refuse_overlap("ExpertLinear", "y",
                       overlapped(y, {{"the plan", bytes_of(plan.token_offsets)},
                                      {"the plan", bytes_of(plan.experts)},
                                      {"the plan", bytes_of(plan.weights)},
                                      {"the plan", bytes_of(plan.expert_offsets)},
                                      {"the plan", bytes_of(plan.tokens)},
                                      {"the plan", bytes_of(plan.assignments)}}));
    }

    /// Row plan.assignments[i] of y = the matrix of its expert times row(i), for all entries i. Tasks: (expert, panel).
    template <class Row>
    void multiply(const PlanView<T>& plan, const detail::WorkerScratch<T>& scratch, const ExecutorRef& threads,
                  const Row& row, const MatrixView<T>& y) const {
        const std::size_t panels = experts_.front().panels();
        detail::run_tasks("ExpertLinear", threads, n_experts() * panels, plan.n_assignments() * inputs() * outputs(),
                          [&](std::size_t task, std::size_t ith) {
                              multiply_panel(plan, task / panels, task % panels, scratch.of(ith), row, y);
                          });
    }

    template <class Row>
    void multiply_panel(const PlanView<T>& plan, std::size_t e, std::size_t panel, const PanelScratch<T>& scratch,
                        const Row& row, const MatrixView<T>& y) const {
        std::array<T*, max_task_rows> outputs_of;
        const std::size_t end = plan.expert_offsets[e + 1];
        for (std::size_t i = plan.expert_offsets[e]; i < end; i += max_task_rows) {
            const std::size_t count = (std::min)(max_task_rows, end - i);
            for (std::size_t r = 0; r < count; ++r) {
                scratch.rows[r] = reinterpret_cast<const std::byte*>(row(i + r));
                outputs_of[r] = y.row(plan.assignments[i + r]);
            }
            experts_[e].compute_panel(panel, scratch.rows.first(count), std::span<T* const>(outputs_of).first(count),
                                      scratch);
        }
    }

    /// y[t] = or += the weighted rows of its assignments, in ascending order of the experts.
    void add_up(const PlanView<T>& plan, const MatrixView<const T>& rows, const MatrixView<T>& y,
                const ExecutorRef& threads, bool accumulate) const {
        constexpr std::size_t tokens = 16;
        detail::run_tasks("ExpertLinear", threads, divide_up(y.rows(), tokens), rows.rows() * outputs(),
                          [&](std::size_t task, std::size_t) {
                              const std::size_t begin = task * tokens;
                              const std::size_t end = (std::min)(begin + tokens, y.rows());
                              for (std::size_t t = begin; t < end && !accumulate; ++t) {
                                  std::fill_n(y.row(t), outputs(), T(0));
                              }
                              for (std::size_t e = 0; e < n_experts(); ++e) {
                                  const auto of_expert = plan.tokens_of(e);
                                  const auto first = std::lower_bound(of_expert.begin(), of_expert.end(), begin);
                                  for (auto token = first; token != of_expert.end() && *token < end; ++token) {
                                      const std::size_t a =
                                          plan.assignments[plan.expert_offsets[e] +
                                                           static_cast<std::size_t>(token - of_expert.begin())];
                                      add_scaled(plan.weights[a], rows.row(a), outputs(), y.row(*token));
                                  }
                              }
                          });
    }

    std::vector<Linear<W>> experts_;
};

template <class W>
ExpertLinear(WeightStack<W>) -> ExpertLinear<W>;
template <class W, class B>
ExpertLinear(WeightStack<W>, MatrixView<B>) -> ExpertLinear<W>;

}  // namespace moe::inline MOE_ABI
