#pragma once

/// The door of io/: reading and writing files of tensors and of packed experts. Needs POSIX and nlohmann-json.

#include "io/dtype.hpp"
#include "io/file_bytes.hpp"
#include "io/packed_file.hpp"
#include "io/peft.hpp"
#include "io/safetensors.hpp"
#include "io/safetensors_header.hpp"
#include "io/safetensors_writer.hpp"
#include "io/tensor_view.hpp"
