#pragma once

#include <span>
#include <string>

#include "run.hpp"

namespace trainer {

/// What the command line asks for.
struct Options {
    Run run = default_run();
    std::string data;
    std::string out = "trained-moe";
    int threads = 0;     ///< 0: one for each processor
    double minutes = 0;  ///< 0: until all steps are done
    bool resume = false;
    bool overwrite = false;
    bool help = false;
};

/// Reads `--name value` and `--name=value`; what is not given is as in `defaults`. Throws moe::Error for an unknown
/// option, a missing value, a number that is none or out of range, sizes that do not fit together.
[[nodiscard]] Options parse_options(std::span<const char* const> arguments, const Options& defaults = {});

/// What `--help` prints.
[[nodiscard]] std::string usage();

}  // namespace trainer
