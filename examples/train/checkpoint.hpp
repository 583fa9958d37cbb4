#pragma once

#include <cstdint>
#include <string>

#include "run.hpp"

namespace trainer {

// What a training keeps in its folder, each file all or nothing (written beside, then renamed):
//   training.safetensors   weights and moments of AdamW in float, steps done, settings: all that --resume needs
//   model.safetensors      the weights in bfloat16, named as in the files of Hugging Face transformers: for the demo
//   config.json            the architecture, for the demo

/// Whether `directory` holds a training.
[[nodiscard]] bool has_training(const std::string& directory);

/// Throws moe::Error(file).
template <class T>
void save_training(const std::string& directory, const Model<T>& model, const Run& run, std::uint64_t steps_done);

/// The settings of the training that `directory` holds. Throws moe::Error: missing or damaged.
[[nodiscard]] Run read_run(const std::string& directory);

/// Its weights and moments into `model`, which stays as it is where a tensor is missing or has another shape. Returns
/// the steps done.
template <class T>
[[nodiscard]] std::uint64_t load_training(const std::string& directory, Model<T>& model);

/// What the demo runs.
void save_model(const std::string& directory, const Model<float>& model);

}  // namespace trainer
