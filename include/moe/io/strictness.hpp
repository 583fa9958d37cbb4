#pragma once

#include "../config.hpp"

namespace moe::inline MOE_ABI {

/// How much of what a format of files forbids, or does not mention, is let pass.
enum class Strictness {
    strict,   ///< the tensors cover the data exactly, and what describes them has the known fields only
    lenient,  ///< bytes after the last tensor and unknown fields are ignored; published files exist that need it
};

}  // namespace moe::inline MOE_ABI
