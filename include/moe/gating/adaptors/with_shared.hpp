#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>
#include <utility>

#include "../backward.hpp"
#include "../weigh.hpp"
#include "adaptor.hpp"

namespace moe::inline MOE_ABI {

/// Shared experts that the router weighs: the last `n_shared` of the experts go to every token, and the rule of the
/// gate inside, which chooses among the others, weighs all of them together. Inkling: with
///
///     WithShared{TokenChoice<Sigmoid>{.top_k = 6, .normalize = true, .scale = ..., .selection_bias = b}, 2}
///
/// the weights are sigmoid(l_i) / sum of sigmoid(l) over the chosen and the shared, times the scale. The logits of the
/// shared experts stand behind the others; their weights are commonly a bank of their own (JoinedExperts).
///
/// Experts: those of the gate inside in its order, then the shared ones in ascending order. The selection bias and a
/// scale an expert of the gate inside have no entries for the shared ones, which are multiplied by no such scale.
template <class G>
struct WithShared {
    G gate{};
    int n_shared = 1;

    static_assert(WeighingGate<G, float> || WeighingGate<G, double>,
                  "WithShared: the gate inside must be a moe::TokenGate with the member `weigh` (moe::WeighingGate).");

    [[nodiscard]] std::size_t max_per_token(int n_experts) const {
        const auto all = static_cast<std::size_t>(n_experts);
        const auto shared = (std::min)(static_cast<std::size_t>((std::max)(n_shared, 0)), all);
        return all == shared ? shared : moe::gate_max_per_token(gate, 1, all - shared) + shared;
    }

    /// See gate_overlapped.
    [[nodiscard]] const char* overlapped(const ByteView& memory) const { return moe::gate_overlapped(gate, memory); }

    /// Throws Error(range) unless there are shared experts and others beside them; else what the gate inside refuses.
    void validate(std::size_t n_experts) const {
        ensure(n_shared >= 1 && std::cmp_less(n_shared, n_experts), ErrorCode::range, "WithShared: n_shared is ",
               n_shared, ", it must lie in 1..", n_experts - 1, ", below the number of experts");
        detail::validate_inner("WithShared", gate, n_experts - static_cast<std::size_t>(n_shared));
    }

    /// `logits` (n_experts), those of the shared ones last.
    template <std::floating_point T>
        requires WeighingGate<G, T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        const auto shared = static_cast<std::size_t>(n_shared);
        const std::size_t routed = logits.size() - shared;
        BasicSelection<T> inner = out;
        inner.experts = out.experts.first(out.experts.size() - shared);
        inner.weights = out.weights.first(inner.experts.size());
        inner.order = out.order.first(routed);
        std::size_t count = moe::select_token<T>(gate, logits.first(routed), context, inner);
        for (std::size_t s = 0; s < shared; ++s) {
            out.experts[count++] = static_cast<ExpertId>(routed + s);
        }
        moe::weigh_experts<T>(gate, logits, out.experts.first(count), out);
        return static_cast<int>(count);
    }

    /// See gate_parameters.
    [[nodiscard]] GateParameters parameters() const { return moe::gate_parameters(gate); }

    /// See DifferentiableGate, gate_has_backward.
    [[nodiscard]] bool has_backward() const { return moe::gate_has_backward(gate); }
    template <std::floating_point T>
        requires detail::PassesGradient<G, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        moe::gate_backward<T>(gate, logits, chosen, d_weights, d_logits);
    }
};

template <class G>
WithShared(G, int) -> WithShared<G>;

}  // namespace moe::inline MOE_ABI
