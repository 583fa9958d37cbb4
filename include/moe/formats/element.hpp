#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "../core/half.hpp"

namespace moe::inline MOE_ABI {

/// A type weights may be stored in, one value an element.
template <class W>
concept WeightElement =
    std::same_as<W, float> || std::same_as<W, double> || std::same_as<W, bfloat16> || std::same_as<W, float16>;

/// The type weights of storage type W are computed in: double for double, float for everything else.
template <WeightElement W>
using ComputeType = std::conditional_t<std::same_as<W, double>, double, float>;

/// Value of the element at `source`, which need not be aligned: files give no alignment.
template <WeightElement W>
[[nodiscard]] inline ComputeType<W> load_element(const W* source) noexcept {
    W value;
    std::memcpy(&value, static_cast<const void*>(source), sizeof value);
    if constexpr (std::floating_point<W>) {
        return value;
    } else {
        return to_float(value);
    }
}

}  // namespace moe::inline MOE_ABI
