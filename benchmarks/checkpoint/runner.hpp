#pragma once

#include "../options.hpp"

namespace bench::checkpoint {

/// Times the layer of a checkpoint that the options name: packed as it is stored, for each compute and number of
/// tokens, and in place where that is asked for, each beside probes of the machine. Prints a row each; whether all
/// results are those of the weights in place. Throws moe::Error for a checkpoint or a layer that cannot be had.
[[nodiscard]] bool run(const Options& options);

}  // namespace bench::checkpoint
