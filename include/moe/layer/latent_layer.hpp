#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

#include "../experts/expert.hpp"
#include "../kernels/add_scaled.hpp"
#include "../parallel/diagnose_call.hpp"
#include "moe_layer.hpp"

namespace moe::inline MOE_ABI {

/// Routed experts in a space of fewer dimensions, the router and the shared experts in the model's (Nemotron-H):
///
///     y[t] = out * routed(in * x[t]; routed as the router says of x[t]) + sum of shared(x[t])
///
/// `Inner` is the layer of the routed experts, over d_latent, whose router reads d_model; it has no shared experts of
/// its own. `forward` is const and may run in several threads at once, each with a workspace of its own. A token's bits
/// depend on its batch as little as those of `Inner`.
template <class Inner, WeightElement W, PanelSource SharedBank = typename Inner::experts_type>
class LatentLayer {
public:
    using value_type = typename Inner::value_type;
    using T = value_type;

    static_assert(
        std::is_same_v<T, ComputeType<W>> && std::is_same_v<T, typename SharedBank::value_type>,
        "the projections and all experts must compute in the same type: give all of them double weights, or none");

    /// `in` (d_latent, d_model) and `out` (d_model, d_latent), as Linear takes them. Shared experts are added, or
    /// averaged with the routed sum as their mode says; each may have a gate. Throws Error naming the shapes that
    /// disagree.
    LatentLayer(Linear<W> in, Inner inner, Linear<W> out, SharedExperts<SharedBank> shared = {})
        : in_(std::move(in)), inner_(std::move(inner)), out_(std::move(out)) {
        ensure(in_.outputs() == inner_.d_model() && out_.inputs() == inner_.d_model(), ErrorCode::shape,
               "LatentLayer: the layer inside has d_model ", inner_.d_model(), ", but the projections go to ",
               in_.outputs(), " and from ", out_.inputs());
        ensure(in_.inputs() == out_.outputs(), ErrorCode::shape, "LatentLayer: the projections go from ", in_.inputs(),
               " and to ", out_.outputs());
        ensure(shared.mode() == SharedMode::add, ErrorCode::range,
               "LatentLayer: shared experts are added; for another mode forward them yourself");
        ensure(shared.experts().empty() || shared.d_model() == d_model(), ErrorCode::shape,
               "LatentLayer: the shared experts have d_model ", shared.d_model(), ", the layer ", d_model());
        shared_ = std::move(shared);
    }

    [[nodiscard]] std::size_t d_model() const noexcept { return out_.outputs(); }
    [[nodiscard]] std::size_t d_latent() const noexcept { return out_.inputs(); }
    [[nodiscard]] const Inner& inner() const& noexcept { return inner_; }
    [[nodiscard]] Inner inner() && { return std::move(inner_); }
    [[nodiscard]] const Linear<W>& in() const& noexcept { return in_; }
    [[nodiscard]] const Linear<W>& out() const& noexcept { return out_; }
    [[nodiscard]] const SharedExperts<SharedBank>& shared() const& noexcept { return shared_; }

    /// y = (or +=, see ForwardOptions) the layer applied to x; both (n_tokens, d_model), not overlapping. The options
    /// are those of the layer inside; its router reads x unless they give another router input. Throws Error before
    /// anything is written. Allocates nothing once `workspace` has grown.
    template <Executor E = SerialExecutor>
    void forward(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const E& executor = {},
                 const ForwardOptions<T>& options = {}) const {
        run(x, y, workspace, ExecutorRef(executor), options,
            [this](MatrixView<const T> latent, MatrixView<T> routed, Workspace& own, const ExecutorRef& threads,
                   const ForwardOptions<T>& inside) { inner_.forward(latent, routed, own, threads, inside); });
    }

    /// The same, where `run_inner(latent, routed, workspace, threads, options)` stands for the forward pass of the
    /// layer inside: for who keeps what goes through it. It must write `routed`, in the workspace that pass needs.
    template <class RunInner>
    void forward_through(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const ExecutorRef& threads,
                         const ForwardOptions<T>& options, const RunInner& run_inner) const {
        run(x, y, workspace, threads, options, run_inner);
    }
    // Arguments that are almost right are told what to be.
    template <class X, class Y, class Space, class E = SerialExecutor>
        requires detail::MistakenCall<T, X, Y, Space, E>
    void forward(X&&, Y&&, Space&&, const E& = {}, const ForwardOptions<T>& = {}) const {
        detail::diagnose_call<T, X, Y, Space, E>();
    }

    /// Bytes `forward` needs of a workspace: what the layer inside or a shared expert does, and two rows of d_latent
    /// and one of d_model a token. Throws Error(overflow).
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_tokens, std::size_t n_workers) const {
        Arena measure;
        (void)lay_out(measure, n_tokens, n_workers);
        return measure.used();
    }

    /// The name of what of the weights has bytes in common with `memory`, or null.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const {
        if (in_.overlaps(memory) || out_.overlaps(memory)) {
            return "the latent projections";
        }
        for (const SharedBank& shared : shared_.experts()) {
            if (ExpertsRef<T>(shared).overlapped(memory) != nullptr) {
                return "the weights of a shared expert";
            }
        }
        return inner_.overlapped(memory);
    }

private:
    struct Memory {
        std::span<T> latent;         // (n_tokens, d_latent)
        std::span<T> routed;         // (n_tokens, d_latent)
        std::span<T> projected;      // (n_tokens, d_model)
        std::span<std::byte> inner;  // of one call at a time
    };

    [[nodiscard]] Memory lay_out(Arena& arena, std::size_t n_tokens, std::size_t n_workers) const {
        Arena product;
        (void)detail::WorkerScratch<T>::take(product, n_workers);
        std::size_t most = (std::max)(product.used(), inner_.workspace_bytes(n_tokens, n_workers));
        for (const SharedBank& shared : shared_.experts()) {
            const ExpertsRef<T> expert(shared);
            most = (std::max)(most, detail::ExpertCall<T>::workspace_bytes(expert, n_tokens, n_workers));
        }
        return {arena.take<T>(checked_multiply(n_tokens, d_latent())),
                arena.take<T>(checked_multiply(n_tokens, d_latent())),
                arena.take<T>(checked_multiply(n_tokens, d_model())), arena.take<std::byte>(most)};
    }

    template <class RunInner>
    void run(MatrixView<const T> x, MatrixView<T> y, Workspace& workspace, const ExecutorRef& threads,
             const ForwardOptions<T>& options, const RunInner& run_inner) const {
        ensure(!in_.empty(), ErrorCode::state, "LatentLayer: the layer was moved from");
        detail::check_tokens("LatentLayer", x, y, d_model());
        require_disjoint("LatentLayer", "the router input", options.router_input, "y", y);
        detail::check_apart("LatentLayer", x, y, options, workspace);
        refuse_overlap("LatentLayer", "y", overlapped(bytes_of(y)));
        const WorkspaceLease lease = workspace.lease(workspace_bytes(x.rows(), threads.concurrency()));
        Arena arena = lease.arena();
        const Memory memory = lay_out(arena, x.rows(), threads.concurrency());
        const std::size_t n = x.rows();
        const auto latent = view(memory.latent.data(), n, d_latent());
        const auto routed = view(memory.routed.data(), n, d_latent());
        // y is written at once, unless it is to be added to
        const auto projected = options.accumulate ? view(memory.projected.data(), n, d_model()) : y;
        Workspace own(memory.inner);
        in_.forward(x, latent, own, threads);
        ForwardOptions<T> inside = options;
        inside.accumulate = false;
        inside.router_input = options.router_input.cols() == 0 ? x : options.router_input;
        run_inner(MatrixView<const T>(latent), routed, own, threads, inside);
        out_.forward(routed, projected, own, threads);
        for (const SharedBank& shared : shared_.experts()) {
            const ExpertsRef<T> expert(shared);
            detail::ExpertCall<T>(expert, x, projected, own, threads, {.accumulate = true}).run();
        }
        for (std::size_t t = 0; t < n && options.accumulate; ++t) {
            add_scaled(T(1), projected.row(t), d_model(), y.row(t));
        }
    }

    Linear<W> in_;
    Inner inner_;
    Linear<W> out_;
    SharedExperts<SharedBank> shared_;
};

template <class W, class Inner>
LatentLayer(Linear<W>, Inner, Linear<W>) -> LatentLayer<Inner, W>;
template <class W, class Inner, class Bank>
LatentLayer(Linear<W>, Inner, Linear<W>, SharedExperts<Bank>) -> LatentLayer<Inner, W, Bank>;

}  // namespace moe::inline MOE_ABI
