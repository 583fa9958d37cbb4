#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>

#include "../kernels/add_scaled.hpp"
#include "route_only.hpp"

namespace moe::inline MOE_ABI {

/// A block of the model that only some tokens go through: mixture of depths (Raposo et al. 2024, 2404.02258, eq. 1),
///
///     y[t] = x[t] + w[t] * block(tokens taken)[t]   for the tokens that the gate takes
///     y[t] = x[t]                                   for the others
///
/// The router is one of a single expert, the block. ExpertChoice<Identity>{.capacity_factor = share} takes the best
/// share of a batch, as in training; Threshold<Identity>{} or any other token gate judges each token by itself, which
/// is causal and what decoding needs (section 3.5 of the paper). The block is a function of the user's: attention, a
/// feed-forward network, both.
template <class RouterType>
class MixtureOfDepths {
public:
    using value_type = typename RouterType::value_type;
    using T = value_type;

    /// Throws Error(shape) for a router of more than one expert.
    explicit MixtureOfDepths(RouterType router) : routing_("MixtureOfDepths", std::move(router)) {
        ensure(routing_.n_experts() == 1, ErrorCode::shape,
               "MixtureOfDepths: the router must have one expert, which is the block, not ", routing_.n_experts());
    }

    [[nodiscard]] const RouterType& router() const& noexcept { return routing_.router(); }
    [[nodiscard]] RouterType router() && { return routing_.router(); }

    /// Calls block(taken_x, taken_y, tokens) once, in the calling thread, unless no token is taken: taken_x (n_taken,
    /// d_model) holds the tokens taken, ascending, `tokens` says which they are, and block fills taken_y, of the same
    /// shape and of any value before. x, y (n_tokens, d_model), not overlapping. Of the options: router_input,
    /// token_ids, positions, valid (padding is not taken), observer. Throws Error before anything is written, and what
    /// block throws. Allocates nothing once `workspace` has grown.
    template <class Block, Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, Block&& block, const E& executor = {},
                 const ForwardOptions<T>& options = {}) const {
        const ExecutorRef threads(executor);
        ensure(!options.accumulate, ErrorCode::range, "MixtureOfDepths: it adds x by itself, accumulate cannot be");
        detail::check_tokens("MixtureOfDepths", x, y, x.cols());
        require_disjoint("MixtureOfDepths", "the router input", options.router_input, "y", y);
        detail::check_apart("MixtureOfDepths", x, y, options, workspace);
        refuse_overlap("MixtureOfDepths", "y", routing_.overlapped(bytes_of(y)));
        const WorkspaceLease lease = workspace.lease(workspace_bytes(x.rows(), x.cols(), threads.concurrency()));
        Arena arena = lease.arena();
        const Memory memory = lay_out(arena, x.rows(), x.cols(), threads.concurrency());
        Workspace own(memory.routing);
        auto pass = routing_.prepare_route(x, own, threads.concurrency(), options);
        pass.run(threads, Phase::logits, Phase::plan);
        const PlanView<T>& plan = pass.plan();
        const std::span<const Index> tokens = plan.tokens_of(0);
        const MatrixView<T> inputs = view(memory.inputs.data(), tokens.size(), x.cols());
        const MatrixView<T> outputs = view(memory.outputs.data(), tokens.size(), x.cols());
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            std::copy_n(x.row(tokens[i]), x.cols(), inputs.row(i));
        }
        if (!tokens.empty()) {
            block(MatrixView<const T>(inputs), outputs, tokens);
        }
        for (std::size_t t = 0; t < x.rows(); ++t) {
            std::copy_n(x.row(t), x.cols(), y.row(t));
        }
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            add_scaled(plan.weights[plan.assignments[plan.expert_offsets[0] + i]], outputs.row(i), x.cols(),
                       y.row(tokens[i]));
        }
    }

    /// Bytes `forward` needs of a workspace: what the router does, and two rows a token. Throws Error(overflow).
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_tokens, std::size_t d_model, std::size_t n_workers) const {
        Arena measure;
        (void)lay_out(measure, n_tokens, d_model, n_workers);
        return measure.used();
    }

private:
    struct Memory {
        std::span<std::byte> routing;
        std::span<T> inputs;   // (n_tokens, d_model), of which the first rows are used
        std::span<T> outputs;  // the same
    };

    [[nodiscard]] Memory lay_out(Arena& arena, std::size_t n_tokens, std::size_t d_model, std::size_t n_workers) const {
        const std::size_t values = checked_multiply(n_tokens, d_model);
        return {arena.take<std::byte>(routing_.workspace_bytes(n_tokens, n_workers)), arena.take<T>(values),
                arena.take<T>(values)};
    }

    detail::RouteOnly<RouterType> routing_;
};

}  // namespace moe::inline MOE_ABI
