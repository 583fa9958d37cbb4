#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "../strategies/gshard.hpp"
#include "../strategies/token_choice.hpp"
#include "../strategies/top_n_threshold.hpp"
#include "capacity.hpp"

/// Capacity as published: each a gate, ready for a router. `group` is the number of tokens that share the places of an
/// expert, such as the length of a sequence; 0: the whole batch. What is said of T counts valid tokens unless noted.
namespace moe::inline MOE_ABI {

/// Switch Transformer (Fedus et al. 2021, 2101.03961, section 2.2): the best expert, weighted with its probability;
/// floor(factor T / E) places by position, 4 at least as in its code (Mesh TensorFlow). Factors: 1 to 2, 1.25 best.
[[nodiscard]] inline Capacity<TokenChoice<>> switch_gate(double factor = 1.25, std::size_t group = 0) {
    return {.gate = {.top_k = 1},
            .limit = {.value = factor, .rounding = CapacityLimit::Rounding::floor, .k = 1, .minimum = 4},
            .group = group};
}

/// Switch Transformer as in HF transformers (before 5): the same with `places` a sequence, 64 by default.
[[nodiscard]] inline Capacity<TokenChoice<>> switch_gate_fixed(std::size_t places = 64, std::size_t sequence = 0) {
    return {.gate = {.top_k = 1}, .limit = CapacityLimit::fixed(places), .group = sequence};
}

/// GShard (Lepikhin et al. 2020, 2006.16668, algorithm 1): ceil(factor 2 T / E) places, first choices before second
/// ones, the second kept at random; `step` counts training steps.
[[nodiscard]] inline Capacity<GShardTop2> gshard_gate(double factor = 1, std::size_t group = 0, std::uint64_t seed = 0,
                                                      std::uint64_t step = 0) {
    return {.gate = {.second = SecondExpert::random_of_two, .seed = seed, .step = step},
            .limit = CapacityLimit::factor(factor),
            .group = group};
}

/// NLLB-MoE in training (NLLB Team 2022, 2207.04672, section 6.2; HF nllb_moe): 2 ceil(T / E) places, T with padding;
/// the weights are normalised over what is kept. `order` is slot_major, or token_priority for its
/// batch_prioritized_routing.
[[nodiscard]] inline Capacity<GShardTop2> nllb_gate(SecondExpert second = SecondExpert::all,
                                                    CapacityOrder order = CapacityOrder::slot_major,
                                                    std::size_t group = 0, std::uint64_t seed = 0,
                                                    std::uint64_t step = 0) {
    return {.gate = {.second = second, .normalize = false, .seed = seed, .step = step},
            .limit = {.kind = CapacityLimit::Kind::per_choice},
            .group = group,
            .order = order,
            .count_padding = true,
            .renormalize = Normalize::clamped_sum(std::numeric_limits<float>::epsilon())};
}

/// NLLB-MoE in evaluation: ceil(fraction T) places (moe_eval_capacity_token_fraction), both experts.
[[nodiscard]] inline Capacity<GShardTop2> nllb_evaluation_gate(double fraction = 1, std::size_t group = 0) {
    Capacity<GShardTop2> gate = nllb_gate(SecondExpert::all, CapacityOrder::slot_major, group);
    gate.limit = {.kind = CapacityLimit::Kind::fraction, .value = fraction};
    return gate;
}

/// ST-MoE (Zoph et al. 2022, 2202.08906): floor(factor T / E) places, 4 at least, first choices first. Factors: 1.25 in
/// training, 2 in evaluation.
[[nodiscard]] inline Capacity<TopNThreshold> st_moe_gate(double factor = 2, std::size_t group = 0, int top_n = 2,
                                                         std::uint64_t seed = 0, std::uint64_t step = 0) {
    return {.gate = {.top_n = top_n, .seed = seed, .step = step},
            .limit = {.value = factor, .rounding = CapacityLimit::Rounding::floor, .k = 1, .minimum = 4},
            .group = group};
}

/// V-MoE with batch priority (Riquelme et al. 2021, 2106.05974, section 4): the top k of the softmax, not normalised,
/// ceil(factor k T / E) places for the tokens with the greatest weight. (Its code rounds up to a multiple of 4.)
[[nodiscard]] inline Capacity<TokenChoice<>> batch_priority_gate(int top_k = 2, double factor = 1.05,
                                                                 std::size_t group = 0) {
    return {.gate = {.top_k = top_k},
            .limit = CapacityLimit::factor(factor),
            .group = group,
            .order = CapacityOrder::token_priority};
}

/// Megatron-LM with the drop policy "probs": softmax over the top k (over all experts for k = 1), each expert keeps the
/// ceil(factor k T / E) tokens of the greatest weight. Its policy "position" is CapacityOrder::position.
[[nodiscard]] inline Capacity<TokenChoice<>> megatron_gate(int top_k, double factor = 1,
                                                           CapacityOrder order = CapacityOrder::weight) {
    return {.gate = {.top_k = top_k, .normalize = top_k > 1}, .limit = CapacityLimit::factor(factor), .order = order};
}

/// DeepSpeed's topkgating: the top k of the softmax, each expert keeps the ceil(factor k T / E) tokens of the greatest
/// weight, `minimum` at least; the weights are normalised over what is kept.
[[nodiscard]] inline Capacity<TokenChoice<>> deepspeed_gate(int top_k, double factor = 1, std::size_t minimum = 8) {
    Capacity<TokenChoice<>> gate{.gate = {.top_k = top_k},
                                 .limit = CapacityLimit::factor(factor),
                                 .order = CapacityOrder::weight,
                                 .renormalize = Normalize::clamped_sum(std::numeric_limits<float>::epsilon())};
    gate.limit.minimum = minimum;
    return gate;
}

}  // namespace moe::inline MOE_ABI
