#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <moe/config.hpp>

namespace moe::inline MOE_ABI {
class Checkpoint;
}

namespace inspect {

/// One layer, packed as it is stored, under so many tokens at once.
struct MeasuredSpeed {
    std::size_t tokens = 0;
    double seconds = 0;  ///< the median of several calls with different tokens
};

struct MeasuredLayer {
    std::size_t layer = 0;
    std::size_t threads = 1;
    std::string kernel;  ///< of the experts
    double packing_seconds = 0;
    double bytes = 0;  ///< of the packed experts
    double cache = 0;  ///< bytes of the largest cache; 0 where it is not known
    std::vector<MeasuredSpeed> speeds;
};

/// Packs the layer and times it on random tokens, half a second each number of them. Throws moe::Error(capacity) where
/// it would not fit in memory, and for a layer that cannot be packed.
[[nodiscard]] MeasuredLayer measure_layer(const moe::Checkpoint& checkpoint, std::size_t layer,
                                          std::span<const std::size_t> tokens, std::size_t threads);

}  // namespace inspect
