#pragma once

#include <cstddef>
#include <limits>
#include <utility>

#include "../core/error.hpp"

/// Set-up checks of what many gates let their users set. They throw Error(range) that names `gate`.
namespace moe::inline MOE_ABI::detail {

/// Of all weights of a gate. In float even where a layer computes in double: infinite, it would make a weight 0 NaN.
inline void check_scale(const char* gate, double scale) {
    constexpr double most = (std::numeric_limits<float>::max)();
    ensure(scale >= -most && scale <= most, ErrorCode::range, gate, ": scale is ", scale,
           ", it must be finite in float");
}

/// How many experts a token takes.
inline void check_top_k(const char* gate, int top_k, std::size_t n_experts) {
    ensure(top_k >= 1 && std::cmp_less_equal(top_k, n_experts), ErrorCode::range, gate, ": top_k is ", top_k,
           ", it must lie in 1..", n_experts, ", the number of experts");
}

/// How many experts a token may take at most, where that is its own affair.
inline void check_limit(const char* gate, int limit, std::size_t n_experts) {
    ensure(limit >= 0 && std::cmp_less_equal(limit, n_experts), ErrorCode::range, gate, ": limit is ", limit,
           ", it must be 0 (off) or 1..", n_experts, ", the number of experts");
}

}  // namespace moe::inline MOE_ABI::detail
