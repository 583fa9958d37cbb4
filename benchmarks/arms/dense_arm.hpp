#pragma once

#include <memory>

#include "../formats.hpp"
#include "../threads.hpp"
#include "arm.hpp"

namespace bench {

/// The library's dense network of the width that a token activates in the mixture, in the same format: the same work
/// without routing, gathering and ragged loads.
[[nodiscard]] std::unique_ptr<Arm> make_dense_arm(const Shape& shape, Format format, std::size_t layers,
                                                  const Threads& threads);

}  // namespace bench
