#pragma once

#include <concepts>
#include <cstddef>
#include <string_view>

#include "../../core/overlap.hpp"

namespace moe::inline MOE_ABI {

/// One matrix (outputs x inputs) of float32 values, held in whatever a checkpoint has for it: see archetype.hpp. A view
/// of memory that outlives it, cheap to copy.
template <class M>
concept WeightEncoding = std::copy_constructible<M> &&
    requires(const M& matrix, std::size_t n, float* values, const ByteView& memory) {
    { matrix.encoding() } -> std::convertible_to<std::string_view>;
    { matrix.outputs() } -> std::same_as<std::size_t>;
    { matrix.inputs() } -> std::same_as<std::size_t>;
    { matrix.decode(n, n, n, values) }
    noexcept->std::same_as<void>;
    { matrix.overlaps(memory) } -> std::same_as<bool>;
};

}  // namespace moe::inline MOE_ABI
