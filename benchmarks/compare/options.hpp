#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "../shapes.hpp"
#include "logits.hpp"
#include "strategies.hpp"
#include "training/trained_strategies.hpp"

namespace compare {

/// What the command line asks for.
struct Options {
    std::vector<const bench::Shape*> shapes;
    std::vector<const Strategy*> strategies;        ///< of readers of a trained model
    std::vector<const TrainedStrategy*> trained{};  ///< that models are trained with, if they are
    std::vector<std::size_t> tokens;
    Distribution distribution = Distribution::uniform;
    std::uint64_t seed = 1;
    std::size_t threads = 1;
    std::string json;  ///< files; empty: none
    std::string csv;
    std::string html;
    std::vector<std::string> google;  ///< --benchmark_... options, for Google Benchmark
    bool train = false;               ///< models as well, which takes long
    std::size_t seeds = 3;            ///< trainings of a strategy
    std::size_t steps = 0;            ///< of a training; 0: as the plan has it
    std::string runs;                 ///< folder of finished trainings; empty: none
    bool cost = false;                ///< costs of named models instead of strategies
    bool quick = false;
    bool list = false;
    bool help = false;
};

/// Reads `--name value` and `--name=value`; lists are separated by commas. Throws moe::Error for whatever is wrong, in
/// one sentence.
[[nodiscard]] Options parse_options(std::span<const char* const> arguments);

/// What `--help` prints.
[[nodiscard]] std::string usage();

/// What `--list` prints: the strategies, each with its description, and the shapes.
[[nodiscard]] std::string list();

}  // namespace compare
