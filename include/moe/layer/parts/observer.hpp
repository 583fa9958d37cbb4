#pragma once

#include <cstdint>
#include <span>

#include "../../core/matrix_view.hpp"
#include "../../routing/plan.hpp"

namespace moe::inline MOE_ABI {

/// The parts of a forward pass, in order. Between two of them every worker must have finished the first.
enum class Phase : unsigned char {
    logits,  ///< logits of the router, and of the gates of shared experts
    gating,  ///< the choice of experts
    plan,    ///< both orders of the plan, and the list of tasks; by one worker
    hidden,  ///< hidden activations of every expert that has tokens
    output,  ///< outputs, combined into y
};
inline constexpr int n_phases = 5;

[[nodiscard]] constexpr const char* phase_name(Phase phase) noexcept {
    constexpr const char* names[] = {"logits", "gating", "plan", "hidden", "output"};
    return names[static_cast<unsigned>(phase)];
}

/// What a forward pass knows of its routing.
template <class T>
struct RoutingRecord {
    PlanView<T> plan;
    MatrixView<const T> logits;           ///< (n_tokens, n_logits), empty when none were computed
    MatrixView<const ExpertId> choices;   ///< (n_tokens, max_per_token) experts in the order the gate chose them, with
                                          ///< dropped(e) for those that overflowed and no_expert; empty for given plans
    std::span<const std::uint8_t> valid;  ///< (n_tokens) 0 for padding, or empty: all valid
};

/// Where the products of Phase::hidden are kept as they are made, before biases and the form: for a row of x, gate * x
/// and then up * x, d_ff values each, or of plain forms only the latter. What is empty is not kept.
template <class T>
struct KeptProducts {
    std::span<T> routed{};  ///< a row an assignment to a real expert, in the plan's order by expert
    std::span<T> shared{};  ///< n_tokens rows for each shared expert, one expert behind the other
};

/// Watches a forward pass: derive, override what you want to see, pass it in ForwardOptions. Its calls come one after
/// the other; what they are given is void once they return. Who calls depends on who drives the pass:
///  - MoELayer::forward and route: the calling thread, before and after each parallel region, never inside one;
///  - a host that calls run_phase itself: its worker 0, inside the host's parallel region. The others may already work
///    when on_phase_begin is called and may still work when on_phase_end is, which then tells the time of worker 0. The
///    plan is whole in on_plan, because worker 0 makes it.
/// May throw: the pass then ends with that exception, with y not yet written unless the phase is `output`.
template <class T>
class Observer {
public:
    Observer() = default;
    Observer(const Observer&) = default;
    Observer& operator=(const Observer&) = default;
    virtual ~Observer() = default;

    virtual void on_phase_begin(Phase /*phase*/) {}
    virtual void on_phase_end(Phase /*phase*/) {}

    /// After the plan is made.
    virtual void on_plan(const RoutingRecord<T>& /*record*/) {}

    /// Asked once, after on_plan.
    [[nodiscard]] virtual KeptProducts<T> keep_products() { return {}; }
};

}  // namespace moe::inline MOE_ABI
