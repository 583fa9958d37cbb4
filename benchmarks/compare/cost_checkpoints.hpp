#pragma once

#include <span>
#include <string_view>

#include <moe/stats/cost.hpp>

namespace compare {

/// A published model as a whole: its layers with experts, and what it has besides.
struct Checkpoint {
    std::string_view name;
    std::string_view also;  ///< presets, shapes and other spellings that mean this model, with spaces between them
    moe::ExpertSizes sizes;
    moe::OtherParameters others;  ///< attention, dense layers, norms, embeddings
};

/// From the config.json of each: the language model alone, without an encoder of images and without layers that predict
/// further tokens. The embedding of the input, of which a token reads one row, is active where the publisher counts it
/// (Mixtral's 12.9 B, Qwen3's 3.3 B) and is not where it doesn't (DeepSeek's 37 B, gpt-oss' 3.6 B).
[[nodiscard]] std::span<const Checkpoint> checkpoints() noexcept;

/// The checkpoint that `name` means, if it has experts of the number and sizes of `layer`, else null. Both are
/// compared: different models may have the same experts, and a preset that keeps its name may get other sizes.
[[nodiscard]] const Checkpoint* find_checkpoint(std::string_view name, const moe::ExpertSizes& layer);

}  // namespace compare
