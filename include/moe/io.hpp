#pragma once

/// The door of io/: reading and writing files of tensors. No dependency but POSIX.

#include "io/dtype.hpp"
#include "io/file_bytes.hpp"
#include "io/safetensors.hpp"
#include "io/safetensors_parser.hpp"
#include "io/safetensors_writer.hpp"
#include "io/tensor_view.hpp"
