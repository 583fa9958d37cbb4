#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace inspect {

/// What the command line asks for.
struct Options {
    std::string path;
    std::vector<std::size_t> tokens{1, 64, 512};  ///< at once
    std::size_t threads = 1;
    std::optional<std::size_t> layer;  ///< to be measured; nothing: the first with experts
    bool measure = false;
    bool plan = false;
    bool no_speed = false;
    bool help = false;
};

/// Reads the path and `--name value`, in any order. Throws moe::Error for whatever is wrong, in one sentence.
[[nodiscard]] Options parse_options(std::span<const char* const> arguments);

/// What `--help` prints.
[[nodiscard]] std::string usage();

}  // namespace inspect
