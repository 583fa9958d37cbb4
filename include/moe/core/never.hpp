#pragma once

#include "../config.hpp"

namespace moe::inline MOE_ABI::detail {

/// False, and dependent on a type: for the static_assert of a function that is there to say why it must not be called.
template <class>
inline constexpr bool never = false;

}  // namespace moe::inline MOE_ABI::detail
