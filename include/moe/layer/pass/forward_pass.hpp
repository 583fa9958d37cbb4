#pragma once

#include <cstddef>
#include <memory>

#include "ffn_phases.hpp"
#include "pass_state.hpp"
#include "phase_order.hpp"
#include "phase_status.hpp"
#include "routing_phases.hpp"
#include "tasks.hpp"

namespace moe::inline MOE_ABI {

/// One forward pass of a layer, cut into phases. MoELayer::forward drives it with an executor; a host with threads of
/// its own gets it from MoELayer::prepare and calls run_phase(phase, ith, nth) from each of them, with a barrier after
/// every phase. Workers take tasks from a queue; who computes what never changes a bit of the result.
///
/// A pass is run once: every phase in order, also where a plan was given, by every worker 0 .. nth - 1. What is left
/// out, done twice or begun too early is an Error(state) that names it. It holds its workspace until all have ended the
/// last phase, or it is destroyed. Movable while no phase runs, so that a host keeps it between callbacks.
///
/// Each element of y is written by one task, which adds the experts of the token in ascending order of expert id (of
/// one id, in slot order), then the shared experts: no buffer of single outputs, and one fixed order for any batch.
template <class T>
class BasicForwardPass {
public:
    /// Lays out the workspace (the only allocation, if it must grow). `plan` null: route; else use that one. A `y`
    /// without columns: only route. A given plan must outlive the pass.
    BasicForwardPass(const PassLayer<T>& layer, MatrixView<const T> x, MatrixView<T> y, const PlanView<T>* plan,
                     Workspace& workspace, std::size_t n_workers, const ForwardOptions<T>& options);

    [[nodiscard]] std::size_t n_workers() const noexcept { return pass_.shape.n_workers; }
    /// Once Phase::plan is done, until the workspace serves another call.
    [[nodiscard]] const PlanView<T>& plan() const& noexcept { return pass_.plan; }
    [[nodiscard]] PlanView<T> plan() && { return pass_.plan; }

    /// The work of worker `ith` of `nth` in one phase, 1 <= nth <= n_workers(). Any number of threads may run the same
    /// phase; all must be done before one starts the next. Errors of the gate or an observer are thrown here, and after
    /// one the pass is over: whoever goes on gets an Error that repeats it.
    void run_phase(Phase phase, std::size_t ith, std::size_t nth);

    /// The same for threads that no exception may leave, as those of a host written in C.
    [[nodiscard]] PhaseStatus try_run_phase(Phase phase, std::size_t ith, std::size_t nth) noexcept;

    /// Phases first to last, each on all workers of `executor`; the last two in one parallel region where nobody
    /// observes when one ends: who has nothing left to do in one begins the next.
    void run(const ExecutorRef& executor, Phase first, Phase last);

private:
    [[nodiscard]] Observer<T>* observer() const noexcept { return pass_.options.observer; }

    /// A worker is in a phase, and computes as the library does, for as long as this lives; the last to leave the last
    /// phase frees the workspace.
    class InPhase {
    public:
        InPhase(BasicForwardPass& pass, Phase phase, std::size_t ith, std::size_t nth, bool overlapping = false)
            : pass_(pass), phase_(phase) {
            pass_.order_.begin(phase, ith, nth, overlapping);
        }
        InPhase(const InPhase&) = delete;
        InPhase& operator=(const InPhase&) = delete;
        ~InPhase() {
            if (pass_.order_.end(phase_) && phase_ == Phase::output) {
                pass_.lease_.end();
            }
        }

    private:
        BasicForwardPass& pass_;
        Phase phase_;
        FloatEnvironment environment_;
    };

    /// Whether a phase is done sooner by the calling thread alone than by waking the others.
    [[nodiscard]] bool is_serial(Phase phase) const noexcept;

    void finish_observed(Phase phase) {
        observer()->on_phase_end(phase);
        if (phase == Phase::plan) {
            observer()->on_plan({pass_.plan, pass_.logits(), pass_.choices(), pass_.options.valid});
            pass_.kept = observer()->keep_products();
        }
    }

    void run_observed(Phase phase, std::size_t ith);
    void work(Phase phase, std::size_t ith);

    PassState<T> pass_;
    WorkspaceLease lease_;
    detail::PhaseOrder order_;
    detail::FirstFailure failure_;
};

template <class T>
BasicForwardPass<T>::BasicForwardPass(const PassLayer<T>& layer, MatrixView<const T> x, MatrixView<T> y,
                                      const PlanView<T>* plan, Workspace& workspace, std::size_t n_workers,
                                      const ForwardOptions<T>& options)
    : pass_{.layer = layer,
            .x = x,
            .y = y,
            .router_input = options.router_input.cols() == 0 ? x : options.router_input,
            .options = options,
            .shape = layer.shape(x.rows(), n_workers, plan, y.cols() == 0),
            .memory = {},
            .plan = {},
            .kept = {},
            .queues = {}} {
    Arena measure;
    (void)PassMemory<T>::lay_out(measure, pass_.shape);
    lease_ = workspace.lease(measure.used());
    Arena arena = lease_.arena();
    pass_.memory = PassMemory<T>::lay_out(arena, pass_.shape);
    order_ = {pass_.memory.phases_begun, y.cols() == 0 ? Phase::plan : Phase::output};
    for (Countdown& left : pass_.memory.logits_left) {
        std::construct_at(&left, detail::router_parts(pass_.shape));
    }
    if (plan != nullptr) {
        pass_.plan = *plan;
    }
}

template <class T>
void BasicForwardPass<T>::run_phase(Phase phase, std::size_t ith, std::size_t nth) {
    failure_.ensure_none();
    const InPhase in_phase(*this, phase, ith, nth);
#if MOE_EXCEPTIONS
    try {
        run_observed(phase, ith);
    } catch (...) {
        failure_.keep(PhaseStatus::of_exception());
        throw;
    }
#else
    run_observed(phase, ith);
#endif
}

template <class T>
PhaseStatus BasicForwardPass<T>::try_run_phase(Phase phase, std::size_t ith, std::size_t nth) noexcept {
#if MOE_EXCEPTIONS
    try {
        run_phase(phase, ith, nth);
    } catch (...) {
        return PhaseStatus::of_exception();
    }
#else
    run_phase(phase, ith, nth);
#endif
    return {};
}

template <class T>
void BasicForwardPass<T>::run(const ExecutorRef& executor, Phase first, Phase last) {
    for (int p = static_cast<int>(first); p <= static_cast<int>(last); ++p) {
        const auto phase = static_cast<Phase>(p);
        const bool both = phase == Phase::hidden && last == Phase::output && observer() == nullptr;
        if (is_serial(phase)) {
            const InPhase in_phase(*this, phase, 0, 1);
            run_observed(phase, 0);
            continue;
        }
        if (observer() != nullptr) {
            observer()->on_phase_begin(phase);
        }
        executor.run([&](std::size_t ith, std::size_t nth) {
            {
                const InPhase in_phase(*this, phase, ith, nth);
                work(phase, ith);
            }
            if (both) {
                const InPhase in_phase(*this, Phase::output, ith, nth, true);
                work(Phase::output, ith);
            }
        });
        order_.ensure_ended(both ? Phase::output : phase, "the executor returned");
        if (both) {
            return;
        }
        if (observer() != nullptr) {
            finish_observed(phase);
        }
    }
}

template <class T>
bool BasicForwardPass<T>::is_serial(Phase phase) const noexcept {
    using detail::few_products;
    constexpr std::size_t few_tokens = 16;
    const PassShape& shape = pass_.shape;
    switch (phase) {
        case Phase::logits:
            return shape.n_tokens * ((shape.router_outputs + shape.n_shared) * pass_.router_input.cols() +
                                     4 * (shape.input_stride + shape.shared_input_stride)) <
                   few_products;
        case Phase::gating: return shape.batch_gate || shape.n_tokens <= few_tokens;
        case Phase::plan: return true;
        case Phase::hidden:
        case Phase::output: break;
    }
    std::size_t hidden = pass_.plan.n_assignments() * pass_.layer.experts.layout().d_ff;
    for (std::size_t s = 0; s < shape.n_shared; ++s) {
        hidden += shape.n_tokens * pass_.layer.shared[s].layout().d_ff;
    }
    return 2 * hidden * pass_.x.cols() < few_products;
}

/// Worker 0 tells the observer.
template <class T>
void BasicForwardPass<T>::run_observed(Phase phase, std::size_t ith) {
    const bool observed = ith == 0 && observer() != nullptr;
    if (observed) {
        observer()->on_phase_begin(phase);
    }
    work(phase, ith);
    if (observed) {
        finish_observed(phase);
    }
}

template <class T>
void BasicForwardPass<T>::work(Phase phase, std::size_t ith) {
    if (pass_.shape.n_tokens == 0 && phase != Phase::plan) {
        return;
    }
    switch (phase) {
        case Phase::logits: return detail::LogitsPhase<T>(pass_).work(ith);
        case Phase::gating: return detail::GatingPhase<T>(pass_).work(ith);
        case Phase::plan: return ith == 0 ? detail::make_plan(pass_) : void();
        case Phase::hidden: return detail::HiddenPhase<T>(pass_).work(ith);
        case Phase::output: return detail::OutputPhase<T>(pass_).work(ith);
    }
}

/// A forward pass of a layer of type Layer: the same for all layers of one compute type.
template <class Layer>
class ForwardPass : public BasicForwardPass<typename Layer::value_type> {
public:
    using BasicForwardPass<typename Layer::value_type>::BasicForwardPass;
};

}  // namespace moe::inline MOE_ABI
