#pragma once

#include <cstddef>
#include <cstdint>

#include "../../core/random.hpp"
#include "../routing.hpp"

/// Gates that draw while they are trained.
namespace moe::inline MOE_ABI::reference {

/// (l + Gumbel) / temperature of one token, the noise being that of the counters from `first` on.
[[nodiscard]] inline Vector gumbel_logits(const Vector& logits, std::uint64_t seed, std::uint64_t step,
                                          std::uint64_t position, double temperature = 1, std::uint64_t first = 0) {
    Vector noisy(logits.size());
    for (std::size_t e = 0; e < logits.size(); ++e) {
        const double gumbel = random_gumbel(random_stream(random_stream(seed, step), position), first + e);
        noisy[e] = (logits[e] + gumbel) / temperature;
    }
    return noisy;
}

/// The experts of the noisy logits, with the weights of the logits as they are.
[[nodiscard]] inline Choice sampled(const TokenChoiceRule& rule, const Vector& logits, const Vector& noisy) {
    return weighed(rule, logits, route(rule, noisy).experts);
}

/// What the rule chooses, each with the same weight.
[[nodiscard]] inline Choice straight_through(const TokenChoiceRule& rule, const Vector& logits, double weight) {
    Choice choice = route(rule, logits);
    choice.weights = Vector(choice.experts.size(), weight);
    return choice;
}

/// ReinMax while it is trained: the expert of the greatest noisy logit with weight 1, all others that are not excluded
/// with weight 0.
[[nodiscard]] inline Choice reinmax(const Vector& logits, const Vector& noisy) {
    Choice choice{top_k_of_allowed(noisy, logits, 1, false), {1}};
    for (std::size_t e = 0; e < logits.size(); ++e) {
        if (static_cast<ExpertId>(e) != choice.experts[0] && !excluded(logits[e])) {
            choice.experts.push_back(static_cast<ExpertId>(e));
            choice.weights.push_back(0);
        }
    }
    return choice;
}

}  // namespace moe::inline MOE_ABI::reference
