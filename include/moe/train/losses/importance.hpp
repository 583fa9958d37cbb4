#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "../../core/float_environment.hpp"
#include "../../core/workspace.hpp"
#include "loss_call.hpp"
#include "variation.hpp"

namespace moe::inline MOE_ABI {

struct Importance {
    double coefficient = 1;  ///< Shazeer et al.: 0.1
    double scale = 1;
    bool unbiased = false;  ///< the variance divided by E - 1, as fastmoe and others have it
};

/// The importance loss of Shazeer et al. 2017 (1701.06538, equations 6 and 7), of any gate: the squared coefficient of
/// variation of I_e = sum over t of w_te, the weights of the plan; dropped choices have none. 0 at balance, E - 1 where
/// one expert gets all, 0 where the sum of all weights is 0. Returns it without coefficient and scale, and adds to
/// tape.d_weights(), which the backward pass takes on through the gate, coefficient * scale times
///
///     2 E (I_e sum(I) - sum(I^2)) / sum(I)^3
///
/// Null experts count as experts. A NaN weight is in a sum that all gradients are made of, so it reaches all of them.
/// Throws Error before anything is written: a tape that is not recorded (state), factors that are not finite (range).
/// Sums in double, ascending tokens. O(n_assignments + n_experts); allocates nothing once `workspace` has grown.
template <class T>
double add_importance(Tape<T>& tape, const Importance& options, Workspace& workspace) {
    const double factor = detail::confirm_loss("add_importance", tape, options.coefficient, options.scale);
    const PlanView<T> plan = tape.plan();
    Arena measure;
    (void)measure.take<double>(plan.n_experts);
    const WorkspaceLease lease = workspace.lease(measure.used());
    Arena arena = lease.arena();
    const std::span<double> sums = arena.take<double>(plan.n_experts);
    const FloatEnvironment environment;
    std::fill(sums.begin(), sums.end(), 0.0);
    for (std::size_t a = 0; a < plan.n_assignments(); ++a) {
        sums[static_cast<std::size_t>(plan.experts[a])] += static_cast<double>(plan.weights[a]);
    }
    const double value = detail::variation_backward(options.unbiased, sums);
    const std::span<T> d_weights = tape.d_weights();
    for (std::size_t a = 0; a < plan.n_assignments() && factor != 0; ++a) {
        d_weights[a] += static_cast<T>(factor * sums[static_cast<std::size_t>(plan.experts[a])]);
    }
    return value;
}

}  // namespace moe::inline MOE_ABI
