#pragma once

#include <cstddef>
#include <span>

#include "../core/error.hpp"
#include "selection.hpp"

namespace moe::inline MOE_ABI {

/// The smallest legal gate: copy it, rename it, and change what `select` decides. This one takes the expert with the
/// greatest logit, with weight 1; the lower index of equal ones, expert 0 when all are NaN.
struct GateArchetype {
    // ---- required ----

    /// Most experts `select` may choose. As `int max_per_token(int n_experts) const` it may depend on their number.
    int max_per_token() const { return 1; }

    /// Chooses for one token: fills `out.experts` and `out.weights` from the front and returns how many it chose.
    /// `out.scratch` and `out.order` are memory it may use. Called from several threads at once, so it changes no
    /// member.
    int select(std::span<const float> logits, Selection out) const {
        std::size_t best = 0;
        for (std::size_t e = 1; e < logits.size(); ++e) {
            if (precedes(logits[e], logits[best])) {
                best = e;
            }
        }
        out.experts[0] = static_cast<ExpertId>(best);
        out.weights[0] = 1;
        return 1;
    }

    // ---- helper: leave out what you do not need ----

    /// Called once at set-up with the number of experts; reports settings that cannot be.
    void validate(std::size_t n_experts) const {
        ensure(n_experts >= 1, ErrorCode::range, "GateArchetype: there are ", n_experts, " experts to choose from");
    }

    /// False tells the router not to compute logits; `select` then gets an empty span.
    static constexpr bool needs_logits = true;

private:
    static bool precedes(float a, float b) { return a > b || (b != b && a == a); }
};

}  // namespace moe::inline MOE_ABI
