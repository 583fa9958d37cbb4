#pragma once

#include <chrono>
#include <string>

#include "machine.hpp"
#include "row.hpp"

namespace bench {

/// Looks at what else the machine does from its construction on.
class NoiseWatch {
public:
    NoiseWatch() : before_(processor_time()), begin_(std::chrono::steady_clock::now()) {}

    /// Says so where the machine was not ours alone, or the figures of a row and its probes scatter; else empty.
    [[nodiscard]] std::string note(const Statistics& seconds, const Statistics& fma, const Statistics& read) const;

private:
    ProcessorTime before_;
    std::chrono::steady_clock::time_point begin_;
};

}  // namespace bench
