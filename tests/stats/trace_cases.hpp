#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

#include "moe/core/random.hpp"
#include "moe/routing/plan.hpp"

namespace moe_test {

using Bytes = std::vector<std::byte>;

inline Bytes bytes_of(std::initializer_list<int> values) {
    Bytes bytes;
    for (const int value : values) {
        bytes.push_back(static_cast<std::byte>(value));
    }
    return bytes;
}

/// `n_tokens` tokens with up to `width` random experts each, the first with exactly as many.
template <class T>
moe::RoutingPlan<T> random_plan(std::uint64_t seed, std::size_t n_experts, std::size_t n_tokens, std::size_t width) {
    std::vector<moe::ExpertId> experts(n_tokens * width, moe::no_expert);
    std::vector<T> weights(experts.size());
    for (std::size_t i = 0; i < experts.size(); ++i) {
        const std::uint64_t bits = moe::random_bits(seed, i);
        weights[i] = static_cast<T>(moe::random_uniform(seed + 1000, i)) / T(3);
        if (i < width || bits % 4 != 0) {
            experts[i] = static_cast<moe::ExpertId>((bits >> 8U) % n_experts);
        }
    }
    moe::RoutingPlan<T> plan;
    plan.assign(moe::view(std::as_const(experts).data(), n_tokens, width),
                moe::view(std::as_const(weights).data(), n_tokens, width), n_experts);
    return plan;
}

}  // namespace moe_test
