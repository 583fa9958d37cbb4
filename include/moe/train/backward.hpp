#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "../layer/pass/check_call.hpp"
#include "backward/input_phase.hpp"
#include "backward/lora_phase.hpp"
#include "backward/parameter_phase.hpp"
#include "backward/strip_phase.hpp"
#include "backward/token_phase.hpp"
#include "parts/check_call.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

/// Whether a layer has a backward pass with a Tape, or one sentence that says which have.
template <class Layer>
constexpr bool has_known_parts() {
    constexpr bool known = requires(const Layer& layer) { layer.router().gate(), layer.experts(), layer.shared(); };
    static_assert(known,
                  "forward with a tape, backward: the layer must be a MoELayer, or one under another gate, whose types "
                  "are known: what an AnyLayer holds has no backward pass, other layers take their moe::TapeOf.");
    return known;
}

}  // namespace detail

/// layer.forward that fills `tape` for backward(). x and a router's input of its own are viewed and must stay as they
/// are until then. Throws as forward does; the tape is then not recorded.
template <class Layer, class T = typename Layer::value_type, Executor E = SerialExecutor>
void forward(const Layer& layer, std::type_identity_t<MatrixView<const T>> x, std::type_identity_t<MatrixView<T>> y,
             Tape<T>& tape, Workspace& workspace, const E& executor = {}, ForwardOptions<T> options = {}) {
    if constexpr (detail::has_known_parts<Layer>()) {
        const PassLayer<T> parts = layer.erased();
        TapeRecorder<T> recorder(tape, moe::tape_owner(&layer.options(), layer.router()), x, options, &parts);
        options.observer = &recorder;
        layer.forward(x, y, workspace, executor, options);
        recorder.finish();
    }
}

/// The same with a plan made elsewhere: its weights are constants, so that nothing flows to the router; what they are
/// worth is in Tape::d_weights.
template <class Layer, class T = typename Layer::value_type, Executor E = SerialExecutor>
void forward(const Layer& layer, std::type_identity_t<MatrixView<const T>> x,
             const std::type_identity_t<PlanView<T>>& plan, std::type_identity_t<MatrixView<T>> y, Tape<T>& tape,
             Workspace& workspace, const E& executor = {}, ForwardOptions<T> options = {}) {
    if constexpr (detail::has_known_parts<Layer>()) {
        const PassLayer<T> parts = layer.erased();
        TapeRecorder<T> recorder(tape, moe::tape_owner(&layer.options(), layer.router()), x, options, &parts);
        options.observer = &recorder;
        layer.forward(x, plan, y, workspace, executor, options);
        recorder.finish();
    }
}

/// One backward pass: lays out its memory, checks the call, runs the phases.
template <class T>
class BackwardPass {
public:
    BackwardPass(const BackwardLayer<T>& layer, Tape<T>& tape, MatrixView<const T> dy, MatrixView<T> dx,
                 const LayerGradients<T>& gradients, const BackwardOptions& options)
        : tape_(tape),
          state_{.layer = layer,
                 .tape = tape,
                 .plan = tape.plan(),
                 .dy = dy,
                 .dx = dx,
                 .gradients = gradients,
                 .options = options,
                 .memory = {}} {
        confirm();
        state_.selection_part = (std::max)(layer.pass.n_experts, tape.logits().cols());
    }

    /// Bytes it needs of a workspace.
    [[nodiscard]] std::size_t workspace_bytes(std::size_t n_workers) const {
        Arena measure;
        BackwardMemory<T> memory;
        lay_out(measure, memory, n_workers);
        return measure.used();
    }

    void run(Workspace& workspace, const ExecutorRef& threads);

private:
    static constexpr std::size_t width = Panel<T>::width;
    static constexpr const char* name = "backward";

    void confirm() const;
    void confirm_gradients() const;
    void confirm_stack(const char* what, const MutableStack<T>& stack, std::size_t n_experts, std::size_t outputs,
                       std::size_t inputs) const;
    void confirm_experts(const char* what, const ExpertGradients<T>& to, const BackwardExperts<T>& experts) const;

    [[nodiscard]] std::size_t n_entries() const {
        return state_.plan.expert_offsets[state_.n_real()] + state_.n_shared() * state_.n_tokens();
    }
    void lay_out(Arena& arena, BackwardMemory<T>& memory, std::size_t n_workers) const;
    void fill_groups();
    void fill_group(const BackwardGroup& group);
    void fill_gamma(const BackwardScratch<T>& scratch);

    template <class Phase>
    void run_phase(const Phase& phase, const ExecutorRef& threads) const {
        detail::run_tasks(name, threads, phase.n_tasks(), products(),
                          [&](std::size_t task, std::size_t ith) { phase.run(task, state_.scratch(ith)); });
    }
    [[nodiscard]] std::size_t products() const {
        std::size_t sum = 1 + state_.n_tokens() * tape_.logits().cols() * tape_.router_input().cols();
        for (const BackwardGroup& group : state_.memory.groups.first(state_.n_groups)) {
            sum += group.count * state_.dy.cols() * state_.experts_of(group).layout().d_ff;
        }
        return sum;
    }

    Tape<T>& tape_;
    BackwardState<T> state_;
};

/// The gradients of a loss, from those of y (dy, (n_tokens, d_model)) of the forward pass that `tape` recorded: dx (the
/// same shape) is written, or added to, or not wanted if it has no rows; `gradients` are added to. The tape is used up.
/// Every gate in the layer needs a `backward`. The weight of a single normalised expert (top_k 1, normalize) is 1, so
/// that its router learns nothing. Products go through the layer's views or packed panels, Int8 and Int4 exactly. dx of
/// a token has the same bits in any batch, for token gates without losses of the batch; all gradients for any number of
/// threads; those of parameters for any cut of a batch into calls in order. A NaN stays in its token's dx. Throws Error
/// before anything is written: shapes, alignment, memory that overlaps, a tape that is not recorded, used up or of
/// another layer. Allocates nothing once `workspace` has grown. Complexity: twice the products of a forward pass, and
/// those of its hidden values again where the tape keeps none.
template <class Layer, class T = typename Layer::value_type, Executor E = SerialExecutor>
void backward(const Layer& layer, Tape<T>& tape, std::type_identity_t<MatrixView<const T>> dy,
              std::type_identity_t<MatrixView<T>> dx, const std::type_identity_t<LayerGradients<T>>& gradients,
              Workspace& workspace, const E& executor = {}, const BackwardOptions& options = {}) {
    if constexpr (detail::has_known_parts<Layer>()) {
        const BackwardLayer<T> references(layer);
        BackwardPass<T> pass(references, tape, dy, dx, gradients, options);
        pass.run(workspace, ExecutorRef(executor));
    }
}

template <class T>
void BackwardPass<T>::confirm() const {
    const PassLayer<T>& layer = state_.layer.pass;
    detail::ensure_recorded(name, tape_.recorded());
    const TapeOwner& owner = state_.layer.owner;
    detail::ensure_same_layer(name, tape_.owner_.layer == owner.layer);
    ensure(
        tape_.owner_ == owner, ErrorCode::state, name,
        ": the tape was recorded under another gate; give a layer from with_gate a name, and use it for both passes");
    detail::check_matrices(tape_.x(), state_.dy, state_.dx);
    require_disjoint(name, "the router input", tape_.router_input(), "dx", state_.dx);
    refuse_overlap(name, "dx", layer.overlapped(bytes_of(state_.dx)));
    confirm_gradients();
}

template <class T>
void BackwardPass<T>::confirm_stack(const char* what, const MutableStack<T>& stack, std::size_t n_experts,
                                    std::size_t outputs, std::size_t inputs) const {
    if (stack.empty()) {
        return;
    }
    ensure(stack.n_experts() == n_experts && stack.outputs() == outputs && stack.inputs() == inputs, ErrorCode::shape,
           name, ": the gradients of ", what, " are ", stack.n_experts(), " x ", stack.outputs(), " x ", stack.inputs(),
           ", they must be ", n_experts, " x ", outputs, " x ", inputs);
    for (std::size_t e = 0; e < n_experts; ++e) {
        require_aligned(stack.matrix(e).data, "backward: gradients", what);
    }
    for (const NamedBytes& read : {NamedBytes{"x", bytes_of(tape_.x())}, NamedBytes{"dy", bytes_of(state_.dy)},
                                   NamedBytes{"dx", bytes_of(state_.dx)}}) {
        refuse_overlap("backward: gradients", what, stack.overlaps(read.bytes) ? read.name : nullptr);
    }
}

template <class T>
void BackwardPass<T>::confirm_experts(const char* what, const ExpertGradients<T>& to,
                                      const BackwardExperts<T>& experts) const {
    const PanelLayout<T>& layout = experts.layout();
    const std::size_t n = experts.n_experts();
    ensure(layout.gated || (to.gate.empty() && to.gate_bias.empty()), ErrorCode::missing, name,
           ": gradients of gate projections were given for ", what, " experts, whose form is plain");
    confirm_stack("the gate projections", to.gate, n, layout.d_ff, layout.d_model);
    confirm_stack("the up projections", to.up, n, layout.d_ff, layout.d_model);
    confirm_stack("the down projections", to.down, n, layout.d_model, layout.d_ff);
    confirm_stack("the biases of the gate projections", to.gate_bias, n, layout.d_ff, 1);
    confirm_stack("the biases of the up projections", to.up_bias, n, layout.d_ff, 1);
    confirm_stack("the biases of the down projections", to.down_bias, n, layout.d_model, 1);
    detail::LoraGradientTasks<T>::confirm(what, to.lora, experts,
                                          [&](const auto&... stack) { confirm_stack(stack...); });
}

template <class T>
void BackwardPass<T>::confirm_gradients() const {
    const LayerGradients<T>& to = state_.gradients;
    const PassLayer<T>& layer = state_.layer.pass;
    const std::size_t d = state_.dy.cols();
    confirm_experts("routed", to.experts, state_.layer.experts);
    ensure(to.shared.empty() || to.shared.size() == state_.n_shared(), ErrorCode::shape, name, ": gradients of ",
           to.shared.size(), " shared experts were given, the layer has ", state_.n_shared());
    for (std::size_t s = 0; s < to.shared.size(); ++s) {
        confirm_experts("shared", to.shared[s], state_.layer.shared(s));
    }
    const std::size_t n_logits = tape_.logits().cols();
    if (state_.n_tokens() > 0) {  // else nothing was computed
        ensure((to.router.empty() && to.router_bias.empty()) || n_logits > 0, ErrorCode::missing, name,
               ": gradients of the router were asked for, but the forward pass computed no logits");
        confirm_stack("the router", to.router, 1, n_logits, tape_.router_input().cols());
        ensure(to.router_bias.empty() || to.router_bias.size() == n_logits, ErrorCode::shape, name, ": ",
               to.router_bias.size(), " gradients of router biases for ", n_logits, " logits");
    }
    ensure(to.router_input.rows() == 0 || (to.router_input.rows() == tape_.router_input().rows() &&
                                           to.router_input.cols() == tape_.router_input().cols()),
           ErrorCode::shape, name, ": the gradient of the router input is ", to.router_input.rows(), " x ",
           to.router_input.cols(), ", the input was ", tape_.router_input().rows(), " x ", tape_.router_input().cols());
    ensure(to.shared_gate.empty() || layer.shared.gated(), ErrorCode::missing, name,
           ": gradients of a gate of shared experts were asked for, but there is none");
    confirm_stack("the gate of the shared experts", to.shared_gate, 1, state_.n_shared(), d);
    ensure(to.output_bias.empty() || to.output_bias.size() == d, ErrorCode::shape, name, ": ", to.output_bias.size(),
           " gradients of output biases for d_model ", d);
    const NullExperts<T>& null = layer.options->null_experts;
    const auto confirm_rows = [&](const char* what, const MatrixView<T>& matrix, std::size_t rows) {
        ensure(matrix.rows() == 0 || (matrix.rows() == rows && matrix.cols() == d), ErrorCode::shape, name,
               ": the gradients of ", what, " are ", matrix.rows(), " x ", matrix.cols(), ", they must be ", rows,
               " x ", d);
    };
    confirm_rows("the constants", to.constants, null.constants.rows());
    confirm_rows("the mixes", to.mixes, null.mixes.rows());
}

template <class T>
void BackwardPass<T>::lay_out(Arena& arena, BackwardMemory<T>& memory, std::size_t n_workers) const {
    const std::size_t n = n_entries();
    const std::size_t n_tokens = state_.n_tokens();
    const std::size_t n_logits = tape_.logits().cols();
    const std::size_t n_shared = state_.n_shared();
    std::size_t values =
        checked_multiply(state_.plan.expert_offsets[state_.n_real()], state_.layer.experts.row_values());
    memory.strips = divide_up(state_.layer.experts.layout().d_ff, width);
    for (std::size_t s = 0; s < n_shared; ++s) {
        const BackwardExperts<T> shared = state_.layer.shared(s);
        values = checked_add(values, checked_multiply(n_tokens, shared.row_values()));
        memory.strips = (std::max)(memory.strips, divide_up(shared.layout().d_ff, width));
    }
    memory.groups = arena.take<BackwardGroup>(state_.n_real() + n_shared);
    memory.tokens = arena.take<Index>(n);
    memory.input = arena.take<T>(n);
    memory.scale = arena.take<T>(n);
    memory.x = arena.take<const T*>(n);
    memory.dy = arena.take<const T*>(n);
    memory.hidden = arena.take<T*>(n);
    memory.d_gate = arena.take<T*>(n);
    memory.d_up = arena.take<T*>(n);
    memory.dots = arena.take<T>(checked_multiply(n, memory.strips));
    memory.rows = arena.take<T>(values);
    memory.entry_of = arena.take<Index>(state_.plan.n_assignments());
    memory.d_logits = arena.take<T>(checked_multiply(n_tokens, n_logits));
    memory.d_shared = arena.take<T>(checked_multiply(n_tokens, n_shared));
    memory.gamma = arena.take<T>(checked_multiply(n_tokens, n_shared));
    memory.dropped = arena.take<ExpertId>(checked_multiply(n_tokens, tape_.choices().cols()));
    memory.router_rows = arena.take<const T*>(n_tokens);
    memory.d_logit_rows = arena.take<const T*>(n_tokens);
    memory.x_rows = arena.take<const T*>(n_tokens);
    memory.d_shared_rows = arena.take<const T*>(n_tokens);
    Arena measure;
    (void)BackwardScratch<T>::take(measure, state_.selection_part);
    memory.worker_bytes = measure.used();
    memory.workers = arena.take<std::byte>(checked_multiply(n_workers, memory.worker_bytes));
}

/// Entries in the order of the plan, then all tokens of each shared expert but padding that no gradient comes from.
template <class T>
void BackwardPass<T>::fill_groups() {
    BackwardMemory<T>& memory = state_.memory;
    const PlanView<T>& plan = state_.plan;
    const PassLayer<T>& layer = state_.layer.pass;
    std::size_t offset = 0;
    const auto open = [&](std::size_t expert, std::size_t first, std::size_t count, std::size_t shared) {
        if (count > 0) {
            const BackwardGroup group{expert, first, count, shared, offset};
            offset += count * state_.experts_of(group).row_values();
            memory.groups[state_.n_groups++] = group;
            fill_group(group);
        }
    };
    for (std::size_t e = 0; e < state_.n_real(); ++e) {
        for (std::size_t i = plan.expert_offsets[e]; i < plan.expert_offsets[e + 1]; ++i) {
            const std::size_t a = plan.assignments[i];
            memory.tokens[i] = plan.tokens[i];
            memory.input[i] = plan.weights[a];
            memory.scale[i] = state_.weighs_input() ? layer.routed_weight() : layer.routed_weight() * plan.weights[a];
            memory.entry_of[a] = static_cast<Index>(i);
        }
        open(e, plan.expert_offsets[e], plan.expert_offsets[e + 1] - plan.expert_offsets[e], BackwardGroup::none);
    }
    std::size_t entry = plan.expert_offsets[state_.n_real()];
    for (std::size_t s = 0; s < state_.n_shared(); ++s) {
        const std::size_t first = entry;
        for (std::size_t t = 0; t < state_.n_tokens(); ++t) {
            if (state_.reaches_shared(t)) {
                memory.tokens[entry] = static_cast<Index>(t);
                memory.input[entry] = 1;
                memory.scale[entry++] = layer.shared.gated()
                                            ? layer.shared_weight() * memory.gamma[t * state_.n_shared() + s]
                                            : layer.shared_weight();
            }
        }
        open(0, first, entry - first, s);
    }
}

template <class T>
void BackwardPass<T>::fill_group(const BackwardGroup& group) {
    BackwardMemory<T>& memory = state_.memory;
    const BackwardExperts<T> experts = state_.experts_of(group);
    const std::size_t padded = experts.padded_d_ff();
    T* row = memory.rows.data() + group.offset;
    for (std::size_t i = group.first; i < group.first + group.count; ++i) {
        memory.x[i] = tape_.x().row(memory.tokens[i]);
        memory.dy[i] = state_.dy.row(memory.tokens[i]);
        memory.hidden[i] = row;
        memory.d_up[i] = row + padded;
        memory.d_gate[i] = experts.layout().gated ? row + 2 * padded : nullptr;
        row += experts.row_values();
    }
}

/// The sigmoids that weigh the shared experts, as the forward pass had them.
template <class T>
void BackwardPass<T>::fill_gamma(const BackwardScratch<T>& scratch) {
    const SharedRef<T>& shared = state_.layer.pass.shared;
    if (!shared.gated()) {
        return;
    }
    for (std::size_t first = 0; first < state_.n_tokens(); first += max_task_rows) {
        const std::size_t count = (std::min)(max_task_rows, state_.n_tokens() - first);
        for (std::size_t r = 0; r < count; ++r) {
            scratch.panel.rows[r] = reinterpret_cast<const std::byte*>(tape_.x().row(first + r));
        }
        for (std::size_t panel = 0; panel < shared.gate().panels(); ++panel) {
            shared.gate().compute_panels({panel, 1}, scratch.panel.rows.first(count),
                                         state_.memory.gamma.data() + first * state_.n_shared(), state_.n_shared(),
                                         scratch.panel);
        }
    }
    for (T& gamma : state_.memory.gamma) {
        gamma = math::sigmoid(gamma);
    }
}

template <class T>
void BackwardPass<T>::run(Workspace& workspace, const ExecutorRef& threads) {
    detail::check_workspace(tape_.x(), state_.dy, state_.dx, workspace);
    const WorkspaceLease lease = workspace.lease(workspace_bytes(threads.concurrency()));
    Arena arena = lease.arena();
    lay_out(arena, state_.memory, threads.concurrency());
    const FloatEnvironment environment;
    BackwardMemory<T>& memory = state_.memory;
    fill_gamma(state_.scratch(0));
    fill_groups();
    const std::size_t n_logits = tape_.logits().cols();
    for (std::size_t t = 0; t < state_.n_tokens(); ++t) {
        if (tape_.is_valid(t)) {
            memory.router_rows[state_.n_router_rows] = tape_.router_input().row(t);
            memory.d_logit_rows[state_.n_router_rows++] = memory.d_logits.data() + t * n_logits;
        }
        if (state_.reaches_shared(t)) {
            memory.x_rows[state_.n_shared_rows] = tape_.x().row(t);
            memory.d_shared_rows[state_.n_shared_rows++] = memory.d_shared.data() + t * state_.n_shared();
        }
    }
    using Lora = detail::LoraPhase<T>;
    run_phase(Lora(state_, Lora::Part::before_strips), threads);
    run_phase(detail::StripPhase<T>(state_, threads.concurrency()), threads);
    run_phase(Lora(state_, Lora::Part::behind_strips), threads);
    run_phase(detail::TokenPhase<T>(state_, tape_.d_weights_), threads);
    run_phase(detail::InputPhase<T>(state_, threads.concurrency()), threads);
    run_phase(detail::ParameterPhase<T>(state_), threads);
    tape_.recorded_ = Emptied<bool>();
    tape_.used_up_ = Emptied<bool>(true);
}

}  // namespace moe::inline MOE_ABI
