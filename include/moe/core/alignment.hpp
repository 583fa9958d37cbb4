#pragma once

#include <cstddef>
#include <cstdint>

#include "error.hpp"

namespace moe::inline MOE_ABI {

/// Throws Error(alignment) unless `data` is aligned to its type, as everything is that the library reads through a
/// typed pointer. Weights are not: they may have any alignment.
template <class T>
void require_aligned(const T* data, const char* where, const char* name) {
    const std::size_t beyond = reinterpret_cast<std::uintptr_t>(data) % alignof(T);
    ensure(beyond == 0, ErrorCode::alignment, where, ": ", name, " must be aligned to the ", alignof(T),
           " bytes of an element, it begins ", beyond, " beyond");
}

}  // namespace moe::inline MOE_ABI
