#pragma once

#include <string>

#include "lora.hpp"

namespace trainer {

// An adapter as PEFT (0.19 or newer) has it in a folder, each file all or nothing:
//   adapter_model.safetensors   lora_A and lora_B of the two expert tensors of each layer
//   adapter_config.json         rank, alpha, and the tensors they are for

/// Whether `directory` holds an adapter.
[[nodiscard]] bool has_adapter(const std::string& directory);

/// `base` is what the adapter says it belongs to. Throws moe::Error(file).
void write_adapter(const std::string& directory, const LoraRouting<float>& routing, const Config& config,
                   const std::string& base);

}  // namespace trainer
