#pragma once

#include <span>
#include <string>

#include "../train/lora.hpp"

namespace finetune {

/// What the command line asks for.
struct Options {
    trainer::Settings settings{.length = 256,
                               .batch = 8,
                               .schedule = {.rate = 1e-2, .n_steps = 400},
                               .adam = {.beta2 = 0.98, .decay = 0},
                               .aux = 0};
    trainer::LoraSettings lora{.base = moe::Format::int4};
    std::string model;  ///< folder of the model that is adapted
    std::string data;   ///< the new text
    std::string known;  ///< a text like those that the model was trained on
    std::string out = "finetuned-moe";
    std::string merged;  ///< folder of the merged model, or none
    int threads = 0;     ///< 0: one for each processor
    bool detach_router = false;
    bool overwrite = false;
    bool help = false;
};

/// Reads `--name value` and `--name=value`; what is not given is as in `defaults`. Throws moe::Error for an unknown
/// option, a missing value, a number that is none or out of range.
[[nodiscard]] Options parse_options(std::span<const char* const> arguments, const Options& defaults = {});

/// What `--help` prints.
[[nodiscard]] std::string usage();

}  // namespace finetune
