#pragma once

#include <cstddef>
#include <memory>

#include "ffn_phases.hpp"
#include "pass_state.hpp"
#include "routing_phases.hpp"
#include "tasks.hpp"

namespace moe::inline MOE_ABI {

/// One forward pass of a layer, cut into phases. MoELayer::forward drives it with an executor; a host with threads of
/// its own gets it from MoELayer::prepare and calls run_phase(phase, ith, nth) from each of them, with a barrier after
/// every phase. Workers take tasks from a queue; who computes what never changes a bit of the result.
///
/// Each element of y is written by one task, which adds the experts of the token in ascending order of expert id (of
/// one id, in slot order), then the shared experts: no buffer of single outputs, and one fixed order for any batch.
template <class T>
class BasicForwardPass {
public:
    /// Lays out the workspace (the only allocation, if it must grow). `plan` null: route; else use that one. A `y`
    /// without columns: only route. To be run once; a given plan must outlive the pass.
    BasicForwardPass(const PassLayer<T>& layer, MatrixView<const T> x, MatrixView<T> y, const PlanView<T>* plan,
                     Workspace& workspace, std::size_t n_workers, const ForwardOptions<T>& options);

    [[nodiscard]] std::size_t n_workers() const noexcept { return pass_.shape.n_workers; }
    [[nodiscard]] const PlanView<T>& plan() const noexcept { return pass_.plan; }

    /// The work of worker `ith` of `nth` in one phase, 1 <= nth <= n_workers(). Any number of threads may run the same
    /// phase; all must be done before one starts the next. Errors of the gate or an observer are thrown here.
    void run_phase(Phase phase, std::size_t ith, std::size_t nth) {
        check_worker(ith, nth);
        if (ith == 0 && observer() != nullptr) {
            observer()->on_phase_begin(phase);
        }
        work(phase, ith);
        if (ith == 0 && observer() != nullptr) {
            finish_observed(phase);
        }
    }

    /// Phases first to last, each on all workers of `executor`; the last two in one parallel region where nobody
    /// observes when one ends: who has nothing left to do in one begins the next.
    void run(const ExecutorRef& executor, Phase first, Phase last);

private:
    [[nodiscard]] Observer<T>* observer() const noexcept { return pass_.options.observer; }

    void check_worker(std::size_t ith, std::size_t nth) const {
        ensure(ith < nth && nth <= pass_.shape.n_workers, ErrorCode::range, "ForwardPass: worker ", ith, " of ", nth,
               ", the pass was prepared for ", pass_.shape.n_workers);
    }

    /// Whether a phase is done sooner by the calling thread alone than by waking the others.
    [[nodiscard]] bool is_serial(Phase phase) const noexcept;

    void finish_observed(Phase phase) {
        observer()->on_phase_end(phase);
        if (phase == Phase::plan) {
            observer()->on_plan({pass_.plan, pass_.logits(), pass_.choices(), pass_.options.valid});
        }
    }

    void work(Phase phase, std::size_t ith);

    PassState<T> pass_;
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
            .queues = {}} {
    Arena measure;
    (void)PassMemory<T>::lay_out(measure, pass_.shape);
    workspace.reserve(measure.used());
    Arena arena = workspace.arena();
    pass_.memory = PassMemory<T>::lay_out(arena, pass_.shape);
    for (Countdown& left : pass_.memory.logits_left) {
        std::construct_at(&left, detail::router_parts(pass_.shape));
    }
    if (plan != nullptr) {
        pass_.plan = *plan;
    }
}

template <class T>
void BasicForwardPass<T>::run(const ExecutorRef& executor, Phase first, Phase last) {
    for (int p = static_cast<int>(first); p <= static_cast<int>(last); ++p) {
        const auto phase = static_cast<Phase>(p);
        if (phase == Phase::hidden && last == Phase::output && observer() == nullptr && !is_serial(phase)) {
            return executor.run([&](std::size_t ith, std::size_t nth) {
                check_worker(ith, nth);
                work(Phase::hidden, ith);
                work(Phase::output, ith);
            });
        }
        if (observer() != nullptr) {
            observer()->on_phase_begin(phase);
        }
        if (is_serial(phase)) {
            work(phase, 0);
        } else {
            executor.run([&](std::size_t ith, std::size_t nth) {
                check_worker(ith, nth);  // an executor of somebody else may have grown since it was asked
                work(phase, ith);
            });
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
