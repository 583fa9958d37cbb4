#pragma once

#include <cstddef>

#include "../../experts/product_tasks.hpp"
#include "../../routing/linear.hpp"

/// How a pass cuts the product of the router.
namespace moe::inline MOE_ABI::detail {

/// Parts of the router's product for each worker.
inline constexpr std::size_t router_parts_per_worker = 2;

/// Blocks of k that the router's product of few tokens is cut into where it has too few panels for all workers: a token
/// alone would wait for one worker to read them. 0: it is not cut.
template <class T>
[[nodiscard]] std::size_t router_blocks(const LinearRef<T>& linear, std::size_t n_workers) noexcept {
    const bool cut = linear.is_packed() && n_workers > 1 && linear.panels() < router_parts_per_worker * n_workers;
    return cut ? divide_up(linear.inputs(), Panel<T>::depth) : 0;
}

}  // namespace moe::inline MOE_ABI::detail
