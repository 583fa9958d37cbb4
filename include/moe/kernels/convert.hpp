#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "../formats/element.hpp"
#include "arch/avx2.hpp"
#include "arch/avx512.hpp"
#include "simd.hpp"

namespace moe::inline MOE_ABI {

/// Whether weights of type W become a vector of their compute type in a few instructions. Where they do not, kernels
/// convert a block of a panel once and then use it as floats.
template <WeightElement W>
inline constexpr bool loads_converted = std::is_floating_point_v<W>
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__F16C__))
                                        || true
#endif
    ;

/// lanes<ComputeType<W>> neighbours at `source` (any alignment) in the compute type: exact.
template <WeightElement W>
[[nodiscard]] MOE_ALWAYS_INLINE Vector<ComputeType<W>> load_converted(const W* source) noexcept {
    if constexpr (std::is_floating_point_v<W>) {
        return load(source);
    } else {
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__F16C__))
        return arch::load_floats(source);
#else
        std::array<float, lanes<float>> values;
        for (std::size_t i = 0; i < values.size(); ++i) {
            values[i] = load_element(source + i);
        }
        return load(values.data());
#endif
    }
}

/// target[i] = source[i] for `count` neighbours, exact. The source may have any alignment.
template <WeightElement W>
inline void convert_run(const W* source, std::size_t count, ComputeType<W>* target) noexcept {
    if constexpr (std::is_floating_point_v<W>) {
        std::memcpy(target, static_cast<const void*>(source), count * sizeof(W));
    } else {
        if constexpr (loads_converted<W>) {
            for (; count >= lanes<float>; count -= lanes<float>, source += lanes<float>, target += lanes<float>) {
                store(target, load_converted(source));
            }
        }
        for (std::size_t i = 0; i < count; ++i) {
            target[i] = load_element(source + i);
        }
    }
}

/// The same where the target keeps the storage type: a copy.
template <class W>
    requires(!std::is_floating_point_v<W>)
inline void convert_run(const W* source, std::size_t count, W* target) noexcept {
    std::memcpy(target, static_cast<const void*>(source), count * sizeof(W));
}

}  // namespace moe::inline MOE_ABI
