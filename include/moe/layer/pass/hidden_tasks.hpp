#pragma once

#include <cstddef>

#include "pass_state.hpp"

/// Tasks of Phase::hidden that belong to no routed expert.
namespace moe::inline MOE_ABI::detail {

/// Assignments of one task that finds the shares of constant experts.
inline constexpr std::size_t mixes_per_task = 16;

/// The entry where those of constant experts begin that have mixes. Null experts come last, of these the constant ones.
template <class Layer>
[[nodiscard]] std::size_t first_mixed(const PassState<Layer>& pass) noexcept {
    const std::size_t n_constant = pass.layer->options().null_experts.constants.rows();
    return pass.shape.mixes ? pass.plan.expert_offsets[pass.shape.n_experts - n_constant] : pass.plan.n_assignments();
}

/// Tasks of one shared expert.
template <class Layer, class Bank>
[[nodiscard]] std::size_t n_shared_tasks(const PassState<Layer>& pass, const Bank& shared) noexcept {
    return divide_up(pass.shape.n_tokens, max_task_rows) *
           divide_up(shared.layout().hidden_panels(), pass.shared_chunk);
}

/// Tasks of all shared experts.
template <class Layer>
[[nodiscard]] std::size_t n_shared_tasks(const PassState<Layer>& pass) noexcept {
    std::size_t n_tasks = 0;
    for (const auto& shared : pass.layer->shared().experts()) {
        n_tasks += n_shared_tasks(pass, shared);
    }
    return n_tasks;
}

/// Those, and the tasks that mix constants.
template <class Layer>
[[nodiscard]] std::size_t n_other_tasks(const PassState<Layer>& pass) noexcept {
    return n_shared_tasks(pass) + divide_up(pass.plan.n_assignments() - first_mixed(pass), mixes_per_task);
}

}  // namespace moe::inline MOE_ABI::detail
