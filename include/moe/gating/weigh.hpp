#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <utility>

#include "../core/index.hpp"
#include "gate.hpp"
#include "narrow.hpp"
#include "selection.hpp"

namespace moe::inline MOE_ABI {

namespace detail {

template <class G, class T>
concept WeighsIn = requires(const G& gate) {
    {
        gate.weigh(std::declval<std::span<const T>>(), std::declval<std::span<const ExpertId>>(),
                   std::declval<BasicSelection<T>>())
        } -> std::same_as<void>;
};

template <class G, class T>
concept Weighs = WeighsIn<G, T> || WeighsIn<G, float>;

/// weigh_experts, for a batch gate with the member `weigh` as well.
template <class T, Weighs<T> G>
void weigh_as(const G& gate, std::span<const T> logits, std::span<const ExpertId> experts, BasicSelection<T> out) {
    if constexpr (WeighsIn<G, T>) {
        gate.weigh(logits, experts, out);
    } else {
        const NarrowToken narrow(logits, out);
        gate.weigh(narrow.logits(), experts, narrow.selection());
        detail::widen_in_place(out.weights.data(), experts.size());
    }
}

}  // namespace detail

/// A gate that can also tell the weights of experts that somebody else chose.
///
///     void weigh(std::span<const float> logits, std::span<const moe::ExpertId> experts, moe::Selection out) const;
///
/// `weigh` fills out.weights, from the front, with one weight for each of `experts` (which may be out.experts), by the
/// rule it has for its own choice: normalised over these. It may use out.scratch and out.order as `select` may.
template <class G, class T = float>
concept WeighingGate = TokenGate<G, T> && detail::Weighs<G, T>;

/// Lets a gate weigh `experts`. A gate written for float serves double as it does in select_token.
template <class T, class G>
    requires WeighingGate<G, T>
void weigh_experts(const G& gate, std::span<const T> logits, std::span<const ExpertId> experts, BasicSelection<T> out) {
    detail::weigh_as<T>(gate, logits, experts, out);
}

}  // namespace moe::inline MOE_ABI
