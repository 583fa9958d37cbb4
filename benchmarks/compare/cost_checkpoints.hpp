#pragma once

#include <span>
#include <string_view>

#include <moe/stats/cost.hpp>

namespace compare {

/// A published model as a whole: its layers with experts, and what it has besides.
struct Checkpoint {
    std::string_view name;
    moe::ExpertSizes sizes;
    moe::OtherParameters others;  ///< attention, dense layers, norms, embeddings
};

/// From the config.json of each: the language model alone, without an encoder of images and without layers that predict
/// further tokens. The embedding of the input, of which a token reads one row, is active where the publisher counts it
/// (Mixtral's 12.9 B, Qwen3's 3.3 B) and is not where it doesn't (DeepSeek's 37 B, gpt-oss' 3.6 B).
[[nodiscard]] std::span<const Checkpoint> checkpoints() noexcept;

/// Null where none has layers of these sizes; the number of layers, gates and biases are not compared.
[[nodiscard]] const Checkpoint* find_checkpoint(const moe::ExpertSizes& layer) noexcept;

/// Whether two layers have experts of the same number and sizes.
[[nodiscard]] bool same_experts(const moe::ExpertSizes& a, const moe::ExpertSizes& b) noexcept;

}  // namespace compare
