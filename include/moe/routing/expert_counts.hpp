#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../core/error.hpp"
#include "plan.hpp"

namespace moe::inline MOE_ABI {

/// Adds the number of assignments of each expert to `counts` (n_experts): over micro-batches, until a balancer reads
/// them. Where a batch is spread over machines, the caller adds up their counts before. Throws Error(shape) if there is
/// not one count an expert. O(n_experts), no allocation.
template <class T>
void add_expert_counts(const PlanView<T>& plan, std::span<std::uint64_t> counts) {
    ensure(counts.size() == plan.n_experts, ErrorCode::shape, "add_expert_counts: ", counts.size(), " counts for ",
           plan.n_experts, " experts");
    for (std::size_t e = 0; e < counts.size(); ++e) {
        counts[e] += plan.expert_offsets[e + 1] - plan.expert_offsets[e];
    }
}

}  // namespace moe::inline MOE_ABI
