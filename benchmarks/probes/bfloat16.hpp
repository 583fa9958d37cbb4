#pragma once

#include "../threads.hpp"

namespace bench {

/// Operations a second of products of bfloat16 (a multiplication and an addition are two), all threads together: of the
/// matrix unit where there is one, else of vectors; 0 where the compiler flags have no such instruction.
[[nodiscard]] double bfloat16_peak(const Threads& threads);

/// The same of products of 8-bit integers on the matrix unit; 0 where there is none.
[[nodiscard]] double unit_int8_peak(const Threads& threads);

}  // namespace bench
