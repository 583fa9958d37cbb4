#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <type_traits>

#include "../core/alignment.hpp"
#include "../core/float_environment.hpp"
#include "../core/overlap.hpp"
#include "../core/workspace.hpp"
#include "../gating/backward.hpp"
#include "../gating/gate_parameters.hpp"
#include "parts/check_call.hpp"
#include "parts/tape.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

inline constexpr const char* gate_gradients_name = "add_gate_gradients";

template <class Layer>
[[nodiscard]] TapeOwner owner_of(const Layer& layer) {
    if constexpr (requires { layer.options(); }) {
        return tape_owner(&layer.options(), layer.router());
    } else {
        return tape_owner(&layer, layer.router());
    }
}

/// The tape is of this layer, and its gradients of weights are whole. Throws Error(state).
template <class T>
void confirm_used_tape(const Tape<T>& tape, const TapeOwner& owner) {
    constexpr const char* name = gate_gradients_name;
    const bool nothing_to_do = tape.recorded() && tape.x().rows() == 0;  // backward passes leave empty groups out
    ensure(tape.used_up() || nothing_to_do, ErrorCode::state, name,
           ": the tape holds no gradients of weights; call backward with it first");
    detail::ensure_same_layer(name, tape.owner().layer == owner.layer);
    ensure(tape.owner() == owner, ErrorCode::state, name,
           ": the tape was recorded under another gate; give a layer from with_gate a name, and use it throughout");
}

/// What is wanted is what the gate holds, in its shapes. Throws Error(missing, shape, alignment).
template <class T>
void confirm_gate_gradients(const GateParameters& held, const GateGradients<T>& to) {
    constexpr const char* name = gate_gradients_name;
    const auto confirm_held = [](const char* what, bool wanted, bool is_held) {
        ensure(!wanted || is_held, ErrorCode::missing, name, ": gradients of ", what,
               " were asked for, but the gate holds none that gradients pass to");
    };
    confirm_held("per_expert_scale", !to.per_expert_scale.empty(), !held.per_expert_scale.empty());
    confirm_held("centroids", !to.centroids.empty(), !held.centroids.empty());
    confirm_held("a temperature", to.temperature != nullptr, held.temperature != nullptr);
    ensure(to.per_expert_scale.empty() || to.per_expert_scale.size() == held.per_expert_scale.size(), ErrorCode::shape,
           name, ": ", to.per_expert_scale.size(), " gradients of per_expert_scale for ", held.per_expert_scale.size(),
           " values");
    ensure(to.centroids.empty() ||
               (to.centroids.rows() == held.centroids.rows() && to.centroids.cols() == held.centroids.cols()),
           ErrorCode::shape, name, ": the gradients of centroids are ", to.centroids.rows(), " x ", to.centroids.cols(),
           ", the centroids ", held.centroids.rows(), " x ", held.centroids.cols());
    require_aligned(to.per_expert_scale.data(), name, "the gradients of per_expert_scale");
    require_aligned(to.centroids.data(), name, "the gradients of centroids");
    require_aligned(to.temperature, name, "the gradient of the temperature");
}

/// Gradients lie apart from each other and from what is read. Throws Error(layout).
template <class G, class T>
void confirm_gate_overlap(const G& gate, const Tape<T>& tape, const GateGradients<T>& to, const Workspace& workspace) {
    constexpr const char* name = gate_gradients_name;
    const ByteView temperature = bytes_of(std::span<T>(to.temperature, to.temperature == nullptr ? 0U : 1U));
    const NamedBytes written[] = {{"the gradients of per_expert_scale", bytes_of(to.per_expert_scale)},
                                  {"the gradients of centroids", bytes_of(to.centroids)},
                                  {"the gradient of the temperature", temperature}};
    for (const NamedBytes& part : written) {
        refuse_overlap(name, part.name, moe::gate_overlapped(gate, part.bytes));
        refuse_overlap(name, part.name,
                       overlapped(part.bytes, {{"the logits of the tape", bytes_of(tape.logits())},
                                               {"the gradients of weights of the tape", bytes_of(tape.d_weights())},
                                               {"the workspace", bytes_of(workspace.memory())}}));
    }
    require_disjoint(name, written[0].name, written[0].bytes, written[1].name, written[1].bytes);
    require_disjoint(name, written[0].name, written[0].bytes, written[2].name, written[2].bytes);
    require_disjoint(name, written[1].name, written[1].bytes, written[2].name, written[2].bytes);
}

/// Memory of a call, for what gate_backward needs and for the gradients of logits, which backward() has taken on
/// already.
template <class T>
struct GateGradientsMemory {
    std::span<T> d_logits;
    std::span<T> scratch;
    std::span<ExpertId> lost;

    [[nodiscard]] static GateGradientsMemory take(Arena& arena, const Tape<T>& tape) {
        const std::size_t n_logits = tape.logits().cols();
        const std::size_t part = (std::max)(tape.plan().n_experts, n_logits);
        return {arena.take<T>(n_logits), arena.take<T>(backward_scratch_size(part)),
                arena.take<ExpertId>(tape.choices().cols())};
    }
};

/// Of one token.
template <class T, class G>
void add_gate_gradients_of(const G& gate, const Tape<T>& tape, std::size_t t, const GateGradients<T>& to,
                           const GateGradientsMemory<T>& memory) {
    Chosen<T> chosen = tape.chosen(t, memory.lost, memory.scratch);
    if (chosen.experts.empty()) {
        return;  // padding, or a token that lost all its places
    }
    chosen.gradients = GateGradientsRef(to);
    std::fill(memory.d_logits.begin(), memory.d_logits.end(), T(0));
    moe::gate_backward<T>(gate, tape.logits().row_span(t), chosen,
                          tape.d_weights().subspan(tape.plan().token_offsets[t], chosen.experts.size()),
                          memory.d_logits);
}

}  // namespace detail

/// Adds the gradients of what the gate of a layer holds itself, through all adaptors around it and an AnyGate, from
/// those of the weights that backward() left in the tape:
///
///     moe::backward(layer, tape, dy, dx, gradients, workspace);
///     moe::add_gate_gradients(layer, tape, {.per_expert_scale = d_scale}, workspace);
///
/// per_expert_scale of TokenChoice and TopKPerGroup; centroids and temperature of Cosine (X-MoE, Chi et al. 2022,
/// 2204.09179). To be called before these are changed. Of the router of a HierarchicalLayer with the layer and
/// tape.outer(), of the layer inside a LatentLayer with that and tape.inner(). A gate of yours adds its own to
/// Chosen::gradients and says so with `parameters`; Detached and Numeric pass none on.
///
/// Tokens in ascending order, one chain of sums an element: the same bits for any cut of a batch into calls. Padding
/// adds nothing; a NaN in a token reaches what that token has part in. Throws Error before anything is written: a tape
/// with which backward was not called, of another layer or gate (state); parameters that the gate does not hold, a plan
/// that was given, or no logits (missing); shapes, alignment, overlapping memory. O(n_tokens) times a backward pass of
/// the gate, and n_experts * width for a Cosine, by one thread. Allocates nothing once `workspace` has grown.
template <class Layer, class T>
void add_gate_gradients(const Layer& layer, const Tape<T>& tape, const std::type_identity_t<GateGradients<T>>& to,
                        Workspace& workspace) {
    constexpr bool has_gate = requires { layer.router().gate(); };
    static_assert(has_gate, "add_gate_gradients: the layer must have a router whose gate is known");
    if constexpr (has_gate) {
        const auto& gate = layer.router().gate();
        detail::confirm_used_tape(tape, detail::owner_of(layer));
        detail::confirm_gate_gradients(moe::gate_parameters(gate), to);
        detail::confirm_gate_overlap(gate, tape, to, workspace);
        const GateGradientsRef wanted(to);
        const std::size_t n_tokens = tape.x().rows();
        if (n_tokens == 0 || !(wanted.wants_per_expert_scale() || wanted.wants_cosine())) {
            return;
        }
        ensure(tape.choices().rows() > 0 && tape.logits().rows() > 0, ErrorCode::missing, detail::gate_gradients_name,
               ": the tape has no logits: the plan was given, or the gate reads none");
        Arena measure;
        (void)detail::GateGradientsMemory<T>::take(measure, tape);
        const WorkspaceLease lease = workspace.lease(measure.used());
        Arena arena = lease.arena();
        const auto memory = detail::GateGradientsMemory<T>::take(arena, tape);
        const FloatEnvironment environment;
        for (std::size_t t = 0; t < n_tokens; ++t) {
            detail::add_gate_gradients_of(gate, tape, t, to, memory);
        }
    }
}

}  // namespace moe::inline MOE_ABI
