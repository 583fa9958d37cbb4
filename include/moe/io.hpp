#pragma once

/// The door of io/: reading and writing files of tensors and of packed experts, and layers of published models. Needs
/// POSIX and nlohmann-json.

#include "io/checkpoint/checkpoint.hpp"
#include "io/dtype.hpp"
#include "io/expert_ranges.hpp"
#include "io/expert_residency.hpp"
#include "io/file_bytes.hpp"
#include "io/gguf_file.hpp"
#include "io/gguf_shards.hpp"
#include "io/gguf_tensor.hpp"
#include "io/gguf_value.hpp"
#include "io/gguf_writer.hpp"
#include "io/packed_file.hpp"
#include "io/pages.hpp"
#include "io/peft.hpp"
#include "io/safetensors.hpp"
#include "io/safetensors_header.hpp"
#include "io/safetensors_writer.hpp"
#include "io/strictness.hpp"
#include "io/tensor_view.hpp"
