#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <memory>
#include <span>
#include <type_traits>

#include "../core/error.hpp"
#include "../gating/backward.hpp"
#include "../gating/backward_rules.hpp"
#include "../gating/reads_logits.hpp"
#include "../gating/top_k.hpp"
#include "../gating/weigh.hpp"

namespace moe::inline MOE_ABI {

/// A gate with the member `weigh` whose backward pass is found by trying: central differences of the weights of what it
/// chose, 2 calls of `weigh` a logit. For a gate whose derivative is not written yet, or to check one that is:
///
///     moe::Numeric{MyGate{.top_k = 2}}
///
/// The step is the cube root of epsilon, times |l| where that is above 1; where the gate weighs in double, so is this,
/// and good to 1e-9 or so, else to 1e-4. A kink within a step, such as that of ReLU at 0, gives a slope between those
/// of its sides. In all else it is the gate G, whose members it inherits.
template <class G>
struct Numeric : G {
    static_assert(WeighingGate<G, float> || WeighingGate<G, double>,
                  "this gate cannot be moe::Numeric: write `void weigh(...) const` (moe::WeighingGate)");

    [[nodiscard]] static constexpr bool has_backward() { return true; }

    /// None: differences are taken by the logits alone.
    [[nodiscard]] static GateParameters parameters() { return {}; }

    /// See DifferentiableGate. Throws Error(capacity) where the scratch is less than a gate may expect. O(n_logits)
    /// calls of `weigh`.
    template <std::floating_point T>
        requires WeighingGate<G, T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        using Wide = std::conditional_t<detail::WeighsIn<G, double>, double, float>;
        const std::size_t n_experts = moe::gate_n_experts(static_cast<const G&>(*this), logits.size());
        const std::size_t part = (std::max)(n_experts, logits.size());
        const std::size_t k = chosen.experts.size();
        const std::span<Wide> memory = memory_of<Wide>(chosen.scratch);
        ensure(memory.size() >= (own_parts + gate_parts) * part, ErrorCode::capacity,
               "Numeric: ", chosen.scratch.size(), " values of scratch are left in a backward pass, it needs ",
               (own_parts + gate_parts) * part * sizeof(Wide) / sizeof(T) + 1);
        const std::span<Wide> moved = memory.first(logits.size());
        const std::span<Wide> before = memory.subspan(part, k);
        const std::span<ExpertId> order = detail::ids_in(memory.subspan(2 * part, n_experts));
        // the experts are given: `weigh` may write to those of its selection
        const std::span<ExpertId> experts = detail::ids_in(memory.subspan(3 * part, k));
        const std::span<Wide> after = memory.subspan(4 * part, k);
        const std::span<Wide> scratch = memory.subspan(own_parts * part);
        for (std::size_t i = 0; i < logits.size(); ++i) {
            moved[i] = static_cast<Wide>(logits[i]);
        }
        for (std::size_t i = 0; i < logits.size(); ++i) {
            if (detail::excludes(logits[i])) {
                continue;
            }
            const Wide at = moved[i];
            const Wide step = std::cbrt(std::numeric_limits<Wide>::epsilon()) * (std::max)(Wide(1), std::abs(at));
            const auto weigh_at = [&](Wide logit, std::span<Wide> weights) {
                moved[i] = logit;
                std::copy(chosen.experts.begin(), chosen.experts.end(), experts.begin());
                G::weigh(std::span<const Wide>(moved), std::span<const ExpertId>(experts),
                         BasicSelection<Wide>{experts, weights, scratch, order});
            };
            weigh_at(at - step, before);
            weigh_at(at + step, after);
            const Wide between = (at + step) - (at - step);  // what was rounded is what was moved
            Wide sum = 0;
            for (std::size_t slot = 0; slot < k; ++slot) {
                sum += static_cast<Wide>(d_weights[slot]) * ((after[slot] - before[slot]) / between);
            }
            d_logits[i] += static_cast<T>(sum);
            moved[i] = at;
        }
    }

private:
    static constexpr std::size_t own_parts = 5;
    static constexpr std::size_t gate_parts = 4;

    /// What of `scratch` can hold values of type Wide.
    template <class Wide, class T>
    [[nodiscard]] static std::span<Wide> memory_of(std::span<T> scratch) {
        if constexpr (std::same_as<Wide, T>) {
            return scratch;
        } else {
            void* start = scratch.data();
            std::size_t bytes = scratch.size_bytes();
            if (std::align(alignof(Wide), sizeof(Wide), start, bytes) == nullptr) {
                return {};
            }
            auto* const values = static_cast<Wide*>(start);
            std::uninitialized_default_construct_n(values, bytes / sizeof(Wide));
            return {values, bytes / sizeof(Wide)};
        }
    }
};

template <class G>
Numeric(G) -> Numeric<G>;

template <class G>
inline constexpr bool detail::reads_logits_of_experts<Numeric<G>> = detail::reads_logits_of_experts<G>;

}  // namespace moe::inline MOE_ABI
