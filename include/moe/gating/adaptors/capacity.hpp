#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "../../core/error.hpp"
#include "../../core/index.hpp"
#include "../../core/matrix_view.hpp"
#include "../backward.hpp"
#include "../backward_rules.hpp"
#include "../diagnose.hpp"
#include "../gate.hpp"
#include "../normalize.hpp"
#include "../selection.hpp"
#include "../weigh.hpp"
#include "adaptor.hpp"
#include "capacity_limit.hpp"
#include "capacity_queue.hpp"

namespace moe::inline MOE_ABI {

/// Which choices of a token its weights are normalised over, where Capacity does that.
enum class RenormalizeOver : unsigned char {
    kept,    ///< those that found a place: NLLB-MoE's normalize_router_prob_before_dropping = false
    chosen,  ///< all that the gate made; dropped ones take their share with them
};

/// Limits the tokens an expert takes of what any gate chooses (a token gate, a batch gate, AnyGate): capacity, of
/// GShard (Lepikhin et al. 2020, 2006.16668, section 2.2) and Switch Transformers (Fedus et al. 2021, 2101.03961,
/// section 2.2). The choices of a group queue in `order`; one that finds no place left at its expert becomes
/// `dropped(e)` in its row and keeps its weight. What becomes of a token that lost all its places is the layer's
/// `LayerOptions::pass_unrouted`: 0, or the token itself.
///
/// Not causal, whatever the gate inside: whether a token keeps an expert depends on the other tokens of its group, of
/// which `order` may let later ones go first, and whose number sets the capacity. A group is `group` consecutive tokens
/// of the call (sequences of equal length, say; the last may be shorter), or the whole batch. Padding takes no place.
/// With limits as great as the group, the choice is that of the gate alone. Published compositions:
/// capacity_presets.hpp.
template <class Inner>
struct Capacity {
    Inner gate{};
    CapacityLimit limit{};  ///< its E are the experts with a limit, its T the tokens of the group
    std::size_t group = 0;  ///< tokens that share the places of an expert; 0: the whole batch
    CapacityOrder order = CapacityOrder::slot_major;
    std::uint64_t seed = 0;      ///< of CapacityOrder::random, whose numbers belong to (seed, position, choice)
    int unlimited_from = -1;     ///< experts from this on, null experts say, take all that come; -1: none do
    bool count_padding = false;  ///< whether T counts padding, as implementations with buffers of fixed size do
    Normalize renormalize{};     ///< of the weights after the drops; they queue with those of the gate
    RenormalizeOver renormalize_over = RenormalizeOver::kept;

    static_assert(check_gate<Inner, double>());
    static constexpr bool needs_logits = detail::reads_logits<Inner>;

    [[nodiscard]] std::size_t n_experts(int n_logits) const {
        return moe::gate_n_experts(gate, static_cast<std::size_t>(n_logits));
    }
    [[nodiscard]] std::size_t max_per_token(int n_tokens, int n_experts) const {
        return moe::gate_max_per_token(gate, static_cast<std::size_t>(n_tokens), static_cast<std::size_t>(n_experts));
    }
    [[nodiscard]] std::size_t max_assignments(int n_tokens, int n_experts) const;

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const { return moe::gate_overlapped(gate, memory); }

    /// Throws Error: whatever the gate or the limit refuses, an order that is none, an unlimited_from beyond the
    /// experts.
    void validate(std::size_t n_experts) const;

    /// `logits` (n_tokens, n_logits), or empty where the gate needs none. O(c) besides the gate for c choices and
    /// experts, O(c log c) where the order sorts. Throws Error as the gate does, and overflow beyond 2^31 choices.
    template <std::floating_point T>
        requires Gate<Inner, T>
    void select(MatrixView<const T> logits, BatchSelection<T> out) const;

    /// See gate_parameters.
    [[nodiscard]] GateParameters parameters() const { return moe::gate_parameters(gate); }

    /// See DifferentiableGate, gate_has_backward. Who found a place is constant. Throws Error(missing) where it
    /// renormalises the weights of a batch gate that has no `weigh` as that of ExpertChoice.
    [[nodiscard]] bool has_backward() const { return moe::gate_has_backward(gate); }
    template <std::floating_point T>
        requires detail::PassesGradient<Inner, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const;

private:
    [[nodiscard]] std::size_t n_limited(std::size_t n_experts) const {
        return unlimited_from < 0 ? n_experts : (std::min)(n_experts, static_cast<std::size_t>(unlimited_from));
    }
    template <class T>
    void choose(MatrixView<const T> logits, const BatchSelection<T>& out) const;
    template <class T>
    void normalize_rows(const BatchSelection<T>& out) const;
    template <class T>
    [[nodiscard]] detail::ChosenInside<T> choose_again(std::span<const T> logits, Chosen<T>& chosen) const;
};

template <class Inner>
std::size_t Capacity<Inner>::max_assignments(int n_tokens, int n_experts) const {
    const auto tokens = static_cast<std::size_t>(n_tokens);
    const auto experts = static_cast<std::size_t>(n_experts);
    const std::size_t chosen = moe::gate_max_assignments(gate, tokens, experts);
    if (n_limited(experts) < experts || tokens == 0) {
        return chosen;
    }
    const std::size_t size = group == 0 ? tokens : (std::min)(group, tokens);
    const std::size_t places = limit.places(size, moe::gate_max_per_token(gate, tokens, experts), experts);
    const std::size_t queues = divide_up(tokens, size) * experts;
    return places >= divide_up(chosen, queues) ? chosen : queues * places;
}

template <class Inner>
void Capacity<Inner>::validate(std::size_t n_experts) const {
    moe::validate_gate(gate, n_experts);
    limit.validate();
    renormalize.validate();
    ensure(order <= CapacityOrder::random, ErrorCode::range, "Capacity: order has no value ", static_cast<int>(order));
    ensure(renormalize_over <= RenormalizeOver::chosen, ErrorCode::range, "Capacity: renormalize_over has no value ",
           static_cast<int>(renormalize_over));
    ensure(unlimited_from >= -1 && std::cmp_less_equal(unlimited_from, n_experts), ErrorCode::range,
           "Capacity: unlimited_from is ", unlimited_from, ", it must be -1 (all experts are limited) or 0..",
           n_experts);
}

template <class Inner>
template <std::floating_point T>
    requires Gate<Inner, T>
void Capacity<Inner>::select(MatrixView<const T> logits, BatchSelection<T> out) const {
    const std::size_t n_tokens = out.experts.rows();
    const std::size_t choices = checked_multiply(n_tokens, out.experts.cols());
    ensure(std::in_range<ExpertId>(choices), ErrorCode::overflow, "Capacity: ", choices, " choices of ", n_tokens,
           " tokens exceed ", (std::numeric_limits<ExpertId>::max)());
    choose(logits, out);
    const std::size_t limited = n_limited(out.n_experts);
    const std::size_t size = group == 0 ? n_tokens : (std::min)(group, n_tokens);
    for (std::size_t first = 0; first < n_tokens; first += size) {
        const std::size_t count = (std::min)(size, n_tokens - first);
        detail::CapacityQueue<T> queue(out, first, count);
        const std::size_t counted = count_padding ? count : queue.n_valid();
        queue.fill(limit.places(counted, out.experts.cols(), limited), limited, order, seed);
    }
    normalize_rows(out);
}

template <class Inner>
template <class T>
void Capacity<Inner>::choose(MatrixView<const T> logits, const BatchSelection<T>& out) const {
    if (moe::is_batch_gate(gate)) {
        if constexpr (!TokenGate<Inner, T>) {
            moe::select_batch<T>(gate, logits, out);
        }
        return;
    }
    if constexpr (!BatchGate<Inner, T>) {
        const std::size_t widest = (std::max)(out.n_experts, logits.cols());
        for (std::size_t t = 0; t < out.experts.rows(); ++t) {
            const std::span<ExpertId> experts = out.experts.row_span(t);
            std::size_t count = 0;
            if (out.is_valid(t)) {
                const std::span<const T> row = logits.empty() ? std::span<const T>() : logits.row_span(t);
                count =
                    moe::select_token<T>(gate, row, out.context(t),
                                         {experts, out.weights.row_span(t), out.scratch.first(selection_parts * widest),
                                          out.order.first(out.n_experts)});
            }
            std::fill(experts.begin() + static_cast<std::ptrdiff_t>(count), experts.end(), no_expert);
        }
    }
}

template <class Inner>
template <class T>
void Capacity<Inner>::normalize_rows(const BatchSelection<T>& out) const {
    if (renormalize.kind == Normalize::Kind::none) {
        return;
    }
    for (std::size_t t = 0; t < out.experts.rows(); ++t) {
        const auto counts = [&](std::size_t slot) {
            const ExpertId expert = out.experts(t, slot);
            return expert >= 0 || (expert != no_expert && renormalize_over == RenormalizeOver::chosen);
        };
        std::size_t count = 0;
        for (std::size_t slot = 0; slot < out.experts.cols(); ++slot) {
            if (counts(slot)) {
                out.scratch[count++] = out.weights(t, slot);
            }
        }
        renormalize(out.scratch.first(count));
        count = 0;
        for (std::size_t slot = 0; slot < out.experts.cols(); ++slot) {
            if (counts(slot)) {
                out.weights(t, slot) = out.scratch[count++];
            }
        }
    }
}

template <class Inner>
template <std::floating_point T>
    requires detail::PassesGradient<Inner, T>
void Capacity<Inner>::backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                               std::span<T> d_logits) const {
    const bool renormalizes = renormalize.kind != Normalize::Kind::none;
    if (logits.empty()) {
        return;
    }
    if (!renormalizes && (chosen.dropped.empty() || moe::is_batch_gate(gate))) {
        return moe::gate_backward<T>(gate, logits, chosen, d_weights, d_logits);
    }
    Chosen<T> inside = chosen;
    const detail::ChosenInside<T> all = choose_again<T>(logits, inside);
    inside.experts = all.experts;
    inside.weights = all.weights;
    inside.dropped = {};
    const std::span<T> d_all = all.d_weights;
    if (renormalizes && renormalize_over == RenormalizeOver::kept) {
        const std::size_t k = chosen.experts.size();
        const std::span<T> values = inside.scratch.first(k);
        const std::span<T> d = inside.scratch.subspan(k, k);
        std::copy(d_weights.begin(), d_weights.end(), d.begin());
        detail::for_each_place(chosen.experts, all.experts,
                               [&](std::size_t i, std::size_t slot) { values[i] = all.weights[slot]; });
        moe::normalize_backward<T>(renormalize, 1, values, d);
        detail::for_each_place(chosen.experts, all.experts,
                               [&](std::size_t i, std::size_t slot) { d_all[slot] = d[i]; });
    } else {
        detail::for_each_place(chosen.experts, all.experts,
                               [&](std::size_t i, std::size_t slot) { d_all[slot] = d_weights[i]; });
        moe::normalize_backward<T>(renormalize, 1, all.weights, d_all);
    }
    moe::gate_backward<T>(gate, logits, inside, d_all, d_logits);
}

/// What the gate inside chose for a token, and its weights there: the token loses none of it by choosing once more, a
/// batch gate weighs those that the rows say.
template <class Inner>
template <class T>
detail::ChosenInside<T> Capacity<Inner>::choose_again(std::span<const T> logits, Chosen<T>& chosen) const {
    if constexpr (detail::Weighs<Inner, T> && !TokenGate<Inner, T>) {
        const std::size_t n_experts = moe::gate_n_experts(gate, logits.size());
        const std::size_t part = (std::max)(n_experts, logits.size());
        const std::size_t kept = chosen.experts.size();
        const std::size_t count = kept + chosen.dropped.size();
        const std::span<ExpertId> experts = detail::ids_in(detail::take_part(chosen, part)).first(count);
        const std::span<T> weights = detail::take_part(chosen, part).first(count);
        const std::span<T> d_weights = detail::take_part(chosen, part).first(count);
        Chosen<T> rest = chosen;
        const std::span<ExpertId> ids = detail::ids_in(detail::take_part(rest, part)).first(n_experts);
        std::copy(chosen.experts.begin(), chosen.experts.end(), experts.begin());
        std::copy(chosen.dropped.begin(), chosen.dropped.end(), experts.subspan(kept).begin());
        detail::weigh_as<T>(gate, logits, experts, BasicSelection<T>{experts, weights, rest.scratch, ids});
        std::fill(d_weights.begin(), d_weights.end(), T(0));
        return {experts, weights, d_weights};
    } else {
        ensure(!moe::is_batch_gate(gate), ErrorCode::missing,
               "Capacity: in a backward pass it must know the weights that it normalised, and the batch gate inside "
               "does not tell them: write `void weigh(std::span<const float> logits, std::span<const moe::ExpertId> "
               "experts, moe::Selection out) const`");
        if constexpr (BatchGate<Inner, T>) {
            return {};
        } else {
            return detail::choose_inside<T>(gate, logits, chosen);
        }
    }
}

}  // namespace moe::inline MOE_ABI
