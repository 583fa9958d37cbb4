#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "arms/rivals.hpp"
#include "formats.hpp"
#include "routing.hpp"
#include "shapes.hpp"

namespace bench {

/// What the command line asks for.
struct Options {
    std::vector<const Shape*> shapes;
    std::vector<Format> formats;
    std::vector<Compute> computes;  ///< empty: the default of each format
    std::vector<std::size_t> tokens;
    std::vector<Rival> rivals;
    std::size_t threads = 1;
    Routing routing = Routing::random;
    double min_time = 1.0;             ///< seconds of the library a row
    std::size_t memory = 55;           ///< percent of the memory that is free at the start
    std::string json;                  ///< file for the rows; empty: none
    std::vector<std::string> google;   ///< --benchmark_... options, for Google Benchmark
    bool backward = false;             ///< the backward pass, with the rows and arms of backward/
    std::string model;                 ///< a checkpoint, with the rows of checkpoint/; empty: shapes
    std::optional<std::size_t> layer;  ///< of it; nothing: the first with experts
    bool in_place = false;             ///< its weights also where they lie
    bool bars = false;
    bool scaling = false;
    bool quick = false;
    bool list = false;
    bool help = false;
};

/// Reads `--name value` and `--name=value`; lists are separated by commas. Throws moe::Error for whatever is wrong, in
/// one sentence.
[[nodiscard]] Options parse_options(std::span<const char* const> arguments);

/// What `--help` prints.
[[nodiscard]] std::string usage();

}  // namespace bench
