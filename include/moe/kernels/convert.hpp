#pragma once

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "../formats/element.hpp"
#include "arch/avx2.hpp"
#include "arch/avx512.hpp"

namespace moe::inline MOE_ABI {

/// target[i] = source[i] for `count` neighbours, exact. The source may have any alignment.
template <WeightElement W>
inline void convert_run(const W* source, std::size_t count, ComputeType<W>* target) noexcept {
    if constexpr (std::is_floating_point_v<W>) {
        std::memcpy(target, static_cast<const void*>(source), count * sizeof(W));
    } else {
        std::size_t i = 0;
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__F16C__))
        for (; i + arch::convert_width <= count; i += arch::convert_width) {
            arch::convert_chunk(source + i, target + i);
        }
#endif
        for (; i < count; ++i) {
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
