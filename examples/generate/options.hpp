#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace generate {

/// What the command line asks for.
struct Options {
    std::string model;
    std::string reference;   ///< folder with stored values; empty: that of the model, if it is one
    std::string write_gguf;  ///< file to be written; empty: none
    std::string prompt = "ROMEO:\n";
    int length = 400;
    int context = 0;  ///< 0: as many as tiny-mixtral was trained on, at most the positions of the model
    double temperature = 0.8;
    std::uint64_t seed = 1;
    int threads = 0;  ///< 0: one for each processor
    bool help = false;
};

/// Reads `--name value` and `--name=value`. Throws moe::Error for an unknown option, a missing value, a number that is
/// none or out of range, an empty prompt.
[[nodiscard]] Options parse_options(std::span<const char* const> arguments);

/// What `--help` prints.
[[nodiscard]] std::string usage();

}  // namespace generate
