#pragma once

#include "../config.hpp"

namespace moe::inline MOE_ABI {

/// How a checkpoint joins the gate and up projections of an expert.
enum class JoinedAs : unsigned char { separate, concatenated, interleaved };

/// How a checkpoint stores experts.
struct StorageOrder {
    JoinedAs gate_up = JoinedAs::separate;
    bool up_input_major = false;    ///< gate and up stored (input, output)
    bool down_input_major = false;  ///< down stored (input, output)

    friend constexpr bool operator==(const StorageOrder&, const StorageOrder&) = default;
};

/// How the file that was published stores them, which need not be how a program holds them in memory.
struct PublishedStorage {
    bool known = false;
    StorageOrder experts{};
    StorageOrder shared{};
};

}  // namespace moe::inline MOE_ABI
