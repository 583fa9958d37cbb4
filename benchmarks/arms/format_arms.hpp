#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "../formats.hpp"
#include "../threads.hpp"
#include "library_layer.hpp"

namespace bench {

// The arms that are made of the library's kernels, for F of float, moe::bfloat16, moe::float16, moe::Int8 and
// moe::Int4: each format is a translation unit in formats/.

/// A layer of `shape`: random weights, packed. `table` must outlive it.
template <class F>
[[nodiscard]] std::unique_ptr<LibraryLayer> make_layer_of(const Shape& shape, Compute compute,
                                                          const std::span<const std::int32_t>* table,
                                                          const Threads& threads);

/// The library's dense network of the width that a token activates in the mixture, in the same format and compute: the
/// same work without routing, gathering and ragged loads.
template <class F>
[[nodiscard]] std::unique_ptr<Arm> make_dense_of(const Shape& shape, Compute compute, std::size_t layers,
                                                 const Threads& threads);

}  // namespace bench
