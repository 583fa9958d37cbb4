#pragma once

#include <memory>
#include <string>

#include "../formats.hpp"
#include "../threads.hpp"
#include "arm.hpp"

namespace bench {

/// The loop that anyone writes first: for each expert gather its rows, three matrix products of Eigen, SiLU, and add
/// the results to their tokens. Runs either with Eigen's own threads inside each product, or with the experts spread
/// over the threads; prepare() finds out which is faster for the batch.
[[nodiscard]] std::unique_ptr<Arm> make_eigen_arm(const Shape& shape, Format format, std::size_t layers,
                                                  const Threads& threads);

[[nodiscard]] std::string eigen_version();

}  // namespace bench
