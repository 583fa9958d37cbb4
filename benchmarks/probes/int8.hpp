#pragma once

#include "../threads.hpp"

namespace bench {

/// Operations a second of 8-bit dot products (a multiplication and an addition are two), all threads together; 0 where
/// the compiler flags have no such instruction.
[[nodiscard]] double int8_peak(const Threads& threads);

}  // namespace bench
