#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// What a result means nothing without: processor, memory, compiler, libraries. Names and values, in order.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> machine_facts();

/// Processor time of all programs and of this one since some moment, in seconds; 0 where the system does not say.
struct ProcessorTime {
    double all = 0;
    double own = 0;
};
[[nodiscard]] ProcessorTime processor_time();

}  // namespace bench
