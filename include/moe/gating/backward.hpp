#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>

#include "../core/error.hpp"
#include "../core/index.hpp"
#include "gate.hpp"
#include "gate_parameters.hpp"
#include "narrow.hpp"
#include "selection.hpp"

namespace moe::inline MOE_ABI {

/// Values of Chosen::scratch, for the larger of the number of experts and of logits: 6 parts for a gate or 18 for a
/// Numeric one, and up to 4 for each adaptor around it.
inline constexpr std::size_t backward_parts = 36;

/// Values of Chosen::scratch, `n` the larger of the number of experts and of logits. Throws Error(overflow).
[[nodiscard]] constexpr std::size_t backward_scratch_size(std::size_t n) { return checked_multiply(backward_parts, n); }

/// What a gate chose for a token, as its backward pass is told.
template <class T>
struct Chosen {
    std::span<const ExpertId> experts;  ///< those the token went to, in slot order
    std::span<const T> weights;         ///< of each, as the gate gave it
    std::span<const ExpertId> dropped;  ///< those that lost it, in slot order among themselves
    TokenContext context;
    std::span<T> scratch;          ///< (backward_scratch_size of the larger of n_experts and n_logits) uninitialised
    GateGradientsRef gradients{};  ///< where those of the gate's own parameters are added, see gate_parameters
};

/// A gate that passes gradients on: from those of its weights to those of its logits, with the choice held fixed.
///
///     void backward(std::span<const float> logits, moe::Chosen<float> chosen, std::span<const float> d_weights,
///                   std::span<float> d_logits) const;
///
/// adds J^T d_weights to `d_logits` (n_logits), where J is the derivative of the weights of `chosen.experts`, in that
/// order, by the logits. Of a gate that chooses for a whole batch it is asked token by token, too. A WeighingGate is
/// asked for experts that somebody else chose as well, and differentiates what its `weigh` says of them. Of an adaptor
/// the gate inside is asked for all that it chose, those with the gradient 0 among them that the adaptor took away. To
/// a logit of -infinity, which says that its expert is not to be chosen, nothing is added. Gradients of what the gate
/// holds itself go to chosen.gradients, which an adaptor hands on (gate_parameters). backward_rules.hpp has the pieces
/// that most gates are made of.
template <class G, class T = float>
concept DifferentiableGate = requires(const G& gate, std::span<const T> logits, Chosen<T> chosen,
                                      std::span<const T> d_weights, std::span<T> d_logits) {
    { gate.backward(logits, chosen, d_weights, d_logits) } -> std::same_as<void>;
};

namespace detail {

/// Whether gate_backward takes a gate of type G in a layer of T; what an AnyGate holds is not known to its type.
template <class G, class T>
concept PassesGradient = erases_gates<G> || DifferentiableGate<G, T> || DifferentiableGate<G, float>;

template <class G>
concept SaysWhetherBackward = requires(const G& gate) {
    { gate.has_backward() } -> std::same_as<bool>;
};

/// How the backward pass of a gate written for float serves a layer in double, as NarrowToken does its choice: with no
/// memory but the scratch.
class NarrowChosen {
public:
    NarrowChosen(std::span<const double> logits, const Chosen<double>& chosen, std::span<const double> d_weights) {
        const std::size_t n = logits.size();
        const std::size_t k = d_weights.size();
        const std::size_t own = 2 * (n + k);
        const std::size_t all = 2 * chosen.scratch.size();
        ensure(all >= own, ErrorCode::capacity, "gate: ", chosen.scratch.size(),
               " values of scratch are left in a backward pass, ", n + k, " are needed");
        float* const memory = floats_in(chosen.scratch.data(), all);
        round_to_floats(logits, memory);
        std::fill_n(memory + n, n, 0.0F);
        round_to_floats(d_weights, memory + 2 * n);
        round_to_floats(chosen.weights, memory + 2 * n + k);
        logits_ = {memory, n};
        d_logits_ = {memory + n, n};
        d_weights_ = {memory + 2 * n, k};
        chosen_ = {chosen.experts,
                   {memory + 2 * n + k, chosen.weights.size()},
                   chosen.dropped,
                   chosen.context,
                   {memory + own, all - own},
                   chosen.gradients};
    }
    [[nodiscard]] std::span<const float> logits() const { return logits_; }
    [[nodiscard]] const Chosen<float>& chosen() const { return chosen_; }
    [[nodiscard]] std::span<const float> d_weights() const { return d_weights_; }
    [[nodiscard]] std::span<float> d_logits() const { return d_logits_; }

private:
    std::span<const float> logits_;
    std::span<float> d_logits_;
    std::span<const float> d_weights_;
    Chosen<float> chosen_;
};

}  // namespace detail

/// Whether gate_backward can be called: false for a gate that has no `backward`, or holds or surrounds one without.
template <class G>
[[nodiscard]] constexpr bool gate_has_backward([[maybe_unused]] const G& gate) {
    if constexpr (detail::SaysWhetherBackward<G>) {
        return gate.has_backward();
    } else {
        return DifferentiableGate<G, float> || DifferentiableGate<G, double>;
    }
}

/// Adds to `d_logits` (n_logits) the gradients of the logits of a token, from those of the weights of its
/// `chosen.experts`: see DifferentiableGate. A gate written for float serves double as it does in select_token. Empty
/// `logits`, of a gate that reads none, get no gradient. Throws Error: sizes that do not fit (shape), too little
/// scratch (capacity), an AnyGate that holds a gate without a backward pass (missing), whatever the gate refuses.
template <class T, class G>
void gate_backward(const G& gate, std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                   std::span<T> d_logits) {
    ensure(d_weights.size() == chosen.experts.size() && chosen.weights.size() == chosen.experts.size() &&
               d_logits.size() == logits.size(),
           ErrorCode::shape, "gate_backward: ", chosen.experts.size(), " experts have ", chosen.weights.size(),
           " weights and ", d_weights.size(), " gradients; ", logits.size(), " logits have ", d_logits.size());
    if constexpr (DifferentiableGate<G, T>) {
        gate.backward(logits, chosen, d_weights, d_logits);
    } else if constexpr (DifferentiableGate<G, float>) {
        const detail::NarrowChosen narrow(logits, chosen, d_weights);
        gate.backward(narrow.logits(), narrow.chosen(), narrow.d_weights(), narrow.d_logits());
        for (std::size_t i = 0; i < d_logits.size(); ++i) {
            d_logits[i] += static_cast<T>(narrow.d_logits()[i]);
        }
    } else {
        static_assert(DifferentiableGate<G, T>,
                      "this gate has no backward: write `void backward(...) const`, or wrap it in moe::Numeric or "
                      "moe::Detached");
    }
}

}  // namespace moe::inline MOE_ABI
