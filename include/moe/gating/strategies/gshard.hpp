#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "../../core/error.hpp"
#include "../../core/index.hpp"
#include "../../core/random.hpp"
#include "../backward_rules.hpp"
#include "../normalize.hpp"
#include "../scores.hpp"
#include "../selection.hpp"
#include "../top_k.hpp"

namespace moe::inline MOE_ABI {

/// What becomes of the second expert of a token, p1 and p2 being the probabilities of its two among all experts.
enum class SecondExpert : unsigned char {
    all,            ///< it is the second best, always
    sampling,       ///< the best of the others after Gumbel noise on the logits: HF's NLLB-MoE, DeepSpeed
    random,         ///< the second best, with probability min(1, 2 p2): HF's NLLB-MoE
    random_of_two,  ///< the second best, with probability min(1, 2 p2 / (p1 + p2)): GShard, algorithm 1
};

/// The two experts of GShard (Lepikhin et al. 2020, "GShard: Scaling giant models with conditional computation and
/// automatic sharding", 2006.16668, section 2.2 and algorithm 1): the best one always, the second one by `second`.
///
///     p = softmax(l),  chosen = the greatest two of l      ties to the lower expert, NaN last
///     w = normalize(p of the two)                          before the draw, whose loser takes its share with it
///
/// The draws belong to (seed, step, position of the token): the same in every batch; a training loop counts `step` up.
/// The places of the experts are Capacity's matter (gshard_gate in capacity_presets.hpp). O(n_experts).
struct GShardTop2 {
    SecondExpert second = SecondExpert::all;
    Normalize normalize = true;
    std::uint64_t seed = 0;
    std::uint64_t step = 0;

    [[nodiscard]] static constexpr int max_per_token() { return 2; }

    /// Throws Error(range): fewer than 2 experts, a policy that is none, a normalisation that cannot be.
    void validate(std::size_t n_experts) const {
        ensure(n_experts >= 2, ErrorCode::range, "GShardTop2: it chooses 2 experts of ", n_experts);
        ensure(second <= SecondExpert::random_of_two, ErrorCode::range, "GShardTop2: second has no value ",
               static_cast<int>(second));
        normalize.validate();
    }

    /// `logits` (n_experts). Returns 1 or 2.
    template <std::floating_point T>
    int select(std::span<const T> logits, TokenContext context, BasicSelection<T> out) const {
        const std::uint64_t stream = random_stream(random_stream(seed, step), context.position);
        const std::span<ExpertId> chosen = out.experts.first(2);
        find_two(logits, stream, chosen);
        const std::span<T> scores = out.scratch.first(logits.size());
        Softmax{}(logits, scores);
        const T first_score = scores[static_cast<std::size_t>(chosen[0])];
        const T second_score = scores[static_cast<std::size_t>(chosen[1])];
        out.weights[0] = first_score;
        out.weights[1] = second_score;
        normalize(out.weights.first(2));
        const double draw = random_open_uniform(stream, 0);
        const T of_two = second_score / (first_score + second_score);
        const bool lost = (second == SecondExpert::random && !(2 * static_cast<double>(second_score) > draw)) ||
                          (second == SecondExpert::random_of_two && !(2 * static_cast<double>(of_two) > draw));
        return lost ? 1 : 2;
    }

    /// See DifferentiableGate: a second expert that the draw took away still has its share.
    template <std::floating_point T>
    void backward(std::span<const T> logits, const Chosen<T>& chosen, std::span<const T> d_weights,
                  std::span<T> d_logits) const {
        std::array<ExpertId, 2> two{};
        std::array<T, 2> d{};
        find_two(logits, random_stream(random_stream(seed, step), chosen.context.position), std::span(two));
        detail::for_each_place(chosen.experts, two, [&](std::size_t i, std::size_t slot) { d[slot] = d_weights[i]; });
        const Chosen<T> both{two, {}, {}, chosen.context, chosen.scratch};
        moe::weigh_backward<T>(Softmax{}, normalize, 1, logits, both, d, d_logits);
    }

private:
    /// The two before the draw.
    template <class T>
    void find_two(std::span<const T> logits, std::uint64_t stream, std::span<ExpertId> two) const {
        detail::top_k<T>(logits, two);
        if (second == SecondExpert::sampling) {
            two[1] = sample(logits, two[0], stream);
        }
    }

    /// The expert with the greatest l + Gumbel among all but `first`.
    template <class T>
    [[nodiscard]] static ExpertId sample(std::span<const T> logits, ExpertId first, std::uint64_t stream) {
        ExpertId best = no_expert;
        double best_key = 0;
        for (std::size_t e = 0; e < logits.size(); ++e) {
            const double key = static_cast<double>(logits[e]) + random_gumbel(stream, e);
            const auto expert = static_cast<ExpertId>(e);
            if (expert != first && (best == no_expert || detail::precedes(key, best_key))) {
                best = expert;
                best_key = key;
            }
        }
        return best;
    }
};

}  // namespace moe::inline MOE_ABI
