#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "../../core/random.hpp"
#include "../routing.hpp"
#include "gumbel.hpp"

namespace moe::inline MOE_ABI::reference {

/// The logits that the softmax of one round of SparseMixer-v2 sees (Liu et al. 2024, 2409.12136): those of `left`, of
/// which those too far below its greatest, m, are -infinity: (m - l) / max(|l|, m) > 2 jitter.
[[nodiscard]] inline Vector unmasked(const Vector& left, double jitter) {
    const double m = left[static_cast<std::size_t>(top_k(left, 1).front())];
    Vector seen = left;
    for (double& l : seen) {
        const double size = std::abs(l) > m ? std::abs(l) : m;
        l = excluded(l) || (m - l) / size > 2 * jitter ? -std::numeric_limits<double>::infinity() : l;
    }
    return seen;
}

/// Two experts a token, in evaluation: in each round the best of those left, weighted with its softmax among those not
/// masked.
[[nodiscard]] inline Choice sparse_mixer(const Vector& logits, double jitter) {
    Choice choice;
    Vector left = logits;
    for (int round = 0; round < 2; ++round) {
        const ExpertId best = top_k(left, 1).front();
        choice.experts.push_back(best);
        choice.weights.push_back(softmax(unmasked(left, jitter))[static_cast<std::size_t>(best)]);
        left[static_cast<std::size_t>(best)] = -std::numeric_limits<double>::infinity();
    }
    return choice;
}

/// The same in training: each expert is drawn from that softmax, and weighed with it where it is the best of those left
/// or a draw of 1 in 4 says so, else with a third of it.
[[nodiscard]] inline Choice sparse_mixer_training(const Vector& logits, double jitter, std::uint64_t seed,
                                                  std::uint64_t step, std::uint64_t position) {
    Choice choice;
    Vector left = logits;
    const std::size_t n = logits.size();
    for (std::size_t round = 0; round < 2; ++round) {
        const Vector seen = unmasked(left, jitter);
        const ExpertId drawn = top_k(gumbel_logits(seen, seed, step, position, 1, round * n), 1).front();
        const double draw = random_open_uniform(random_stream(random_stream(seed, step), position), 2 * n + round);
        const bool whole = drawn == top_k(left, 1).front() || draw > 0.75;
        const double p = softmax(seen)[static_cast<std::size_t>(drawn)];
        choice.experts.push_back(drawn);
        choice.weights.push_back(whole ? p : p / 3);
        left[static_cast<std::size_t>(drawn)] = -std::numeric_limits<double>::infinity();
    }
    return choice;
}

}  // namespace moe::inline MOE_ABI::reference
