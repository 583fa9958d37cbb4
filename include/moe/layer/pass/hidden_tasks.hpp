#pragma once

#include <cstddef>

#include "pass_state.hpp"

/// Tasks of Phase::hidden that belong to no routed expert.
namespace moe::inline MOE_ABI::detail {

/// Assignments of one task that finds the shares of constant experts.
inline constexpr std::size_t mixes_per_task = 16;

/// The entry where those of constant experts begin that have mixes. Null experts come last, of these the constant ones.
template <class T>
[[nodiscard]] std::size_t first_mixed(const PassState<T>& pass) noexcept {
    const std::size_t n_constant = pass.layer.options->null_experts.constants.rows();
    return pass.shape.mixes ? pass.plan.expert_offsets[pass.shape.n_experts - n_constant] : pass.plan.n_assignments();
}

/// Tasks of one shared expert.
template <class T>
[[nodiscard]] std::size_t n_shared_tasks(const PassState<T>& pass, const ExpertsRef<T>& shared) noexcept {
    return divide_up(pass.shape.n_tokens, max_task_rows) *
           divide_up(shared.layout().hidden_panels(), pass.shared_chunk);
}

/// Tasks of all shared experts.
template <class T>
[[nodiscard]] std::size_t n_shared_tasks(const PassState<T>& pass) noexcept {
    std::size_t n_tasks = 0;
    for (std::size_t s = 0; s < pass.layer.shared.size(); ++s) {
        n_tasks += n_shared_tasks(pass, pass.layer.shared[s]);
    }
    return n_tasks;
}

/// Those, and the tasks that mix constants.
template <class T>
[[nodiscard]] std::size_t n_other_tasks(const PassState<T>& pass) noexcept {
    return n_shared_tasks(pass) + divide_up(pass.plan.n_assignments() - first_mixed(pass), mixes_per_task);
}

}  // namespace moe::inline MOE_ABI::detail
