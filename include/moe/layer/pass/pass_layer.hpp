#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "../../core/alignment.hpp"
#include "../../experts/experts_ref.hpp"
#include "../../gating/gate_ref.hpp"
#include "../../routing/linear.hpp"
#include "../parts/layer_options.hpp"
#include "../parts/shared_experts.hpp"
#include "check_call.hpp"
#include "pass_memory.hpp"
#include "tasks.hpp"

namespace moe::inline MOE_ABI {

/// The shared experts of a layer by reference.
template <class T>
class SharedRef {
public:
    /// None.
    SharedRef() = default;

    template <class Bank, class GateElement>
    explicit SharedRef(const SharedExperts<Bank, GateElement>& shared)
        : experts_(&shared.experts()),
          size_(shared.experts().size()),
          mode_(shared.mode()),
          gate_(shared.gate()),
          at_([](const void* experts, std::size_t s) {
              return ExpertsRef<T>((*static_cast<const std::vector<Bank>*>(experts))[s]);
          }) {}

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool averaged() const noexcept { return size_ > 0 && mode_ == SharedMode::average; }
    [[nodiscard]] bool gated() const noexcept { return size_ > 0 && mode_ == SharedMode::gated; }
    [[nodiscard]] const LinearRef<T>& gate() const noexcept { return gate_; }
    [[nodiscard]] ExpertsRef<T> operator[](std::size_t s) const { return at_(experts_, s); }

private:
    const void* experts_ = nullptr;
    std::size_t size_ = 0;
    SharedMode mode_ = SharedMode::add;
    LinearRef<T> gate_;
    ExpertsRef<T> (*at_)(const void*, std::size_t) = nullptr;
};

/// What a forward pass needs to know of a layer, whatever the types of its router, gate and experts: references, behind
/// which the pass is compiled once for each compute type. The layer must outlive it.
template <class T>
struct PassLayer {
    const char* name = "";      ///< the class that errors name
    std::size_t n_experts = 0;  ///< among which the gate chooses: null experts included
    bool has_gate = false;      ///< false for a type that is almost a gate
    bool has_logits = false;
    GateRef<T> gate;
    LinearRef<T> router;    ///< of no outputs where there are no weights
    ExpertsRef<T> experts;  ///< none in a layer that only routes
    SharedRef<T> shared;
    const LayerOptions<T>* options = nullptr;

    /// What routed weights are multiplied with, and what shared experts weigh.
    [[nodiscard]] T routed_weight() const noexcept {
        return static_cast<T>(options->routed_scale * half_if_averaged());
    }
    [[nodiscard]] T shared_weight() const noexcept { return static_cast<T>(half_if_averaged()); }

    /// Throws Error that names the layer: shapes of what the router and the gate read that disagree, or are not
    /// aligned.
    void check_input(MatrixView<const T> x, const ForwardOptions<T>& call) const;
    /// The same for a plan made elsewhere.
    void check_given(const PlanView<T>& plan, std::size_t n_tokens) const;

    /// Throws Error(layout) where memory of the call overlaps that is read and written: y or the workspace with what
    /// the layer, the plan or the options point to, or with each other, or the workspace with x. As overlapped().
    void check_memory(MatrixView<const T> x, MatrixView<T> y, const PlanView<T>* plan, const ForwardOptions<T>& call,
                      const Workspace& workspace) const;

    /// The name of what of the layer has bytes in common with `memory`, or null. O(1) for packed and stacked weights,
    /// O(n_experts) for separate ones.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const;

    /// How much memory a pass needs. `plan` null: it is to be made.
    [[nodiscard]] PassShape shape(std::size_t n_tokens, std::size_t n_workers, const PlanView<T>* plan,
                                  bool route_only) const;
    /// Bytes of a workspace for such a pass, from an address that is a multiple of buffer_alignment.
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_tokens, std::size_t n_workers,
                                              const PlanView<T>* plan) const;

private:
    [[nodiscard]] double half_if_averaged() const noexcept { return shared.averaged() ? 0.5 : 1.0; }
};

template <class T>
void PassLayer<T>::check_input(MatrixView<const T> x, const ForwardOptions<T>& call) const {
    const bool reads_x = call.router_input.cols() == 0;
    const MatrixView<const T>& input = reads_x ? x : call.router_input;
    ensure(input.rows() == x.rows(), ErrorCode::shape, name, ": the router input has ", input.rows(), " rows for ",
           x.rows(), " tokens");
    ensure(!has_logits || input.cols() == router.inputs(), ErrorCode::shape, name,
           reads_x ? ": x has " : ": the router input has ", input.cols(), " columns but the router weights have ",
           router.inputs(), reads_x ? "; what the router reads instead of x is ForwardOptions::router_input" : "");
    detail::check_facts(name, call, x.rows());
    detail::check_valid(name, call, x.rows());
    require_aligned(input.data(), name, "the router input");
}

template <class T>
void PassLayer<T>::check_given(const PlanView<T>& plan, std::size_t n_tokens) const {
    ensure(plan.n_tokens == n_tokens && plan.n_experts == n_experts, ErrorCode::shape, name, ": the plan is for ",
           plan.n_tokens, " tokens and ", plan.n_experts, " experts, the call for ", n_tokens, " tokens and ",
           n_experts, " experts");
    check_plan(plan);
}

template <class T>
const char* PassLayer<T>::overlapped(const ByteView& memory) const {
    if (router.overlaps(memory)) {
        return "the weights or biases of the router";
    }
    if (const char* const read = has_gate ? gate.overlapped(memory) : nullptr) {
        return read;
    }
    if (const char* const read = experts.overlapped(memory)) {
        return read;
    }
    for (std::size_t s = 0; s < shared.size(); ++s) {
        if (shared[s].overlapped(memory) != nullptr) {
            return "the weights of a shared expert";
        }
    }
    if (shared.gate().overlaps(memory)) {
        return "the gate of the shared experts";
    }
    return moe::overlapped(memory, {{"the output bias", bytes_of(options->output_bias)},
                                    {"the constants", bytes_of(options->null_experts.constants)},
                                    {"the mixes", bytes_of(options->null_experts.mixes)}});
}

template <class T>
void PassLayer<T>::check_memory(MatrixView<const T> x, MatrixView<T> y, const PlanView<T>* plan,
                                const ForwardOptions<T>& call, const Workspace& workspace) const {
    detail::check_apart(name, x, y, call, workspace);
    const std::pair<const char*, ByteView> written[] = {{"y", bytes_of(y)},
                                                        {"the workspace", bytes_of(workspace.memory())}};
    for (const auto& [what, memory] : written) {
        if (plan != nullptr) {
            refuse_overlap(name, what,
                           moe::overlapped(memory, {{"the plan", bytes_of(plan->token_offsets)},
                                                    {"the plan", bytes_of(plan->experts)},
                                                    {"the plan", bytes_of(plan->weights)},
                                                    {"the plan", bytes_of(plan->expert_offsets)},
                                                    {"the plan", bytes_of(plan->tokens)},
                                                    {"the plan", bytes_of(plan->assignments)}}));
        }
        refuse_overlap(name, what, overlapped(memory));
    }
}

template <class T>
PassShape PassLayer<T>::shape(std::size_t n_tokens, std::size_t n_workers, const PlanView<T>* plan,
                              bool route_only) const {
    ensure(n_workers > 0, ErrorCode::range, name, ": an executor of 0 threads");
    PassShape result;
    result.n_tokens = n_tokens;
    result.n_workers = n_workers;
    result.n_experts = n_experts;
    result.plan_given = plan != nullptr;
    if (plan != nullptr) {
        result.max_assignments = plan->n_assignments();
    } else if (has_gate && n_tokens > 0) {
        result.max_per_token = gate.max_per_token(n_tokens, n_experts);
        result.max_assignments = gate.max_assignments(n_tokens, n_experts);
        result.batch_gate = gate.is_batch_gate();
        if (has_logits) {
            result.router_outputs = router.outputs();
            result.router_panels = router.panels();
            result.router_blocks = detail::router_blocks(router, n_workers);
        }
    }
    if (route_only) {
        return result;
    }
    result.output_panels = experts.layout().output_panels();
    result.hidden_stride = experts.hidden_stride();
    result.input_stride = experts.input_stride();
    result.mixes = options->null_experts.mixes.rows() > 0;
    result.n_shared = shared.size();
    for (std::size_t s = 0; s < shared.size(); ++s) {
        result.shared_hidden = checked_add(result.shared_hidden, shared[s].hidden_stride());
    }
    if (shared.size() > 0 && shared[0].activations() != experts.activations()) {
        result.shared_input_stride = shared[0].input_stride();
    }
    result.shared_gated = shared.gated();
    return result;
}

template <class T>
std::size_t PassLayer<T>::workspace_bytes(std::size_t n_tokens, std::size_t n_workers, const PlanView<T>* plan) const {
    Arena measure;
    (void)PassMemory<T>::lay_out(measure, shape(n_tokens, n_workers, plan, false));
    return measure.used();
}

}  // namespace moe::inline MOE_ABI
