#pragma once

#include <cstddef>

#include "../threads.hpp"
#include "experts_file.hpp"

namespace bench {

/// What a row of the benchmark of residency is about.
struct ResidencyCase {
    std::size_t tokens = 1;
    std::size_t top_k = 8;
    std::size_t calls = 10;      ///< of each arm
    std::size_t resident = 0;    ///< experts that may stay in memory from call to call
    std::size_t wave_bytes = 0;  ///< of an ExpertResidency
    bool limited = false;        ///< by the system: nothing is thrown out here
};

/// Medians of a call, in seconds.
struct ResidencyRow {
    double plain = 0;            ///< from the mapping, as it is touched
    double brought = 0;          ///< with an ExpertResidency
    double plain_in_memory = 0;  ///< the same two where nothing is missing
    double brought_in_memory = 0;
    double experts = 0;  ///< of a call, mean
    double missing = 0;  ///< of these
    bool same_bits = true;
};

/// Both arms in turn, on the same tokens and from the same pages in memory: those of the experts that were used last.
[[nodiscard]] ResidencyRow measure_residency(const ExpertsFile& file, const Threads& threads,
                                             const ResidencyCase& the_case);

}  // namespace bench
