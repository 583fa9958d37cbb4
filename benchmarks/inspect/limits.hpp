#pragma once

#include <cstddef>

namespace inspect {

/// What the probes of the benchmark find on this machine.
struct Limits {
    std::size_t threads = 1;
    double bytes_per_second = 0;  ///< read from memory
    double float_flops = 0;       ///< a second, float32
    double integer_flops = 0;     ///< a second, 8-bit dot products; those of floats where there are none
};

/// The best of several turns, half a second: what disturbs a probe only takes away.
[[nodiscard]] Limits measure_limits(std::size_t threads);

struct Memory {
    double total = 0;
    double free = 0;  ///< that a program could still take
};

/// Of the machine, or of the control group this runs in where that has less.
[[nodiscard]] Memory usable_memory();

}  // namespace inspect
