#pragma once

#include <moe/io.hpp>

#include "../generate/config.hpp"
#include "trainer.hpp"

namespace trainer {

/// All that a training depends on beside its text.
struct Run {
    Config config;
    Settings settings;
};

/// The default: what ends below the best n-gram on the text of this repository within minutes.
[[nodiscard]] Run default_run();

/// Sets what follows from d_model, the length of a sequence and the number of steps: heads of at most 32, two for each
/// head of keys and values; positions; a tenth of the steps, 100 at most, to warm up. Throws moe::Error(range) for
/// sizes that do not fit together.
void complete(Run& run);

/// As metadata of a safetensors file.
[[nodiscard]] moe::SafetensorsMetadata to_metadata(const Run& run);

/// Throws moe::Error(missing, syntax) for what to_metadata did not write; `path` is what errors call the file.
[[nodiscard]] Run from_metadata(const moe::SafetensorsMetadata& metadata, const std::string& path);

}  // namespace trainer
